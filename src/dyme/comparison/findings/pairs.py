"""Two arms at the same seeds: the difference of their accuracies with its tests and intervals, at equal cost, and by stratum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dyme.comparison.findings.folder import ACCURACY, Row
from dyme.comparison.statistics import courses
from dyme.comparison.statistics.paired import above_in_pairs, equivalence, interquartile_mean, paired_t, sign_flip
from dyme.comparison.statistics.resampling import Floats, over_seeds, two_way

MARGIN = 0.01
"""Accuracy within which two methods count as equal: one point."""
Cells = Mapping[int, Row]


def accuracy(cell: Row) -> float:
    """Return a cell's accuracy when asked to think."""
    return float(cell["metrics"][ACCURACY]["value"])


def contrast(ours: Cells, theirs: Cells, margin: float = MARGIN) -> dict[str, Any] | None:
    """Return everything about the difference of two arms at the seeds that both have, in accuracy (0.01 is a point); None without seeds."""
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds:
        return None
    a, b = [accuracy(ours[s]) for s in seeds], [accuracy(theirs[s]) for s in seeds]
    differences = [x - y for x, y in zip(a, b, strict=True)]
    test = paired_t(differences)
    low, high = _interval(ours, theirs, seeds, differences)
    better = over_seeds(len(seeds), lambda k: above_in_pairs([a[i] for i in k], [b[i] for i in k]), draws=1000) if len(seeds) > 1 else None
    return {
        "seeds": seeds, "differences": differences, "mean": sum(differences) / len(seeds), "low": low, "high": high,
        "t": test.t if test else None, "freedom": test.freedom if test else None, "p": test.p if test else None,
        "p_sign_flip": sign_flip(differences) if len(seeds) > 1 else None,
        "p_equal": equivalence(differences, margin), "margin": margin,
        "interquartile": interquartile_mean(differences),
        "above": {"value": above_in_pairs(a, b), "low": better[0] if better else None, "high": better[1] if better else None},
        "at_equal": {amount: found for amount in courses.COLUMNS if (found := at_equal(ours, theirs, seeds, amount))},
        "strata": strata(ours, theirs, seeds),
    }  # fmt: skip


def _interval(ours: Cells, theirs: Cells, seeds: Sequence[int], differences: Sequence[float]) -> tuple[float | None, float | None]:
    """Return the two-way bootstrap's interval, or, where items were not kept, that of the t test."""
    items = [(ours[s].get("items", {}).get("think", ""), theirs[s].get("items", {}).get("think", "")) for s in seeds]
    if len({len(text) for pair in items for text in pair}) == 1 and items[0][0]:
        return two_way([_digits(x) - _digits(y) for x, y in items], clusters=ours[seeds[0]].get("pictures") or ())
    test = paired_t(differences)
    return (test.low, test.high) if test else (None, None)


def _digits(text: str) -> Floats:
    return np.frombuffer(text.encode(), dtype=np.uint8).astype(float) - ord("0")


def at_equal(ours: Cells, theirs: Cells, seeds: Sequence[int], amount: str) -> dict[str, Any] | None:
    """Return the mean difference of sampled accuracy where both have used as much as the cheaper run of a seed did in all.

    `area` is the difference of the mean accuracies up to there. None if either arm has no sampled accuracy (it never rolls out then).
    """
    ends: list[float] = []
    areas: list[float] = []
    used: list[float] = []
    for seed in seeds:
        a, b = (courses.course(cells[seed].get("curve", ()), amount) for cells in (ours, theirs))
        if not a or not b:
            return None
        cost = min(a[-1][0], b[-1][0])
        pairs = [(courses.accuracy_at(a, cost), courses.accuracy_at(b, cost)), (courses.area(a, cost), courses.area(b, cost))]
        for out, (x, y) in zip((ends, areas), pairs, strict=True):
            if x is None or y is None:
                return None
            out.append(x - y)
        used.append(cost)
    return {"used": sum(used) / len(used), **_mean(ends), "area": _mean(areas)}


def strata(ours: Cells, theirs: Cells, seeds: Sequence[int]) -> dict[str, Any]:
    """Return the mean difference by question type, with the interval over seeds, and the differences of each seed."""
    out = {}
    for kind in dict.fromkeys(kind for s in seeds for kind in ours[s].get("by_kind", {})):
        found = [
            {"seed": s, "difference": ours[s]["by_kind"][kind][ACCURACY]["value"] - theirs[s]["by_kind"][kind][ACCURACY]["value"]}
            for s in seeds
            if all(ACCURACY in cells[s].get("by_kind", {}).get(kind, {}) for cells in (ours, theirs))
        ]
        if found:
            out[kind] = _mean([one["difference"] for one in found]) | {"each": found}
    return out


def _mean(values: Sequence[float]) -> dict[str, Any]:
    """Return the mean over seeds and its t interval."""
    test = paired_t(values)
    return {"mean": sum(values) / len(values), "low": test.low if test else None, "high": test.high if test else None}
