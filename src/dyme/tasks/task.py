"""What a task is: where its samples come from, how its answers are judged, and how it introduces itself."""

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
    """What there is to learn: an entry of TASKS, or a user's own, which needs no more than a name and `load`."""

    name: str
    load: Callable[[TaskConfig, Split], list[Sample]]
    """Samples of a split (none: []), read before any long work; raises DataError for rows that cannot be used."""
    summary: str = ""
    """One line for `dyme tasks`."""
    metric: str = "by answer kind"
    """One line: how an answer is judged."""
    tolerance: float = 0.0
    """Relative tolerance of answers of kind auto unless the recipe sets task.tolerance, which is for the other kinds too."""
    status: str = "your own"
    """One line: on which data it was tested here."""
    published: Published | None = None
    """How its published data set is read; None: it has none, and nothing is prepared."""
    verifier: Verifier | None = None
    """(prediction, sample) -> bool, float in [0, 1] or Judgement, in place of that of the samples' answer kinds (docs/rewards.md)."""
