"""What a task is: where its samples come from, how its answers are judged, and how it introduces itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dyme.config import TaskConfig
from dyme.tasks.published import Layout, Split
from dyme.types import Sample

__all__ = ["Normaliser", "Published", "Split", "Task"]

Normaliser = Callable[[Mapping[str, Any], str, TaskConfig], dict[str, Any]]
"""(a row in published fields, where it stands, settings) -> the row in the fields of `jsonl.py`; raises DataError that begins with
the place and says why, for a row that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """How a published data set becomes rows."""

    normalise: Normaliser
    layouts: tuple[Layout, ...] = ()
    """Folders that are understood beside the common ones (`published.ROWS`, and what the datasets library reads)."""
    configurations: Mapping[str, str] = field(default_factory=dict)
    """Hub ids that have several configurations -> the one that is meant."""
    pictures: bool = True
    """Whether each row must have a picture; without: none may have one."""
    direct: bool = False
    """Rows are used as they lie in a folder; nothing has to be prepared."""


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
