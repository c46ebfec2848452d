"""What a task is: where its samples come from, how its answers are judged, and how it introduces itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dyme.config import TaskConfig
from dyme.data.layouts import Split
from dyme.data.published import Published
from dyme.types import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One entry of TASKS."""

    name: str
    summary: str
    """One line for `dyme tasks`."""
    metric: str
    """One line: how an answer is judged."""
    tolerance: float
    """Relative tolerance of answers of kind auto unless the recipe sets task.tolerance, which is for the other kinds too."""
    load: Callable[[TaskConfig, Split], list[Sample]]
    """Samples of a split; raises DataError before any long work for rows that cannot be used."""
    status: str
    """One line: on which data it was tested here."""
    published: Published | None = None
    """How its published data set is read; None: it draws its own."""
