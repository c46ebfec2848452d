"""Budget: explore, collect the prompts that are all wrong, and memorize them once there are enough (DyME's Table 1b, arXiv 2506.23061).

The buffer holds the prompts that failed since it was emptied. In the step in which it reaches its size (192 in the reference code) no
prompt is explored; the targets of the buffer's prompts, those of the step itself among them, are imitated instead, as their mean.
Departure: the buffer is emptied as a whole, so that the prompts of the last step which do not fit are memorized too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

from dyme.config import Bounds
from dyme.methods.dyme import Switch, explored, memorized
from dyme.methods.method import Context, Method, Stage
from dyme.types import Group, Route


@dataclass(frozen=True, kw_only=True)
class Settings(Switch):
    """DyME's settings, and the size of the buffer."""

    buffer_size: Annotated[int, Bounds(1)] = 192
    """Number of failed prompts at which they are memorized."""


def collected(context: Context[Settings]) -> int:
    """Return the number of failed prompts, those of the step included."""
    return len(context.state) + sum(not any(v.correct or v.failed for v in verdicts) for verdicts in context.batch)


def full(context: Context[Settings]) -> bool:
    """Return whether the buffer is memorized at this step."""
    return collected(context) >= context.settings.buffer_size


def budget(group: Group, context: Context[Settings]) -> Route:
    """Explore; at a step at which the buffer is full, memorize its prompts and skip the others."""
    if not full(context):
        return explored(group, context)
    if group.solved:
        return Route(mode="skip", reason="not in the buffer, which is memorized")
    prompts = len(context.state) + len(context.batch)
    weight = prompts / collected(context) if context.config.objective.normalize == "all" else 1.0
    return replace(memorized(group, context, weight), reason="the buffer is memorized")


def replay(context: Context[Settings]) -> Sequence[str]:
    """Return the prompts of earlier steps that are memorized at this step."""
    return context.state if full(context) else ()


def remember(groups: Sequence[Group], routes: Sequence[Route], context: Context[Settings]) -> list[str]:
    """Return the buffer after a step: emptied if it was memorized, else with the step's failed prompts."""
    failed = [group.sample.id for group in groups if group.solved == 0 and group.judged]
    return [] if full(context) else [*context.state, *failed]


METHOD = Method(
    name="budget",
    summary="explore; collect prompts that are all wrong, and memorize them once there are enough",
    source="DyME, ICLR 2026 (arXiv 2506.23061), Table 1b",
    settings=Settings(),
    stages=lambda own: (Stage(name="budget", route=budget, rolls_out=True, imitates=True, replay=replay),),
    first_state=lambda own: [],
    next_state=remember,
)
