"""The two routes that methods are made of, memorize (paper, Eq. 1) and explore (Eq. 7), and which branches carry gradient."""

from __future__ import annotations

from dataclasses import replace

from dyme.config import ObjectiveConfig
from dyme.methods.advantages import advantages
from dyme.methods.method import Context
from dyme.types import Branch, Group, Route


def memorize(group: Group, context: Context, reason: str = "every prompt is memorized", weight: float = 1.0) -> Route:
    """Imitate the target y* (paper, Eq. 1)."""
    return Route(mode="memorize", branches=(Branch(term="imitate", weight=weight),), reason=reason)


def explore(group: Group, context: Context) -> Route:
    """The GRPO surrogate on all K completions (paper, Eq. 7); what was cut off may be left out of the loss."""
    counted = [completion.finished or not context.config.objective.mask_truncated for completion in group.completions]
    branches = tuple(Branch(term="policy", completion=k, weight=float(own)) for k, own in enumerate(counted))
    return Route(mode="explore", branches=branches, reason=f"{group.solved} of {len(group.verdicts)} correct")


def settle(route: Route, group: Group, objective: ObjectiveConfig, batch_std: float = 0.0) -> Route:
    """`route` with the advantages that its method left open, from the group's rewards (paper, Eq. 2).

    A group without variance has no gradient and is skipped; with a KL term (beta > 0) it has one, so it stays. `batch_std` is the standard
    deviation of all rewards of the step, over all processes, for scale_rewards = "batch".
    """
    if not any(is_open(branch) for branch in route.branches):
        return route
    scores = advantages([v.reward for v in group.verdicts], objective, batch_std)
    branches = tuple(replace(b, advantage=scores[b.completion]) if is_open(b) and b.completion is not None else b for b in route.branches)
    settled = replace(route, branches=branches)
    if any(scores) or live_branches(settled, objective):
        return settled
    return Route(mode="skip", reason=f"{route.reason}, all rewards equal")


def is_open(branch: Branch) -> bool:
    """Whether the advantage of an explored completion is still to be computed."""
    return branch.term == "policy" and branch.advantage is None


def live_branches(route: Route, objective: ObjectiveConfig) -> tuple[Branch, ...]:
    """The branches that carry gradient: zero weights and, without a KL term, zero advantages are left out."""
    return tuple(b for b in route.branches if b.weight != 0 and (b.term == "imitate" or b.advantage != 0 or objective.beta > 0))
