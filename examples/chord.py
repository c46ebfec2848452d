"""CHORD: imitation fades out of every prompt while exploration fades in (arXiv 2508.11408, ICLR 2026), as a user's method.

Each step's loss is (1 - mu) L_GRPO + mu L_SFT, whatever the completions were; mu rises from 0 to a peak, falls by a cosine to a valley, and
stays there. phi weighs each imitated token by p (1 - p), p its probability under the policy: tokens that are almost certain or almost
impossible count least. Departures: the demonstrations are the targets of the same prompts, not a separate set; the schedule is in shares
of the run, not in steps; the paper has phi with a constant mu (peak = valley = 0.1).

    dyme train charts-dyme --method.name examples/chord.py:METHOD --method.peak 0.9
    dyme compare charts-dyme --methods base,dyme,examples/chord.py:METHOD,examples/chord.py:METHOD+method.phi=false
"""

import math
from dataclasses import dataclass
from typing import Annotated

from dyme.config import Bounds
from dyme.methods import Context, Method, Stage
from dyme.types import Branch, Group, Route, Shape

PHI = Shape(of=lambda p: p * (1 - p))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The schedule of mu, the weight of imitation, and phi."""

    peak: Annotated[float, Bounds(0, 1)] = 0.5
    """mu after the warm-up."""
    valley: Annotated[float, Bounds(0, 1)] = 0.02
    """mu at the end."""
    warmup: Annotated[float, Bounds(0, 1)] = 0.0
    """Share of the run in which mu rises."""
    decay: Annotated[float, Bounds(0, 1)] = 2 / 3
    """Share of the run in which mu falls."""
    phi: bool = True
    """Weigh imitated tokens by p (1 - p)."""


def mu(progress: float, own: Settings) -> float:
    """Return the weight of imitation at this share of the run."""
    if progress < own.warmup:
        return own.peak * progress / own.warmup
    fallen = min(1.0, (progress - own.warmup) / own.decay) if own.decay else 1.0
    return own.valley + (own.peak - own.valley) * (1 + math.cos(math.pi * fallen)) / 2


def chord(group: Group, context: Context[Settings]) -> Route:
    """Return a route with all completions and the target, weighted by 1 - mu and mu."""
    weight = mu(context.progress, context.settings)
    shape = PHI if context.settings.phi else None
    explored = (Branch(term="policy", completion=k, weight=1 - weight) for k in range(len(group.completions)))
    return Route(mode="mixed", branches=(*explored, Branch(term="imitate", weight=weight, shape=shape)), reason=f"mu {weight:.2f}")


METHOD = Method(
    name="chord", summary="imitation and exploration of every prompt, in a proportion that changes", source="arXiv 2508.11408, ICLR 2026",
    settings=Settings(), stages=lambda own: (Stage(name="chord", route=chord, rolls_out=True, imitates=True),),
)  # fmt: skip
