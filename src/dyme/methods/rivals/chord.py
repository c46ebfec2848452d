"""CHORD: imitation fades out of every prompt while exploration fades in (arXiv 2508.11408, ICLR 2026).

    L = (1 - mu) L_GRPO + mu L_SFT   at each step, whatever the completions were
    phi: the loss of an imitated token is -log p x sg(p (1 - p)), p its probability under the policy

mu rises from 0 to a peak, falls by a cosine to a valley, and stays there. The defaults are those of ms-swift (0.9 to 0.05, no phi);
Trinity has 0.5 to 0.02 with a warm-up, and the paper has phi with a constant mu, peak = valley = 0.1. Departures: the demonstrations are
the targets of the same prompts, not a separate set; the schedule is in shares of the run, not in steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

from dyme.config import Bounds
from dyme.methods.method import Context, Method, Stage
from dyme.methods.routes import explore
from dyme.types import Branch, Group, Route, Shape

PHI = Shape(of=lambda p: p * (1 - p))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The schedule of mu, the weight of imitation, and phi."""

    peak: Annotated[float, Bounds(0, 1)] = 0.9
    """mu after the warm-up."""
    valley: Annotated[float, Bounds(0, 1)] = 0.05
    """mu at the end."""
    warmup: Annotated[float, Bounds(0, 1)] = 0.0
    """Share of the run in which mu rises from 0 to its peak."""
    decay: Annotated[float, Bounds(0, 1)] = 2 / 3
    """Share of the run in which mu falls from its peak to its valley, after the warm-up."""
    phi: bool = False
    """Weigh each imitated token by p (1 - p): tokens that are almost certain or almost impossible count least."""


def mu(progress: float, own: Settings) -> float:
    """Return the weight of imitation at this share of the run."""
    if progress < own.warmup:
        return own.peak * progress / own.warmup
    fallen = min(1.0, (progress - own.warmup) / own.decay) if own.decay else 1.0
    return own.valley + (own.peak - own.valley) * (1 + math.cos(math.pi * fallen)) / 2


def chord(group: Group, context: Context[Settings]) -> Route:
    """Return a route with all completions and the target, weighted by 1 - mu and mu."""
    weight, shape = mu(context.progress, context.settings), PHI if context.settings.phi else None
    explored = (replace(branch, weight=(1 - weight) * branch.weight) for branch in explore(group, context).branches)
    return Route(mode="mixed", branches=(*explored, Branch(term="imitate", weight=weight, shape=shape)), reason=f"mu {weight:.2f}")


METHOD = Method(
    name="chord",
    summary="imitate and explore every prompt, in a proportion that changes over the run",
    source="CHORD, ICLR 2026 (arXiv 2508.11408)",
    settings=Settings(),
    stages=lambda own: (Stage(name="chord", route=chord, rolls_out=True, imitates=True),),
)
