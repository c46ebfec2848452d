"""DyME: per prompt and step, memorize if all completions are wrong, else explore (ICLR 2026, arXiv 2506.23061, Eq. 8).

Where it departs: a group whose completions are all correct is skipped, as in the reference code, unless `method.all_correct` says
explore.
"""

from __future__ import annotations

from dyme.config import Config
from dyme.methods.method import Context, Method, Stage
from dyme.methods.routes import explore, memorize
from dyme.types import Group, Route


def memorize_weight(config: Config) -> float:
    """Weight of a memorized prompt: 1 by the paper's formula (Eq. 8), 1/K by the reference code's averaging, or the recipe's number."""
    weight = config.method.memorize_weight
    return weight if not isinstance(weight, str) else {"paper": 1.0, "code": 1 / config.rollout.num_generations}[weight]


def dyme(group: Group, context: Context) -> Route:
    """Memorize if no completion is correct, else explore (paper, Eq. 8); all correct: skip or explore, by recipe."""
    if group.solved == 0:
        return memorize(group, context, f"0 of {len(group.verdicts)} correct", memorize_weight(context.config))
    if group.solved == len(group.verdicts) and context.config.method.all_correct == "skip":
        return Route(mode="skip", reason="all correct")
    return explore(group, context)


METHOD = Method(
    name="dyme",
    summary="per prompt and step: memorize if all completions are wrong, else explore",
    source="DyME, ICLR 2026 (arXiv 2506.23061), Eq. 8",
    stages=lambda config: (Stage(name="dyme", route=dyme, rolls_out=True),),
)
