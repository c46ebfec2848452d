"""HPT: imitate the target where at most `gate` completions are correct, else GRPO (arXiv 2509.04419).

    s > gate:  all completions, A_k = r_k - mean r, tokens summed and divided by a constant, no clip, no KL term
    s <= gate: the target alone, negative log-likelihood

With gate 0 it is DyME under objective.normalize = "term": each term is averaged over its own prompts, so that it weighs 1 whatever its
share of them. A variant, `soft`, keeps the completions of every prompt and always adds the target. Departures: imitated tokens are summed
and divided by the same constant; s counts what our verifier calls correct, whatever the shaped reward.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from dyme.config import Bounds
from dyme.methods.method import Context, Method, Stage
from dyme.methods.routes import explore, memorize
from dyme.types import Group, Route


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The gate, and the weight of imitation."""

    gate: Annotated[int, Bounds(0)] = 0
    """Imitate a prompt with at most this number of correct completions; the paper has 0 or 2, by model."""
    sft_weight: Annotated[float, Bounds(0)] = 1.0
    """Weight of imitation; the paper has 1, and 0.3 for its model of 1.5 B parameters."""
    soft: bool = False
    """Explore every prompt, and imitate its target besides, whatever the gate."""


def hpt(group: Group, context: Context[Settings]) -> Route:
    """Imitate if at most `gate` completions are correct, else explore; or both."""
    own = context.settings
    target, route = memorize(group, context, f"{group.solved} of {len(group.verdicts)} correct", own.sft_weight), explore(group, context)
    if own.soft:
        return replace(route, mode="mixed", branches=(*route.branches, *target.branches))
    return target if group.solved <= own.gate else route


METHOD = Method(
    name="hpt",
    summary="imitate if at most a few completions are correct, else GRPO; each term averaged over its own prompts",
    source="HPT (arXiv 2509.04419)",
    settings=Settings(),
    defaults={
        "objective.normalize": "term", "objective.loss_type": "dr_grpo", "objective.scale_rewards": "none",
        "objective.epsilon": 1e6, "objective.beta": 0.0,
    },
    stages=lambda own: (Stage(name="hpt", route=hpt, rolls_out=True, imitates=True),),
)  # fmt: skip
