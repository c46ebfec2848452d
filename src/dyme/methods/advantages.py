"""Advantages of a group's completions (paper, Eq. 2)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dyme.config import ObjectiveConfig


def advantages(rewards: Sequence[float], objective: ObjectiveConfig, batch_std: float = 0.0) -> list[float]:
    """Return A_k = (r_k - mean r) / (std r + eps) over one group (paper, Eq. 2); equal rewards give exact zeros.

    `scale_rewards` picks the divisor as in TRL (group, batch, none), `std` population (paper) or sample (reference code). A completion
    without a reward (nan) has advantage 0, and no part in mean and deviation.
    """
    known = [r for r in rewards if not math.isnan(r)]
    if not known or max(known) - min(known) < 1e-9:
        return [0.0] * len(rewards)
    mean = math.fsum(known) / len(known)
    centred = [0.0 if math.isnan(r) else r - mean for r in rewards]
    if objective.scale_rewards == "none":
        return centred
    std = batch_std if objective.scale_rewards == "batch" else standard_deviation(known, objective.std)
    return [c / (std + objective.advantage_eps) for c in centred]


def standard_deviation(values: Sequence[float], kind: str) -> float:
    """Return the population or sample standard deviation; 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - (kind == "sample")))
