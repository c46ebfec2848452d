"""Ask a model one question, and read its answer while it is written: the same prompt, tokens and verdict as in an evaluation."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue

import torch

from dyme.config import Config
from dyme.errors import DataError, ModelError
from dyme.evaluation.run import judged
from dyme.model.checks import check_pictures, check_placeholders
from dyme.model.policy import Policy
from dyme.model.tree import Prompt
from dyme.pictures import ImageSource
from dyme.rollout import hf
from dyme.types import Completion, Fact, PromptStyle, Sample
from dyme.verify.format import parse
from dyme.verify.rules import Rules
from dyme.verify.verifier import FAILED

PAUSE = 0.08
"""Least time between two looks at an unfinished text, in seconds."""
TYPED = "your question"
"""Id of a sample that was typed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model that the page asks, under the name that the page shows."""

    name: str
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """What the page shows: one or two models, samples to choose from, and the settings by which models are asked and judged."""

    models: tuple[Model, ...]
    config: Config
    samples: Sequence[Sample]
    rules: Rules
    source: str
    """Where the samples come from, for the page: task and split."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question about a picture; `known`: its right answer is known, and is the sample's."""

    sample: Sample
    known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A completion as far as it is written, and, once it is whole, its answer and verdict."""

    style: PromptStyle
    text: str
    whole: bool = False
    thinking: str = ""
    answer: str | None = None
    """The answer that the task's rules find in the text; None: none yet, or none at all."""
    right: bool | None = None
    """Whether the answer is right; None: no right answer is known, or the verifier failed."""
    reason: str = ""
    """Reason why it is not right."""


def question_of(
    typed: str, reference: str, pictures: tuple[ImageSource, ...], facts: tuple[Fact, ...], chosen: Sample | None
) -> Asked:  # fmt: skip
    """Return the question that the page asks: the `chosen` sample, unless its question, answer or pictures were changed, else a new one.

    `reference` is the right answer, "" if it is not known. Raises DataError for an empty question.
    """
    if not typed.strip():
        raise DataError("the question is empty; type one, or choose a sample")
    if chosen is not None and (typed, reference, pictures) == (chosen.question, chosen.answer, chosen.images):
        return Asked(sample=replace(chosen, facts=facts), known=True)
    sample = Sample(id=TYPED, question=typed.strip(), answer=reference.strip(), images=pictures, facts=facts)
    return Asked(sample=sample, known=bool(reference.strip()))


def encoded(policy: Policy, sample: Sample, instruction: str, config: Config) -> Prompt:
    """Return the prompt of a sample. Raises DataError if the model cannot read it, or has no room for it and an answer."""
    check_pictures(policy, [sample])
    check_placeholders(policy, [sample])
    prompt = policy.encode(sample, instruction)
    limit = getattr(policy.model.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize
    size, room = len(prompt.token_ids), config.rollout.max_completion_length
    if size + room > limit:
        raise DataError(
            f"picture and question take {size:,} tokens, the answer up to {room:,}, and the model reads {limit:,}; shorten the question"
        )
    return prompt


def answers(play: Play, model: Model, asked: Asked, style: PromptStyle) -> Iterator[Answered]:
    """Yield a model's greedy answer as it is written; the last one is whole, and is that of `dyme eval`."""
    task = play.config.task
    instruction = task.think_prompt if style == "think" else task.direct_prompt
    prompt = encoded(model.policy, asked.sample, instruction, play.config)
    for text in written(model.policy, prompt, play.config):
        yield _answered(asked, style, text, play.rules) if isinstance(text, Completion) else Answered(style=style, text=text)


def written(policy: Policy, prompt: Prompt, config: Config) -> Iterator[str | Completion]:
    """Yield the text of a greedy completion as it grows, then the completion.

    The model runs in a thread, which ends with this generator. Raises what the model raises, ModelError if memory runs out.
    """
    news: SimpleQueue[str | Completion | Exception] = SimpleQueue()
    closed = threading.Event()
    tokens: list[int] = []
    shown = time.monotonic()

    def see(found: Mapping[int, int]) -> None:
        nonlocal shown
        if closed.is_set():
            raise InterruptedError
        tokens.append(found[0])
        if time.monotonic() - shown >= PAUSE:
            shown = time.monotonic()
            news.put(policy.decode(tokens).strip().rstrip("\ufffd"))  # the beginning of a character of several tokens

    def work() -> None:
        try:
            [[completion]] = hf.sample(policy, [prompt], [0], config.rollout, greedy=True, see=see)
            news.put(completion)
        except Exception as error:
            news.put(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while not isinstance(found := news.get(), Completion):
            if isinstance(found, torch.OutOfMemoryError):
                raise ModelError("the device is out of memory; ask with a smaller picture or a shorter question") from found
            if isinstance(found, Exception):
                raise found
            yield found
        yield found
    finally:
        closed.set()
        thread.join()


def _answered(asked: Asked, style: PromptStyle, completion: Completion, rules: Rules) -> Answered:
    """Return a whole completion with its answer, and its verdict if the right answer is known."""
    found = parse(completion.text, marker=rules.marker, min_thinking_words=rules.reward.min_thinking_words)
    thinking = found.thinking if style == "think" else ""
    if asked.known:
        item = judged(0, asked.sample, completion, style, rules)
        right = None if item.reason.startswith(FAILED) else item.correct
        return Answered(
            style=style, text=completion.text, whole=True, thinking=thinking, answer=item.answer, right=right, reason=item.reason
        )
    direct = completion.text.strip().removeprefix(rules.marker).strip()
    answer = (found.answer if style == "think" else direct) if completion.finished else None
    reason = "cut off" if not completion.finished else found.reason if style == "think" else ""
    return Answered(style=style, text=completion.text, whole=True, thinking=thinking, answer=answer, reason=reason)
