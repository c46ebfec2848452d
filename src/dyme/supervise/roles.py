"""The protocols of the helpers of visual supervision (paper, section 3.3): local helpers or an LLM behind an endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dyme.types import Assessment, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A pattern for traces: a trace that was graded high, with slots in place of its facts and results."""

    text: str
    kind: str = ""
    """Question type of the trace (`Sample.kind`); "" fits any."""
    score: float = 0.0
    """Quality of the trace, in [0, 1]."""


class Checker(Protocol):
    """Grades the traces of an explored group."""

    def check(self, sample: Sample, traces: Sequence[str]) -> list[Assessment]:
        """Return one assessment per trace, in order: how far `sample.facts` and `sample.answer` support it.

        Raises SupervisionError if one is missing: a group is assessed as a whole or not at all.
        """
        ...


class Refiner(Protocol):
    """Writes the trace that a memorizing prompt imitates."""

    def refine(self, sample: Sample, template: Template | None) -> str:
        """Return thinking without marker and answer, grounded in `sample.facts`. Raises SupervisionError if none can be written."""
        ...
