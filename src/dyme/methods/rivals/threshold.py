"""Threshold: explore above a reward, memorize below it (DyME's Table 1b, ICLR 2026, arXiv 2506.23061).

    paper: explore all prompts of a step if its mean reward is above the threshold, else memorize them all
    code:  explore a prompt if, for any of its completions, the mean of accuracy, format and thinking reward is above the threshold

The paper names no threshold; the reference code has 0.9, which is the default here. Under "paper" the reward is the recipe's weighted sum,
before a checker grades.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from dyme.config import Bounds
from dyme.methods.dyme import Switch, explored, memorized
from dyme.methods.method import Context, Method, Stage
from dyme.types import Group, Route


@dataclass(frozen=True, kw_only=True)
class Settings(Switch):
    """DyME's settings, and the rule."""

    rule: Literal["paper", "code"] = "paper"
    """paper: the step's mean reward decides for all its prompts; code: each prompt's best completion, by the mean of its three rewards."""
    threshold: Annotated[float, Bounds(0)] = 0.9
    """Reward above which prompts are explored; under "code" in [0, 1]."""


def threshold(group: Group, context: Context[Settings]) -> Route:
    """Explore above the threshold, else memorize."""
    high = _step_reward(context) if context.settings.rule == "paper" else _best(group)
    return explored(group, context) if high > context.settings.threshold else memorized(group, context)


def _step_reward(context: Context[Settings]) -> float:
    """Return the mean reward of the step's completions that have one."""
    known = [v.reward for verdicts in context.batch for v in verdicts if not (v.failed or math.isnan(v.reward))]
    return math.fsum(known) / max(1, len(known))


def _best(group: Group) -> float:
    """Return the highest mean of accuracy, format and thinking reward among the completions."""
    parts = [[v.rewards.get(name, 0.0) for name in ("accuracy", "format", "thinking")] for v in group.verdicts]
    return max(math.fsum(own) / len(own) for own in parts)


METHOD = Method(
    name="threshold",
    summary="explore above a reward of the step or of the prompt's best completion, memorize below it",
    source="DyME, ICLR 2026 (arXiv 2506.23061), Table 1b",
    settings=Settings(),
    stages=lambda own: (Stage(name="threshold", route=threshold, rolls_out=True, imitates=True),),
)
