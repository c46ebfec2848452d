"""S-GRPO: if all completions are wrong, the target joins the group, and its advantage is the group's; else GRPO (arXiv 2604.16557).

    A_k = (r_k - mean r) / std r   over the completions' rewards and r*, the target's

Unlike DyME it pushes the wrong completions down: with binary rewards and K = 8 a wrong one has A = -0.354, the target 2.83 if it is
appended; -0.378 and 2.65 if it replaces a completion. The paper does not say which of the two it does; a setting does. Departures: r* is
the verifier's verdict on the target, never assumed to be the highest; with a shaped reward all-wrong completions can differ.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from dyme.methods.method import Context, Method, Stage
from dyme.methods.routes import explore
from dyme.types import Branch, Group, Route


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How the target joins an all-wrong group."""

    pool: Literal["append", "replace"] = "append"
    """append: beside all K completions; replace: in the place of the last one."""


def s_grpo(group: Group, context: Context[Settings]) -> Route:
    """Explore; if no completion is correct, with the target among the branches."""
    route = explore(group, context)
    if group.solved:
        return route
    own = route.branches if context.settings.pool == "append" else route.branches[:-1]
    return replace(route, mode="mixed", branches=(*own, Branch(term="policy")))


METHOD = Method(
    name="s_grpo",
    summary="GRPO; the target joins a group that is all wrong, with the group's advantage",
    source="S-GRPO (arXiv 2604.16557)",
    settings=Settings(),
    defaults={"objective.scale_rewards": "group", "objective.std": "population", "objective.loss_type": "grpo"},
    stages=lambda own: (Stage(name="s_grpo", route=s_grpo, rolls_out=True, imitates=True),),
)
