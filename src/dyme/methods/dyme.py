"""DyME: per prompt and step, memorize if all completions are wrong, else explore (ICLR 2026, arXiv 2506.23061, Eq. 8).

Where it departs: a group whose completions are all correct is skipped, as in the reference code, unless `method.all_correct` says
explore. Two settings are ours, and off: `method.tau` makes the switch a soft one, `method.trust` weighs each target by the local
checker's score of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from dyme.config import Bounds
from dyme.methods.method import Context, Method, Stage
from dyme.methods.routes import explore, memorize
from dyme.types import Group, Route


@dataclass(frozen=True, kw_only=True)
class Switch:
    """The settings of every method that memorizes some prompts of a step and explores others."""

    memorize_weight: Annotated[Literal["paper", "code"] | float, Bounds(0)] = "paper"
    """Weight of a memorized prompt; an explored one has weight 1. paper: 1 (Eq. 8), code: 1/K (as in the reference code), or a number."""
    all_correct: Literal["skip", "explore"] = "skip"
    """Mode of a group whose completions are all correct: skip (reference code) or explore (paper)."""
    trust: bool = False
    """Multiply the weight of each target by the local checker's score of it, in [0, 1]; it is 1 where the row has no facts to compare."""


@dataclass(frozen=True, kw_only=True)
class Settings(Switch):
    """DyME's settings."""

    tau: Annotated[float | None, Bounds(0)] = None
    """Soft switch: also imitate the target of a prompt with s of K completions correct, with the memorize weight x (1 - s/K)^tau. 0: every
    prompt alike. Unset: only if all are wrong, which is the limit of a large tau."""


def memorize_weight(context: Context[Any]) -> float:
    """Return the weight of a memorized prompt: 1 by the paper's Eq. 8, 1/K by the reference code's averaging, or the recipe's number."""
    weight = context.settings.memorize_weight
    return weight if not isinstance(weight, str) else {"paper": 1.0, "code": 1 / context.config.rollout.num_generations}[weight]


def memorized(group: Group, context: Context[Any], weight: float = 1.0) -> Route:
    """Return the route that imitates the target, by the settings of a switch; `weight` is a factor of its weight."""
    reason = f"{group.solved} of {len(group.verdicts)} correct"
    return memorize(group, context, reason, weight * memorize_weight(context), context.settings.trust)


def explored(group: Group, context: Context[Any]) -> Route:
    """Return the route that explores, by the settings of a switch: all correct may be skipped."""
    if group.solved == len(group.verdicts) and context.settings.all_correct == "skip":
        return Route(mode="skip", reason="all correct")
    return explore(group, context)


def dyme(group: Group, context: Context[Settings]) -> Route:
    """Memorize if no completion is correct, else explore (paper, Eq. 8); with tau, memorize beside exploring."""
    if group.solved == 0:
        return memorized(group, context)
    route, tau = explored(group, context), context.settings.tau
    if tau is None or not (factor := (1 - group.solved / len(group.verdicts)) ** tau):
        return route
    target = memorized(group, context, factor)
    return replace(target, mode="mixed" if route.branches else "memorize", branches=(*route.branches, *target.branches))


def outlook(figures: Mapping[str, float], k: int) -> list[str]:
    """Return sentences on what an untrained model's figures mean for DyME."""
    wrong, right, mixed = figures["all_wrong"], figures["all_right"], figures["mixed"]
    lines = [f"DyME would begin by memorizing {wrong:.0%} of prompts, exploring {mixed:.0%} and leaving {right:.0%} alone."]
    if wrong > 0.95:
        lines.append("Nearly every prompt is all wrong: DyME will be SFT for a while; good traces matter most, and a larger K helps.")
    return lines


METHOD = Method(
    name="dyme",
    summary="per prompt and step: memorize if all completions are wrong, else explore",
    source="DyME, ICLR 2026 (arXiv 2506.23061), Eq. 8",
    settings=Settings(),
    outlook=outlook,
    stages=lambda settings: (Stage(name="dyme", route=dyme, rolls_out=True, imitates=True),),
)
