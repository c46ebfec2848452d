"""Yoked random: each step memorizes as many prompts as DyME's rule would, chosen at random among the step's prompts.

A control of ours, for Eq. 8's claim that the choice of prompts is what helps: the share of memorized prompts follows the failures as in
DyME, the choice does not. A chosen prompt is memorized whatever its completions were; one that is not chosen is explored, or skipped
where DyME would skip it.
"""

from __future__ import annotations

from dyme.methods.controls.drawing import generator, judged
from dyme.methods.dyme import Switch, explored, memorized
from dyme.methods.method import Context, Method, Stage
from dyme.types import Group, Route


def yoked_random(group: Group, context: Context[Switch]) -> Route:
    """Memorize a prompt if it is one of those drawn, as many as are all wrong in the step; else explore."""
    places = judged(context)
    count = sum(not any(verdict.correct for verdict in context.batch[place]) for place in places)
    drawn = generator(context, "yoked_random").sample(places, count)
    return memorized(group, context) if context.place in drawn else explored(group, context)


METHOD = Method(
    name="yoked_random",
    summary="control: as many prompts memorized as by dyme, chosen at random",
    source="a control of ours; docs/methods.md",
    settings=Switch(),
    stages=lambda own: (Stage(name="yoked_random", route=yoked_random, rolls_out=True, imitates=True),),
)
