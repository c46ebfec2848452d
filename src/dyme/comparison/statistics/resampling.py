"""Bootstrap over seeds, and over seeds and items together: the interval of a mean difference of paired trainings.

Percentiles of a bootstrap over few seeds are too narrow, as a mean of n values resampled has the variance s^2 (n - 1) / n^2 and normal
tails. So the seeds' deviations are widened by sqrt(n / (n - 1)) (Davison and Hinkley, 1997, section 2.3) and by the ratio of Student's
to the normal quantile with n - 1 degrees of freedom (as Korn and Graubard, 1998, do for few clusters). `benchmarks/coverage.py` measures
how often the intervals hold the truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dyme.comparison.statistics.student import quantile
from dyme.evaluation.metrics import Z95

Floats = NDArray[np.float64]
DRAWS = 4000
"""Resamples of a bootstrap; an end of an interval is then off by some 3 % of its half-width."""
_AT_ONCE = 500


def widening(seeds: int) -> float:
    """Return the factor that widens the deviations of this number of seeds; 1 for a single seed, whose spread is unknown."""
    return quantile(0.975, seeds - 1) / Z95 * math.sqrt(seeds / (seeds - 1)) if seeds > 1 else 1.0


def two_way(differences: Any, clusters: Sequence[str] = (), *, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """Return the 95 % interval of the mean of `differences`, a matrix of seeds x items, resampling seeds and items (Owen, 2007).

    Entry [s, i] is one method's correctness less the other's at seed s and item i, so the pairing is kept. clusters[i] names the picture
    of item i, "" for one of its own; pictures are resampled whole. With one seed the interval says nothing about other seeds.
    """
    matrix = np.asarray(differences, dtype=float)
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError("a matrix of seeds and items is needed")
    means = matrix.mean(axis=1, keepdims=True)
    matrix = matrix + (widening(len(matrix)) - 1) * (means - means.mean())
    names = [name or k for k, name in enumerate(clusters or [""] * matrix.shape[1])]
    places = {name: column for column, name in enumerate(dict.fromkeys(names))}
    columns = [places[name] for name in names]
    sizes = np.bincount(columns).astype(float)
    sums = np.zeros((len(matrix), len(sizes)))
    np.add.at(sums.T, columns, matrix.T)
    rng = np.random.default_rng(seed)
    found = np.empty(draws)
    for start in range(0, draws, _AT_ONCE):
        count = min(_AT_ONCE, draws - start)
        rows, drawn = _counts(rng, count, len(sums)), _counts(rng, count, len(sizes))
        found[start : start + count] = ((rows @ sums) * drawn).sum(axis=1) / (len(sums) * (drawn @ sizes))
    return _ends(found)


def over_seeds(
    count: int, figure: Callable[[Sequence[int]], float | None], *, draws: int = DRAWS, seed: int = 0, widen: bool = False
) -> tuple[float, float] | None:
    """Return the 95 % interval of a figure of `count` seeds, resampling whole seeds; figure(indices) is None where it has no value.

    With `widen`, for a figure that is a mean over seeds or a slope, deviations from the figure of all seeds are widened for few seeds.
    Returns None if fewer than half of the resamples have a value.
    """
    rng = np.random.default_rng(seed)
    values = [figure(indices.tolist()) for indices in rng.integers(count, size=(draws, count))]
    found = np.array([value for value in values if value is not None])
    if 2 * len(found) < draws:
        return None
    centre = figure(range(count))
    if widen and centre is not None:
        found = centre + widening(count) * (found - centre)
    return _ends(found)


def _counts(rng: np.random.Generator, draws: int, size: int) -> Floats:
    """Return how often each of `size` things is drawn, in `draws` resamples of `size`."""
    drawn = rng.integers(size, size=(draws, size)) + size * np.arange(draws)[:, None]
    return np.bincount(drawn.ravel(), minlength=draws * size).reshape(draws, size).astype(float)


def _ends(found: Floats) -> tuple[float, float]:
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)
