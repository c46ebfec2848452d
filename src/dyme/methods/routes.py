"""The two routes that methods are made of, memorize (paper, Eq. 1) and explore (Eq. 7), and which branches carry gradient."""

from __future__ import annotations

from dyme.config import ObjectiveConfig
from dyme.methods.advantages import advantages
from dyme.methods.method import Context
from dyme.types import Branch, Group, Route


def memorize(group: Group, context: Context, reason: str = "every prompt is memorized", weight: float = 1.0) -> Route:
    """Imitate the target y* (paper, Eq. 1)."""
    return Route(mode="memorize", branches=(Branch(term="imitate", weight=weight),), reason=reason)


def explore(group: Group, context: Context) -> Route:
    """The GRPO surrogate on all K completions (paper, Eq. 7); a group without variance has no gradient and is skipped.

    With a KL term (beta > 0) such a group still has one, so it stays; a checker's rewards may still give it one.
    """
    objective = context.config.objective
    scores = advantages([v.reward for v in group.verdicts], objective, context.batch_std)
    if not any(scores) and objective.beta == 0 and not context.ungraded:
        return Route(mode="skip", reason=f"{group.solved} of {len(group.verdicts)} correct, all rewards equal")
    branches = tuple(Branch(term="policy", completion=k, advantage=a) for k, a in enumerate(scores))
    return Route(mode="explore", branches=branches, reason=f"{group.solved} of {len(group.verdicts)} correct")


def live_branches(route: Route, objective: ObjectiveConfig) -> tuple[Branch, ...]:
    """The branches that carry gradient: zero weights and, without a KL term, zero advantages are left out."""
    return tuple(b for b in route.branches if b.weight != 0 and (b.term == "imitate" or b.advantage != 0 or objective.beta > 0))
