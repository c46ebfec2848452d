"""Tests of paired differences between two methods over the same seeds, and two figures for outcomes that are far from normal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from dyme.comparison.statistics.student import above, central, quantile

_MOST_EXACT = 18
"""Most seeds whose sign flips are all counted; of more, 200,000 random ones are."""
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Tested:
    """A paired t test: the mean difference, t, its degrees of freedom, the two-sided p, and the 95 % interval of the mean."""

    mean: float
    t: float
    freedom: int
    p: float
    low: float
    high: float


def paired_t(differences: Sequence[float]) -> Tested | None:
    """Return the paired t test of differences (Student, 1908): t = mean / (s / sqrt(n)), n - 1 degrees of freedom; None of one value.

    Of equal differences, t is infinite and p 0, or, if all are zero, t is 0 and p 1.
    """
    if (n := len(differences)) < 2:
        return None
    mean, error = math.fsum(differences) / n, _error(differences)
    t = mean / error if error else math.copysign(math.inf, mean) if mean else 0.0
    half = quantile(0.975, n - 1) * error
    return Tested(mean, t, n - 1, 1 - central(t, n - 1), mean - half, mean + half)


def sign_flip(differences: Sequence[float]) -> float:
    """Return the two-sided p of the exact sign-flip test (Fisher, 1935, section 21): the share of the 2^n assignments of signs whose
    mean is at least as far from 0 as the observed one. Its least value is 2 / 2^n. Of more than 18 seeds, 200,000 assignments are drawn.
    """
    values = np.abs(np.asarray(differences, dtype=float))
    if not len(values):
        raise ValueError("a sign-flip test needs a difference")
    observed = abs(math.fsum(differences)) - 1e-12 * float(values.sum())
    if len(values) > _MOST_EXACT:
        signs = np.random.default_rng(0).choice((-1.0, 1.0), size=(200_000, len(values)))
        return float((1 + (np.abs(signs @ values) >= observed).sum()) / (1 + len(signs)))
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate((sums - value, sums + value))
    return float((np.abs(sums) >= observed).mean())


def equivalence(differences: Sequence[float], margin: float) -> float | None:
    """Return p of two one-sided t tests (Schuirmann, 1987): at most 0.05 shows |mean| below `margin`; None of one value.

    It is the larger p of H: mean <= -margin and H: mean >= margin.
    """
    if (n := len(differences)) < 2:
        return None
    mean, error = math.fsum(differences) / n, _error(differences)
    if not error:
        return 0.0 if abs(mean) < margin else 1.0
    return max(above((margin + mean) / error, n - 1), above((margin - mean) / error, n - 1))


def holm(p_values: Mapping[K, float]) -> dict[K, float]:
    """Return p values adjusted for their number (Holm, 1979): the k-th smallest of m times m - k + 1, at least its predecessor's."""
    adjusted, least, m = {}, 0.0, len(p_values)
    for k, (name, p) in enumerate(sorted(p_values.items(), key=lambda pair: pair[1])):
        least = max(least, min(1.0, (m - k) * p))
        adjusted[name] = least
    return {name: adjusted[name] for name in p_values}


def interquartile_mean(values: Sequence[float]) -> float:
    """Return the mean without the lowest and the highest quarter, of n // 4 values each (Agarwal et al., 2021, arXiv 2108.13264)."""
    cut = len(values) // 4
    middle = sorted(values)[cut : len(values) - cut]
    return math.fsum(middle) / len(middle)


def above_in_pairs(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return P(a > b) over all pairs of seeds, ties counted half (Agarwal et al., 2021; Mann and Whitney's U over its maximum)."""
    pairs = [(a > b) + 0.5 * (a == b) for a, b in itertools.product(ours, theirs)]
    return math.fsum(pairs) / len(pairs)


def _error(values: Sequence[float]) -> float:
    """Return the standard error of the mean; 0 where values differ only by rounding."""
    n = len(values)
    mean = math.fsum(values) / n
    error = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1) / n)
    return error if error > 1e-12 * max(1.0, abs(mean)) else 0.0
