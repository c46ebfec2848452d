"""Focal imitation, as a user's method: explore every prompt, and imitate its target too, the less the surer the model is of a token.

The loss of an imitated token is -log p x (1 - p)^2, p its probability under the policy: the focal loss (arXiv 1708.02002), so that what
the model writes anyway is not taught again. The weight of imitation goes from `start` to `end` over the run, in a straight line; that of
exploration is 1. The method chord, which ships, has another schedule and another factor.

    dyme train charts-dyme --method.name examples/focal.py:METHOD --method.start 0.8
    dyme compare charts-dyme --methods base,dyme,examples/focal.py:METHOD,examples/focal.py:METHOD+method.focal=false
"""

from dataclasses import dataclass
from typing import Annotated

from dyme.config import Bounds
from dyme.methods import Context, Method, Stage
from dyme.types import Branch, Group, Route, Shape

FOCAL = Shape(of=lambda p: (1 - p) ** 2)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The weight of imitation, and its factor."""

    start: Annotated[float, Bounds(0, 1)] = 0.5
    """Weight of imitation at the beginning of the run."""
    end: Annotated[float, Bounds(0, 1)] = 0.1
    """Weight of imitation at the end of the run."""
    focal: bool = True
    """Weigh imitated tokens by (1 - p)^2."""


def focal(group: Group, context: Context[Settings]) -> Route:
    """Return a route with all completions and the target."""
    own = context.settings
    weight = own.start + (own.end - own.start) * context.progress
    explored = (Branch(term="policy", completion=k) for k in range(len(group.completions)))
    target = Branch(term="imitate", weight=weight, shape=FOCAL if own.focal else None)
    return Route(mode="mixed", branches=(*explored, target), reason=f"imitated at {weight:.2f}")


METHOD = Method(
    name="focal", summary="explore every prompt, and imitate the tokens of its target that are new to the model", source="an example",
    settings=Settings(), stages=lambda own: (Stage(name="focal", route=focal, rolls_out=True, imitates=True),),
)  # fmt: skip
