"""The data classes that one part of a step hands to the next, free of torch.

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
"""How an answer is compared; auto: as a number, as a list of numbers and texts, or as a text, by what the gold answer is."""
Level = Literal["low", "medium", "high"]
PromptStyle = Literal["think", "direct"]
NO_VALUE = "no value for a completion"
"""Reason why a user's reward counts for no completion of a group: its function returned None for one of them."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One visual fact of an image (paper, section 3.3): `subject` has `value`, e.g. ("fig", "82")."""

    subject: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One question about zero or more images, with its answer, rationale and facts. Lists are converted to tuples."""

    id: str
    question: str
    answer: str
    images: tuple[ImageSource, ...] = ()
    """Pictures: give a PIL image, a numpy array, the bytes of a picture or a file's path, or a list of these; `pictures.sources_of`
    converts each of them."""
    rationale: str | None = None
    """Reference thinking trace, without the answer marker; None if the data has none."""
    facts: tuple[Fact, ...] = ()
    kind: str = ""
    """Question type, by which evaluations are broken down."""
    answer_kind: AnswerKind = "auto"
    """Kind of the answer, which selects the verifier (`verify/answers/`)."""
    answers: tuple[str, ...] = ()
    """The answers of all annotators if there are several (A-OKVQA: ten), with repeats; `answer` is the most frequent."""
    choices: tuple[str, ...] = ()
    """Options of a multiple-choice question, without letters; `answer` is then a letter, and the question shows letters and options."""
    unit: str = ""
    """Unit that an answer may carry."""
    prompt: str | tuple[Mapping[str, Any], ...] | None = None
    """The whole prompt, in place of question and instruction: messages for the model's chat template ({"role", "content"}; images take the
    places of parts of type "image", else they precede the first user message's text), or plain text that is used without a template. None:
    the prompt is the question and the recipe's instruction."""

    def __post_init__(self) -> None:
        """Convert pictures to sources and lists to tuples. Raises DataError for an object that is no picture."""
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
        """Return the answer in words: the text of the choice that a letter names, else `answer`."""
        index = ord(self.answer) - ord("A") if len(self.answer) == 1 else -1
        return self.choices[index] if 0 <= index < len(self.choices) else self.answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """One sampled text: `token_ids` include the end token if `finished`; `logprobs` are the sampling policy's log-probabilities (nats),
    none for greedy answers.
    """

    text: str
    """With a prefix, the text of prefix and sampled tokens."""
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    finished: bool = True
    prefix_ids: tuple[int, ...] = ()
    """Tokens of the group's prefix, between the prompt and the sampled tokens: read, and not trained on."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verifier's result for one answer: `correct`, for the switch and the reward, and `score`, the task's published metric."""

    correct: bool
    score: float
    """In [0, 1]; equal to `correct` unless the metric is soft (recall of open answers, soft VQA accuracy) or more lenient (a year off)."""
    reason: str = ""
    """Reason why an answer is wrong, if that is not obvious: it took too long to compare, or it is too long."""
    failed: bool = False
    """Whether the verifier itself failed, so that the answer was not judged; `reason` says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The rules' result for one completion. `correct` is binary and alone drives the switch; `reward` is shaped."""

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
    """A checker's result for one thinking trace (paper, section 3.3)."""

    level: Level
    score: float
    """In [0, 1]; a checker that gives only levels has the scores 0, 0.5 and 1."""
    reason: str = ""
    flipped: bool = False
    """Whether the grade was turned into its opposite on purpose (`supervision.flip`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A text that the policy wrote as a target, with the facts and the answer in its prompt (`supervision.refiner = "self"`)."""

    text: str
    tokens: int = 0
    """Number of tokens that were sampled for it; 0 for a target that was accepted at an earlier step and is used again."""
    fault: Literal["", "format", "answer", "thinking"] = ""
    """The part for which the text was refused; "" for the target."""
    reason: str = ""
    """Reason why it was refused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A prompt's K completions and their verdicts; both empty for a method that does not roll out."""

    sample: Sample
    completions: tuple[Completion, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    assessments: tuple[Assessment | None, ...] = ()
    """The checker's results, one per completion: None for a completion that cannot earn the reward; empty for an unchecked group."""
    target: str | None = None
    """Thinking that a refiner wrote for this prompt's target; None: the sample's own rationale."""
    trust: float | None = None
    """The local checker's score of the target's thinking, in [0, 1], if a branch is `trusted`; 1 where nothing is known; None: no score."""
    drafts: tuple[Draft, ...] = ()
    """Texts that the policy wrote for this prompt's target; at most one of them is the target."""
    trouble: str = ""
    """Reason why a helper failed for this group, or was replaced by the local helper; empty if none failed."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """The user's rewards that do not count for this group, each with the reason: no value, or the failure of its function."""
    prefix: str = ""
    """Beginning of an answer that the completions continue, a hint; empty unless the method had the group drawn again (`Stage.redraw`)."""
    draws: tuple[Group, ...] = ()
    """The group's other draws, in order: those under no prefix or another one, which are not trained on."""

    @property
    def solved(self) -> int:
        """Return the number of correct completions."""
        return sum(v.correct for v in self.verdicts)

    @property
    def judged(self) -> bool:
        """Return whether the verifier judged each completion, without a failure."""
        return not any(v.failed for v in self.verdicts)

    @property
    def unaided(self) -> Group:
        """Return the draw under no prefix, the first one."""
        return next((draw for draw in self.draws if not draw.prefix), self) if self.prefix else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A function f(p) of the probability p of a token under the policy at the update."""

    of: Callable[[Any], Any]
    """f: takes a tensor of probabilities and returns a tensor of the same shape, by arithmetic alone, e.g. `lambda p: p * (1 - p)`."""
    through: bool = False
    """False: f(p) is a factor of the token's loss and has no gradient of its own (CHORD's phi). True: the token's loss is
    -advantage x f(p), with the gradient through f (LUFFY): the probability itself, neither clipped nor divided by that of the sampler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One answer to train on: the completion with the index `completion` in the group, or, if None, the target y* (trace and answer)."""

    term: Term
    completion: int | None = None
    advantage: float | None = None
    """Advantage in the policy term; None: `settle` computes it within the group (Eq. 2), once all rewards are known."""
    weight: float = 1.0
    shape: Shape | None = None
    """Factor of each token by its probability; None: all tokens count the same."""
    trusted: bool = False
    """Multiply the weight of a target by `Group.trust`, the local checker's score of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A method's decision about a prompt at this step: its mode, the branches to train on, and the reason."""

    mode: Mode
    branches: tuple[Branch, ...] = ()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """Figures of one optimizer step, as written to metrics.jsonl and shown live; `seconds` is the duration of the step."""

    step: int
    prompts: int
    epoch: float
    seconds: float
    metrics: Mapping[str, float]
