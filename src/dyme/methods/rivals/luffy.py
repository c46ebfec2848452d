"""LUFFY: the target is a member of every group, its tokens shaped by their probability (arXiv 2504.14945, NeurIPS 2025).

    A = r - b   without a deviation; b is the mean over completions and target (paper) or over the completions alone (code)
    a token of the target: -A p / (p + gamma), whose gradient has the factor gamma p / (p + gamma)^2; no ratio, no clip

All wrong: the target has A = 1 by the code's baseline and the completions 0, which is DyME with a token shape; s of 7 right: 1 - s/7, a
soft switch. Tokens are summed and divided by the greatest length. A group has 7 completions, as the paper has 7 and the target. Departure:
the target's reward is our verifier's verdict on it, never assumed to be 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Annotated, Literal

from dyme.config import Bounds
from dyme.methods.method import Context, Method, Stage
from dyme.methods.routes import explore
from dyme.types import Branch, Group, Route, Shape


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The baseline, and the shape of the target's tokens."""

    baseline: Literal["paper", "code"] = "paper"
    """Rewards whose mean is subtracted: paper: the completions' and the target's, code: the completions' alone."""
    gamma: Annotated[float | None, Bounds(above=0)] = 0.1
    """A token of the target counts p / (p + gamma), p its probability. Unset: as a token of a completion."""


@lru_cache
def shape_of(gamma: float | None) -> Shape | None:
    """Return the shape of the target's tokens: equal settings have the same one."""
    return None if gamma is None else Shape(of=lambda p: p / (p + gamma), through=True)


def luffy(group: Group, context: Context[Settings]) -> Route:
    """Explore, with the target among the branches."""
    route = explore(group, context)
    return replace(route, mode="mixed", branches=(*route.branches, Branch(term="policy", shape=shape_of(context.settings.gamma))))


def centred(rewards: Sequence[float], pool: Sequence[Branch], context: Context[Settings]) -> list[float]:
    """Return A = r - b; a completion without a reward (nan) has advantage 0, and no part in b. Equal rewards give exact zeros."""
    counted = [r for r, b in zip(rewards, pool, strict=True) if b.completion is not None or context.settings.baseline == "paper"]
    known = [r for r in counted if not math.isnan(r)]
    base = math.fsum(known) / max(1, len(known))
    return [0.0 if math.isnan(r) or abs(r - base) < 1e-9 else r - base for r in rewards]


METHOD = Method(
    name="luffy",
    summary="the target is a member of every group, its tokens shaped by their probability",
    source="LUFFY, NeurIPS 2025 (arXiv 2504.14945)",
    settings=Settings(),
    defaults={
        "objective.loss_type": "dr_grpo", "objective.scale_rewards": "none", "objective.epsilon": 1e6, "rollout.num_generations": 7
    },
    stages=lambda own: (Stage(name="luffy", route=luffy, rolls_out=True, imitates=True, advantages=centred),),
)  # fmt: skip
