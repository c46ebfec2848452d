"""ViSurf: the target is a member of every group, with a reward that leaves it alone once a completion is right (arXiv 2510.10606).

    A_k = (r_k - mean r) / std r   over the completions' rewards and r*; r* is the mean of the completions' if any of them is right

So the target has A = 0 beside a right completion, and beside wrong ones that of S-GRPO. It earns no thinking reward. The paper asks for
targets in the model's own style; here a refiner writes them if the recipe has one. Departure: r* in an all-wrong group is our verifier's
verdict on the target, never assumed to be the highest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from dyme.methods.advantages import advantages
from dyme.methods.method import Context, Method, NoSettings, Stage
from dyme.methods.routes import explore
from dyme.types import Branch, Group, Route


def visurf(group: Group, context: Context[NoSettings]) -> Route:
    """Explore, with the target among the branches."""
    route = explore(group, context)
    return replace(route, mode="mixed", branches=(*route.branches, Branch(term="policy")))


def controlled(rewards: Sequence[float], pool: Sequence[Branch], context: Context[NoSettings]) -> list[float]:
    """Return the advantages of a group in which the target's reward is the completions' mean, or its own without a thinking reward."""
    known = [r for r, b in zip(rewards, pool, strict=True) if b.completion is not None and not math.isnan(r)]
    if known and any(verdict.correct for verdict in context.batch[context.place]):
        best = math.fsum(known) / len(known)
    else:
        assert context.target is not None, "the target is judged where it is a branch"
        best = context.target.reward - context.config.reward.thinking_weight * context.target.rewards.get("thinking", 0.0)
    given = [best if b.completion is None else r for r, b in zip(rewards, pool, strict=True)]
    return advantages(given, context.config.objective, context.batch_std)


METHOD = Method(
    name="visurf",
    summary="the target is a member of every group, without advantage once a completion is right",
    source="ViSurf (arXiv 2510.10606)",
    settings=NoSettings(),
    defaults={"objective.scale_rewards": "group", "objective.std": "population", "objective.loss_type": "grpo"},
    stages=lambda own: (Stage(name="visurf", route=visurf, rolls_out=True, imitates=True, advantages=controlled),),
)
