"""The type of a task: the source of its samples, the verifier of its answers, and its texts for `dyme tasks`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dyme.config import TaskConfig
from dyme.data.layouts import Split
from dyme.data.published import Published
from dyme.types import Sample
from dyme.verify.verifier import Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task: an entry of TASKS, or a user's task, which needs only a name and `load`."""

    name: str
    load: Callable[[TaskConfig, Split], list[Sample]]
    """Function that returns the samples of a split (or []); it runs before any long work and raises DataError for bad rows."""
    summary: str = ""
    """One line for `dyme tasks`."""
    metric: str = "by answer kind"
    """One line: how an answer is judged."""
    tolerance: float = 0.0
    """Relative tolerance for answer kind auto; the setting task.tolerance replaces it, and applies to the other kinds too."""
    status: str = "your own"
    """One line: on which data it was tested here."""
    published: Published | None = None
    """How the task's published data set is read; None: it has none, and `dyme prepare` refuses the task."""
    verifier: Verifier | None = None
    """Verifier (prediction, sample) -> bool, float in [0, 1] or Judgement, in place of those of the answer kinds (docs/rewards.md)."""
