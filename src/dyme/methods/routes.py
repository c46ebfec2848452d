"""The two routes that methods are made of, memorize (paper, Eq. 1) and explore (Eq. 7), and which branches carry gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from dyme.config import ObjectiveConfig
from dyme.methods.advantages import advantages
from dyme.methods.method import Context
from dyme.types import Branch, Group, Route

Score = Callable[[Sequence[float], Sequence[Branch]], Sequence[float]]
"""From the rewards of a route's policy branches, in their order, to an advantage for each of them."""


def memorize(
    group: Group, context: Context[Any], reason: str = "every prompt is memorized", weight: float = 1.0, trusted: bool = False
) -> Route:
    """Return the route that imitates the target y* (paper, Eq. 1), if `trusted` as far as the local checker supports it."""
    return Route(mode="memorize", branches=(Branch(term="imitate", weight=weight, trusted=trusted),), reason=reason)


def explore(group: Group, context: Context[Any]) -> Route:
    """Return the route with the GRPO surrogate on all K completions (paper, Eq. 7); truncated ones may be left out of the loss."""
    counted = [completion.finished or not context.config.objective.mask_truncated for completion in group.completions]
    branches = tuple(Branch(term="policy", completion=k, weight=float(own)) for k, own in enumerate(counted))
    return Route(mode="explore", branches=branches, reason=f"{group.solved} of {len(group.verdicts)} correct")


def settle(
    route: Route, group: Group, objective: ObjectiveConfig, batch_std: float = 0.0, target_reward: float = 0.0, score: Score | None = None
) -> Route:
    """Return `route` with the advantages that its method left open, from its policy branches' rewards (paper, Eq. 2) or by `score`.

    The weight of a trusted target is multiplied by the group's trust. The target y* counts with `target_reward` where it is a policy
    branch. A group without variance has no gradient and is skipped; with a KL term (beta > 0) it has one, so it stays. `batch_std` is the
    standard deviation of all rewards of the step, over all processes, for scale_rewards = "batch".
    """
    route = _trusting(route, group)
    if not any(is_open(branch) for branch in route.branches):
        return route
    pool = [branch for branch in route.branches if branch.term == "policy"]
    rewards = [target_reward if b.completion is None else group.verdicts[b.completion].reward for b in pool]
    scores = advantages(rewards, objective, batch_std) if score is None else score(rewards, pool)
    found = dict(zip(map(id, pool), scores, strict=True))
    settled = replace(route, branches=tuple(replace(b, advantage=found[id(b)]) if is_open(b) else b for b in route.branches))
    if any(scores) or live_branches(settled, objective):
        return settled
    return Route(mode="skip", reason=f"{route.reason}, all rewards equal")


def _trusting(route: Route, group: Group) -> Route:
    if group.trust is None:
        return route
    return replace(route, branches=tuple(replace(b, weight=b.weight * group.trust) if b.trusted else b for b in route.branches))


def is_open(branch: Branch) -> bool:
    """Return whether a branch's advantage is still to be computed from rewards."""
    return branch.term == "policy" and branch.advantage is None


def live_branches(route: Route, objective: ObjectiveConfig) -> tuple[Branch, ...]:
    """Return the branches that carry gradient, without those of weight 0 and, without a KL term, those of advantage 0."""
    return tuple(b for b in route.branches if b.weight != 0 and (b.term == "imitate" or b.advantage != 0 or objective.beta > 0))
