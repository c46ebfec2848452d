"""The protocols of the helpers of visual supervision (paper, section 3.3): each is a local helper or an LLM behind an endpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dyme.types import Assessment, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How to write a trace: one that was graded high, with its facts and results made into slots."""

    text: str
    kind: str = ""
    """Question type that it was written for (`Sample.kind`); "" fits any."""
    score: float = 0.0
    """Quality of the trace it came from, in [0, 1]."""


class Checker(Protocol):
    """Grades the traces of an explored group."""

    def check(self, sample: Sample, traces: Sequence[str]) -> list[Assessment]:
        """Return one assessment per trace, in order, of how far `sample.facts` and `sample.answer` bear it out.

        Raises SupervisionError if there is none for any of them: a group is assessed as a whole or not at all.
        """
        ...


class Refiner(Protocol):
    """Writes the trace that a memorizing prompt imitates."""

    def refine(self, sample: Sample, template: Template | None) -> str:
        """Thinking without marker and answer, grounded in `sample.facts`. Raises SupervisionError if none can be written."""
        ...
