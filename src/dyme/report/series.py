"""Totals of each step of a run, computed from its rollouts."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dyme.types import StepRecord

MODES = ("memorize", "explore", "mixed", "skip")


@dataclass
class StepTotals:
    """Sums over the groups of one step."""

    step: int
    modes: Counter[str] = field(default_factory=Counter)
    sums: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def groups(self) -> int:
        """Return the number of groups."""
        return self.modes.total()

    def add(self, row: Mapping[str, Any]) -> None:
        """Add one line of rollouts.jsonl; of a group that was drawn again, the draw without a hint counts for what is right."""
        self.modes[row["mode"]] += 1
        right, of = unaided(row)
        if of:
            self._put("any_right", right > 0)
            self.sums["accuracy"] += right
            self.counts["accuracy"] += of
        for c in row["completions"]:
            self._put("parsed", c["parsed"])
            self._put("tokens", c["tokens"])
            self._put("reward", c["reward"])
            for name, value in c["rewards"].items():
                self._put(f"reward/{name}", value)

    def mean(self, name: str) -> float:
        """Return the mean of a figure over this step; nan without values (a failed judge is not counted)."""
        return self.sums[name] / self.counts[name] if self.counts[name] else math.nan

    def share(self, mode: str) -> float:
        """Return the share of the groups in this mode, in [0, 1]."""
        return self.modes[mode] / self.groups if self.groups else math.nan

    def _put(self, name: str, value: float | None) -> None:
        if value is not None:
            self.sums[name] += value  # type: ignore[assignment]
            self.counts[name] += 1


def unaided(row: Mapping[str, Any]) -> tuple[int, int]:
    """Return (right, all): completions of a group; of one that was drawn again, those of the draw without a hint."""
    first = next((draw for draw in row.get("draws") or () if not draw["prefix"]), None)
    if first is not None:
        return first["correct"], first["completions"]
    return sum(c["correct"] for c in row["completions"]), len(row["completions"])


def totals(rows: Iterable[Mapping[str, Any]]) -> list[StepTotals]:
    """Return the totals of each step, in the order of steps."""
    steps: dict[int, StepTotals] = {}
    for row in rows:
        steps.setdefault(row["step"], StepTotals(row["step"])).add(row)
    return [steps[step] for step in sorted(steps)]


def prompts_seen(records: Sequence[StepRecord], steps: Sequence[StepTotals]) -> dict[int, float]:
    """Return the prompts seen by the end of each step: from the records, else by counting the groups."""
    counted = dict(zip((s.step for s in steps), itertools.accumulate(s.groups for s in steps), strict=True))
    return {**counted, **{r.step: r.prompts for r in records}}


def smooth(values: Sequence[float]) -> list[float]:
    """Return a centred moving average over about a twelfth of the run (shorter at the ends); nan values are skipped."""
    half = len(values) // 24
    windows = (values[max(0, k - half) : k + half + 1] for k in range(len(values)))
    return [mean(window) for window in windows]


def mean(values: Iterable[float]) -> float:
    """Return the mean of the finite values; nan without any."""
    finite = [v for v in values if math.isfinite(v)]
    return sum(finite) / len(finite) if finite else math.nan


def ends(values: Sequence[float]) -> tuple[float, float]:
    """Return the means over the first and over the last tenth of a run (at least one step each)."""
    tenth = max(1, len(values) // 10)
    return mean(values[:tenth]), mean(values[-tenth:])


def passed(rows: Iterable[dict[str, Any]], *readers: Callable[[dict[str, Any]], None]) -> Iterator[dict[str, Any]]:
    """Yield each row after every reader has had it, so that rollouts.jsonl is read once."""
    for row in rows:
        for read in readers:
            read(row)
        yield row


def duration(seconds: float) -> str:
    """Return a time in words: "2 h 05 min", "3.1 min"."""
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{seconds / 60:.1f} min"
