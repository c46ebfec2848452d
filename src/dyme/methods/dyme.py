"""DyME: per prompt and step, memorize if all completions are wrong, else explore (ICLR 2026, arXiv 2506.23061, Eq. 8).

Where it departs: a group whose completions are all correct is skipped, as in the reference code, unless `method.all_correct` says
explore.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from dyme.config import Bounds
from dyme.methods.method import Context, Method, Stage
from dyme.methods.routes import explore, memorize
from dyme.types import Group, Route


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The two choices in which the paper's formula and its reference code differ."""

    memorize_weight: Annotated[Literal["paper", "code"] | float, Bounds(0)] = "paper"
    """Weight of a memorized prompt; an explored one has weight 1. paper: 1 (Eq. 8), code: 1/K (as in the reference code), or a number."""
    all_correct: Literal["skip", "explore"] = "skip"
    """Mode of a group whose completions are all correct: skip (reference code) or explore (paper)."""


def memorize_weight(context: Context[Settings]) -> float:
    """Return the weight of a memorized prompt: 1 by the paper's Eq. 8, 1/K by the reference code's averaging, or the recipe's number."""
    weight = context.settings.memorize_weight
    return weight if not isinstance(weight, str) else {"paper": 1.0, "code": 1 / context.config.rollout.num_generations}[weight]


def dyme(group: Group, context: Context[Settings]) -> Route:
    """Memorize if no completion is correct, else explore (paper, Eq. 8); all correct: skip or explore, by recipe."""
    if group.solved == 0:
        return memorize(group, context, f"0 of {len(group.verdicts)} correct", memorize_weight(context))
    if group.solved == len(group.verdicts) and context.settings.all_correct == "skip":
        return Route(mode="skip", reason="all correct")
    return explore(group, context)


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
