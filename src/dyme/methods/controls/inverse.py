"""Inverse: memorize where some completion is correct, explore where all are wrong: DyME's switch (Eq. 8), the other way round.

A control of ours. A group whose completions are all correct is skipped where DyME would skip it, and memorized where DyME would explore it.
"""

from __future__ import annotations

from dyme.methods.dyme import Switch, explored, memorized
from dyme.methods.method import Context, Method, Stage
from dyme.types import Group, Route


def inverse(group: Group, context: Context[Switch]) -> Route:
    """Explore if no completion is correct, else memorize."""
    route = explored(group, context)
    return route if group.solved == 0 or route.mode == "skip" else memorized(group, context)


METHOD = Method(
    name="inverse",
    summary="control: memorize if some completion is correct, explore if all are wrong",
    source="a control of ours; docs/methods.md",
    settings=Switch(),
    stages=lambda own: (Stage(name="inverse", route=inverse, rolls_out=True, imitates=True),),
)
