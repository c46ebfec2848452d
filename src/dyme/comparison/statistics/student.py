"""Student's t distribution with whole degrees of freedom, in closed form (Abramowitz and Stegun, 1964, 26.7.3 and 26.7.4)."""

from __future__ import annotations

import math


def central(t: float, freedom: int) -> float:
    """Return the probability that |T| is at most |t|; raises ValueError without a degree of freedom."""
    if freedom < 1:
        raise ValueError("Student's t needs at least one degree of freedom")
    angle = math.atan(abs(t) / math.sqrt(freedom))
    sine, cosine, odd = math.sin(angle), math.cos(angle), freedom % 2
    term, total = cosine if odd else 1.0, 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cosine**2 * k / (k + 1)
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def above(t: float, freedom: int) -> float:
    """Return the probability that T is above t."""
    tail = (1 - central(t, freedom)) / 2
    return tail if t >= 0 else 1 - tail


def quantile(probability: float, freedom: int) -> float:
    """Return the t that T is below with this probability, in (0, 1), by bisection."""
    if not 0 < probability < 1:
        raise ValueError("a probability between 0 and 1 is needed")
    if probability < 0.5:
        return -quantile(1 - probability, freedom)
    low, high = 0.0, 1.0
    while 1 - above(high, freedom) < probability:
        low, high = high, 2 * high
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if 1 - above(middle, freedom) < probability else (low, middle)
    return (low + high) / 2
