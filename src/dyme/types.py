"""The nouns of the project, free of torch: what a stage hands to the next one.

A task yields `Sample`s; a rollout turns each into a `Group` of K `Completion`s; verification attaches one `Verdict` per
completion; a method answers with a `Route`, whose `Branch`es are what the update trains on; each step leaves a `StepRecord`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dyme.errors import DataError, quoted
from dyme.pictures import ImageSource, sources_of

Mode = Literal["memorize", "explore", "mixed", "skip"]
Term = Literal["policy", "imitate"]
AnswerKind = Literal["auto", "number", "text", "yes_no", "choice", "letter", "list", "math", "open", "vqa"]
"""How an answer is compared; auto: as a number or a list of numbers and texts, whichever it is."""
Level = Literal["low", "medium", "high"]
PromptStyle = Literal["think", "direct"]
NO_VALUE = "no value for a completion"
"""Why a user's reward counts for none of a group's completions, where its function returned None for one of them."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One visual fact of an image (paper, section 3.3): `subject` has `value`, e.g. ("fig", "82")."""

    subject: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One question about zero or more images, with what is known about it. Lists are taken as tuples."""

    id: str
    question: str
    answer: str
    images: tuple[ImageSource, ...] = ()
    """A PIL image, a numpy array, the bytes of a picture or a file's path becomes a source (`pictures.sources_of`), one alone or in a
    list."""
    rationale: str | None = None
    """Reference thinking trace, without the answer marker; None if the data has none."""
    facts: tuple[Fact, ...] = ()
    kind: str = ""
    """Question type, for breakdowns."""
    answer_kind: AnswerKind = "auto"
    """Which verifier compares its answers (`verify/answers/`)."""
    answers: tuple[str, ...] = ()
    """All annotators' answers where there are several (A-OKVQA's ten), with repeats; `answer` is the commonest."""
    choices: tuple[str, ...] = ()
    """Options of a multiple-choice question, without their letters; `answer` is then the letter, and the question shows both."""
    unit: str = ""
    """Unit that an answer may carry."""
    prompt: str | tuple[Mapping[str, Any], ...] | None = None
    """The whole prompt, in place of question and instruction: messages for the model's chat template ({"role", "content"}; an image stands
    where a part of type "image" does, else before the first user message's text), or plain text that no template touches. None: the
    question and the recipe's instruction make the prompt."""

    def __post_init__(self) -> None:
        """Take pictures as sources, and lists as tuples. Raises DataError for what is no picture."""
        if not isinstance(self.images, tuple) or self.images:
            try:
                object.__setattr__(self, "images", sources_of(self.images))
            except DataError as error:
                raise DataError(f"sample {quoted(self.id)}: {error}") from error
        for name in ("facts", "answers", "choices"):
            if isinstance(value := getattr(self, name), list):
                object.__setattr__(self, name, tuple(value))
        if isinstance(self.prompt, list):
            object.__setattr__(self, "prompt", tuple(self.prompt))

    @property
    def answer_text(self) -> str:
        """The answer in words, as a trace leads to it: the text of the choice that a letter names, else `answer`."""
        index = ord(self.answer) - ord("A") if len(self.answer) == 1 else -1
        return self.choices[index] if 0 <= index < len(self.choices) else self.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One sampled answer: `token_ids` include the end token if `finished`; `logprobs` are those of the sampling policy."""

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    finished: bool = True


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a verifier says of one answer: binary, for the switch and the reward, and by the task's published metric."""

    correct: bool
    score: float
    """In [0, 1]; `correct` as a number unless the metric is soft (recall of open answers, soft VQA accuracy) or too kind (a year off)."""
    reason: str = ""
    """Why an answer is wrong, where that is not plain: it took too long to compare, or is too long."""
    failed: bool = False
    """Whether the verifier itself failed, so that nothing is known of the answer; `reason` says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the rules say of one completion. `correct` is binary and alone drives the switch; `reward` is shaped."""

    parsed: bool
    correct: bool
    answer: str | None
    thinking: str
    rewards: Mapping[str, float] = field(default_factory=dict)
    """Named reward parts before weighting: accuracy, format, thinking, and the user's own."""
    reward: float = 0.0
    reason: str = ""
    score: float = 0.0
    """The task's metric, in [0, 1] (`Judgement`)."""
    failed: bool = False
    """Whether the verifier itself failed, so that `correct` says nothing; `reason` says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What a checker says of one thinking trace (paper, section 3.3)."""

    level: Level
    score: float
    """In [0, 1]; a judge that only grades gives 0, 0.5 and 1."""
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A prompt's K completions and their verdicts; both empty for a method that does not roll out."""

    sample: Sample
    completions: tuple[Completion, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    assessments: tuple[Assessment | None, ...] = ()
    """A checker's, one per completion, None for those that may not earn its reward; empty for a group that was not checked."""
    target: str | None = None
    """The thinking that a refiner wrote for this prompt's target; None: the sample's own."""
    trouble: str = ""
    """Why a helper gave nothing for this group, or gave way to a local one."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Rewards of the user's that do not count for this group, each with its reason: no value, or how its function failed."""

    @property
    def solved(self) -> int:
        """Number of correct completions."""
        return sum(v.correct for v in self.verdicts)

    @property
    def judged(self) -> bool:
        """Whether the verifier had something to say of each completion."""
        return not any(v.failed for v in self.verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A function f(p) of the probability p that the policy, as it is at the update, gives to a token."""

    of: Callable[[Any], Any]
    """f: from a tensor of probabilities to one of as many numbers, by arithmetic alone, e.g. `lambda p: p * (1 - p)`."""
    through: bool = False
    """False: f(p) is a factor of the token's loss and has no gradient of its own (CHORD's phi). True: the token's loss is
    -advantage x f(p), with the gradient through f (LUFFY): the probability itself, neither clipped nor divided by that of the sampler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One answer to train on. `completion` is its index in the group; None is the target y* (trace and answer)."""

    term: Term
    completion: int | None = None
    advantage: float | None = None
    """Of a completion that is explored; None: its reward's within the group (Eq. 2), which `settle` computes once all rewards are there."""
    weight: float = 1.0
    shape: Shape | None = None
    """How much each of its tokens counts, by its probability; None: all alike."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a prompt does at this step, and why."""

    mode: Mode
    branches: tuple[Branch, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """Figures of one optimizer step, as written to the run folder and shown live."""

    step: int
    prompts: int
    epoch: float
    seconds: float
    metrics: Mapping[str, float]
