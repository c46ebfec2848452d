"""The course of a training: sampled accuracy at equal prompts, completions or tokens, and the area under it.

A course is a list of points (amount used, sampled accuracy of the step), by amount; a step's accuracy is noisy, so the accuracy at an
amount is the mean of the points in the last tenth before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Course = Sequence[tuple[float, float]]
COLUMNS = {"prompts": (0,), "completions": (1,), "tokens": (2, 3)}
"""Columns of a cell's curve that count an amount; tokens are the sampled and the trained ones."""
WINDOW = 0.1
"""Part of the amount that is averaged over."""


def course(curve: Sequence[Sequence[float | None]], amount: str) -> list[tuple[float, float]]:
    """Return (amount, accuracy) of a cell's curve for one of COLUMNS; steps without an accuracy are left out."""
    points = [(math.fsum(row[column] or 0.0 for column in COLUMNS[amount]), row[4]) for row in curve]
    return sorted((x, y) for x, y in points if y is not None and math.isfinite(y))


def accuracy_at(points: Course, amount: float) -> float | None:
    """Return the mean accuracy of the points in the last tenth before `amount`; None if the course has none there."""
    found = [y for x, y in points if amount * (1 - WINDOW) <= x <= amount * (1 + 1e-9)]
    return math.fsum(found) / len(found) if found else None


def area(points: Course, amount: float) -> float | None:
    """Return the mean accuracy up to `amount`, by trapezia, the first accuracy held before the first point; None if it ends earlier.

    It is the area under the course over its width, so it has the unit of an accuracy.
    """
    if not points or points[-1][0] < amount * (1 - WINDOW) or amount <= 0:
        return None
    known = [(0.0, points[0][1]), *points]
    total = 0.0
    for (a, left), (b, right) in zip(known, known[1:], strict=False):
        if a >= amount:
            break
        if b > amount:
            b, right = amount, left + (right - left) * (amount - a) / (b - a)
        total += (b - a) * (left + right) / 2
    return total / min(amount, known[-1][0]) if known[-1][0] else None
