"""A figure of several seeds on the same items, with an interval from both the seeds' spread and the items, added in quadrature."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dyme.evaluation.metrics import t95


def pooled(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return one figure from those of several seeds on the same items; the interval of shares is cut to [0, 1]."""
    values = [f["value"] for f in figures]
    n, centre = len(values), math.fsum(values) / len(values)
    items = math.fsum((f["high"] - f["low"]) / 2 for f in figures) / n
    spread = 0.0
    if n > 1:
        deviation = math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (n - 1))
        spread = t95(n - 1) * deviation / math.sqrt(n)
    half = math.hypot(items, spread)
    least, most = (0.0, 1.0) if all(f["low"] >= 0 and f["high"] <= 1 for f in figures) else (-math.inf, math.inf)
    return {"value": centre, "low": max(least, centre - half), "high": min(most, centre + half), "n": figures[0]["n"], "seeds": n}
