"""The target y* that a memorizing prompt imitates: thinking trace, marker, answer (paper, Eq. 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dyme.config import Config
from dyme.errors import DataError
from dyme.methods import Stage
from dyme.types import Completion, Fact, Group, Sample

MOST_FACTS = 5
"""Facts that stand in for a missing rationale, at most; OCR can find a hundred in a chart."""


def target_text(sample: Sample, marker: str, thinking: str | None = None) -> str:
    """A refiner's `thinking`, else the reference trace, else the facts in words, else nothing; then the marker and the answer.

    Without a marker the trace is the whole target, and the answer that of a sample without one.
    """
    thinking = thinking_of(sample) if thinking is None else thinking
    if not marker:
        return thinking or sample.answer
    return f"{thinking} {marker} {sample.answer}".strip()


def thinking_of(sample: Sample) -> str:
    """The thinking part of a target, or ""; of many facts only the first."""
    if sample.rationale:
        return sample.rationale.strip()
    return f"Observation: {in_words(sample.facts[:MOST_FACTS])}" if sample.facts else ""


def in_words(facts: Sequence[Fact]) -> str:
    """ "fig 82, oat 13." """
    return ", ".join(f"{f.subject} {f.value}" for f in facts) + "."


def as_completion(group: Group, config: Config) -> Group:
    """The target of a group as the only completion of another, for the verifier: not even a reference trace is right unless it says so."""
    text = target_text(group.sample, config.task.marker, group.target)
    return Group(sample=group.sample, completions=(Completion(text=text, token_ids=()),))


def check_rationales(samples: Sequence[Sample], marker: str) -> None:
    """Raise DataError if a rationale holds the marker: the target would then have two answers."""
    for sample in samples:
        if marker and sample.rationale and marker in sample.rationale:
            raise DataError(f"{sample.id}: the rationale contains {marker!r}; leave the answer out of it or choose another task.marker")


def warning(samples: Sequence[Sample], stages: Sequence[Stage[Any]], refiner: str = "off") -> str | None:
    """One line about what is imitated, or that no hint is given, where rows have no rationale, else None.

    `stages` are the method's; `refiner` is the recipe's (off, local, llm).
    """
    bare = [s for s in samples if not s.rationale]
    if bare and not any(stage.imitates for stage in stages):
        hints = any(stage.redraw and stage.reads_traces for stage in stages)
        return f"{len(bare)} of {len(samples)} rows have no rationale: no hint is taken from them" if hints else None
    if not bare:
        return None
    empty = sum(not s.facts for s in bare)
    writer = "their target is" if refiner == "off" else f"the {refiner} refiner writes their target; where it cannot, it is"
    return f"{len(bare)} of {len(samples)} rows have no rationale: {writer} their facts in words and the answer" + (
        f"; {empty} have no facts either: their target is the bare answer, which teaches no thinking" if empty else ""
    )
