"""How a gain changes along something: the base's pass@K by stratum, or a numeric setting of the condition."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dyme.comparison.statistics.resampling import DRAWS, over_seeds


@dataclass(frozen=True, slots=True)
class Slope:
    """The change of the gain for one unit of x, its 95 % interval, and the number of seeds and of distinct x."""

    value: float
    low: float
    high: float
    seeds: int
    places: int


def logit(hits: float, n: float) -> float:
    """Return the log odds of `hits` of `n`, half a hit and half a miss added, so that 0 and n have a value (Haldane, 1956)."""
    return math.log((hits + 0.5) / (n - hits + 0.5))


def slope(points: Mapping[int, Sequence[tuple[float, float]]], *, draws: int = DRAWS) -> Slope | None:
    """Return the least-squares slope of the gain over x, from points (x, gain) of each seed, with a cluster bootstrap over seeds.

    Seeds are resampled whole (Cameron, Gelbach and Miller, 2008, section II), as gains at one seed share their training data and
    sampling. Returns None with fewer than two seeds or fewer than two distinct x.
    """
    seeds = sorted(seed for seed in points if points[seed])
    places = {x for seed in seeds for x, _ in points[seed]}
    sums = [_sums(points[seed]) for seed in seeds]
    if len(seeds) < 2 or (centre := _slope(sums)) is None:
        return None
    found = over_seeds(len(seeds), lambda chosen: _slope([sums[k] for k in chosen]), draws=draws, widen=True)
    return Slope(centre, *found, len(seeds), len(places)) if found else None


def _sums(points: Sequence[tuple[float, float]]) -> tuple[float, float, float, float, float]:
    """Return n and the sums of x, y, x^2 and x y."""
    return (
        float(len(points)),
        math.fsum(x for x, _ in points),
        math.fsum(y for _, y in points),
        math.fsum(x * x for x, _ in points),
        math.fsum(x * y for x, y in points),
    )


def _slope(sums: Sequence[tuple[float, ...]]) -> float | None:
    n, x, y, xx, xy = (math.fsum(column) for column in zip(*sums, strict=True))
    spread = xx - x * x / n
    return (xy - x * y / n) / spread if spread > 1e-9 * max(1.0, xx) else None
