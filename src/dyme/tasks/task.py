"""What a task is: where its samples come from, how its answers are judged, and how it introduces itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dyme.config import TaskConfig
from dyme.types import Sample

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One entry of TASKS."""

    name: str
    summary: str
    """One line for `dyme tasks`."""
    metric: str
    """One line: how an answer is judged."""
    tolerance: float
    """Relative tolerance of numeric answers unless the recipe sets task.tolerance."""
    load: Callable[[TaskConfig, Split], list[Sample]]
    """Samples of a split; raises DataError before any long work for rows that cannot be used."""
