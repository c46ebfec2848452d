"""Annealed: the last of each prompt's rows is the target, with a weight that falls to 0 over the run (DyME's Table 1b, arXiv 2506.23061).

    weight = 0.5 (1 + cos(pi step / steps)); the other rows keep the advantages that they have among all K completions

The target takes one of K rows, each of which has 1/K of the prompt's weight. Departure: it is scored at temperature 1, as all imitated
targets are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated

from dyme.config import Bounds
from dyme.methods.method import Context, Method, Stage
from dyme.methods.routes import explore
from dyme.types import Branch, Group, Route


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The weight of the target's row."""

    row_weight: Annotated[float, Bounds(0)] = 1.0
    """Weight of the target's row at the start of the run, before it falls; the row of a completion has 1."""


def annealed(group: Group, context: Context[Settings]) -> Route:
    """Explore all completions but the last, and imitate the target, less and less."""
    route, factor = explore(group, context), 0.5 * (1 + math.cos(math.pi * context.progress))
    rows = (*route.branches[:-1], replace(route.branches[-1], weight=0.0))  # it counts in the group's mean and among its K rows
    target = Branch(term="imitate", weight=context.settings.row_weight * factor / len(rows))
    return Route(mode="mixed", branches=(*rows, target), reason=f"{route.reason}, imitated at {factor:.2f}")


METHOD = Method(
    name="annealed",
    summary="explore every prompt, with the target in the place of its last completion, less and less",
    source="DyME, ICLR 2026 (arXiv 2506.23061), Table 1b",
    settings=Settings(),
    stages=lambda own: (Stage(name="annealed", route=annealed, rolls_out=True, imitates=True),),
)
