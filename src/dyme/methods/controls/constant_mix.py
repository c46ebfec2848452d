"""Constant mix: a random share of each step's prompts is memorized, the others are explored, whatever their completions were.

A control of ours, for DyME's claim that the share should follow the failures: here it stays. Where share x prompts is no whole number, the
step draws the one below or above it, so that the mean is exact. A prompt that is not drawn is skipped where DyME would skip it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from dyme.config import Bounds
from dyme.methods.controls.drawing import generator, judged
from dyme.methods.dyme import Switch, explored, memorized
from dyme.methods.method import Context, Method, Stage
from dyme.types import Group, Route


@dataclass(frozen=True, kw_only=True)
class Settings(Switch):
    """DyME's settings, and the share."""

    memorize_share: Annotated[float, Bounds(0, 1)] = 0.25
    """Share of each step's prompts that are memorized."""


def constant_mix(group: Group, context: Context[Settings]) -> Route:
    """Memorize a prompt if it is one of those drawn, a constant share of the step's; else explore."""
    places, draw = judged(context), generator(context, "constant_mix")
    count = int(context.settings.memorize_share * len(places) + draw.random())
    drawn = draw.sample(places, min(count, len(places)))
    return memorized(group, context) if context.place in drawn else explored(group, context)


METHOD = Method(
    name="constant_mix",
    summary="control: a constant share of each step's prompts memorized, chosen at random",
    source="a control of ours; docs/methods.md",
    settings=Settings(),
    stages=lambda own: (Stage(name="constant_mix", route=constant_mix, rolls_out=True, imitates=True),),
)
