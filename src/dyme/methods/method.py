"""What a method is: a sequence of stages, each a part of the budget with one small function (group, context) -> Route.

A stage is asked once about each group, before the helpers work. The switch looks at binary correctness alone; shaped reward only enters
the advantages (paper, Eq. 2), which `routes.settle` computes after a checker has graded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dyme.config import Config
from dyme.types import Group, Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a method may know besides the group."""

    config: Config


RoutingFunction = Callable[[Group, Context], Route]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of the training budget with one routing rule; each stage has its own optimizer state and schedule."""

    name: str
    route: RoutingFunction
    rolls_out: bool
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method: what it is, where it comes from, and its stages for a given recipe."""

    name: str
    summary: str
    source: str
    stages: Callable[[Config], tuple[Stage, ...]]
