"""Which layout the update uses: the packed tree; where a family cannot take the tree's mask, branches behind the trunk's cache; or rows.
And how many trees a micro-batch has.

The choice compares numbers, on prompts of the first real batch: the log-probabilities of each layout with those of the model's
own forward over plain rows, with its own mask, positions and head. All are computed in float32 whatever the run's precision, because
bfloat16's rounding errors are larger than the errors of some wrong layouts. A layout that differs by more than rounding is not used; if
neither agrees, the model's own forward is the layout, at the cost of full logits.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import torch

from dyme.errors import ConfigError
from dyme.model.tree import Layout, Limb, Tree
from dyme.training.memory import out_of_memory

T = TypeVar("T")
TOLERANCE = 1e-4
"""Largest difference between log-probabilities that rounding explains, in float32."""
COMPARED: tuple[Layout, ...] = ("tree", "cached", "rows")
"""Layouts that are held against the model's own forward, the cheaper one first."""
LIMBS = 3
"""Branches of a tree in the check."""
PROMPTS = 4
"""Trees in the check, two at a time."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The layout to use, and each layout's largest difference from the model's own log-probabilities (infinite: it raised an error)."""

    layout: Layout
    differences: dict[Layout, float]
    reason: str
    pictured: bool = False
    """Whether a prompt with a picture was compared; until then the layouts are untested on pictures."""


def probes(trees: Sequence[Tree]) -> list[list[Tree]]:
    """Return the smallest trees, in pairs: with a picture and without in turn, each with several limbs, of which the last
    has its first half as a hint, so that a wrong mask shows.

    A limb of one token is never read, so longer limbs come first; a tree with too few limbs repeats them.
    """
    small = sorted(trees, key=lambda tree: (-min(1, tree.longest - len(tree.trunk.token_ids)), len(tree)))
    kinds = [[tree for tree in small if bool(tree.trunk.vision) == pictured] for pictured in (True, False)]
    turns = [tree for pair in itertools.zip_longest(*kinds) for tree in pair if tree is not None]
    chosen = [replace(tree, limbs=_several(tree.limbs)) for tree in turns[:PROMPTS]]
    return [chosen[k : k + 2] for k in range(0, len(chosen), 2)]


def _several(limbs: Sequence[Limb]) -> tuple[Limb, ...]:
    *chosen, last = (tuple(sorted(limbs, key=lambda limb: len(limb.tokens) < 2)) * LIMBS)[:LIMBS]
    half = len(last.tokens) // 2
    return (*chosen, replace(last, prefix=(*last.prefix, *last.tokens[:half]), tokens=last.tokens[half:], logprobs=()))


def compare(score: Callable[[Layout], torch.Tensor]) -> dict[Layout, float]:
    """Return the largest difference of each layout's log-probabilities from the model's own; raises ConfigError if memory runs out."""
    try:
        expected_N = score("reference")
        return {kind: difference(score, kind, expected_N) for kind in COMPARED}
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise ConfigError(
            "memory ran out while layouts were compared on two prompts; what helps: smaller pictures, model.lora_rank = 16, or "
            'model.layout = "rows"'
        ) from error


def difference(score: Callable[[Layout], torch.Tensor], layout: Layout, expected_N: torch.Tensor) -> float:
    """Return the largest difference of a layout's log-probabilities from the expected ones; infinite if the model fails or gives nan."""
    try:
        return float((score(layout) - expected_N).abs().max().nan_to_num(nan=math.inf, posinf=math.inf))
    except (ValueError, RuntimeError, TypeError, LookupError, AttributeError, AssertionError) as error:
        if out_of_memory(error):
            raise
        return float("inf")


def choose(differences: dict[Layout, float], asked: Layout | Literal["auto"] = "auto", pictured: bool = False) -> Choice:
    """Return the layout that was asked for; else the cheapest that agrees with the model, else the model's own forward.

    Raises ConfigError if the model cannot compute the one that was asked for.
    """
    if asked != "auto" and math.isinf(differences.get(asked, 0.0)):
        raise ConfigError(f'this model cannot compute model.layout = "{asked}"; "auto" finds one that it can')
    measured = ", ".join(f"{kind} {value:.1e}" for kind, value in differences.items())
    chosen = asked if asked != "auto" else agreeing(differences)
    found = "as nothing else agrees" if chosen == "reference" else "the first that agrees"
    why = "as the recipe says" if asked != "auto" else f"{found} with the model's own forward to {TOLERANCE:g}"
    return Choice(chosen, differences, f"{chosen}, {why}; largest difference of a log-probability: {measured}", pictured)


def agreeing(differences: dict[Layout, float]) -> Layout:
    """Return the first layout that agrees with the model's own forward, else that forward."""
    return next((kind for kind, value in differences.items() if value <= TOLERANCE), "reference")


def micro_batches(trees: Sequence[Tree], max_tokens: int, layout: Layout = "tree") -> Iterator[list[Tree]]:
    """Return batches of trees of similar length, each within `max_tokens` (padding included) or a single tree.

    Unless trees are packed, one that exceeds the budget by itself is split into several with some of its limbs each.
    """
    if layout != "tree":
        trees = [part for tree in trees for part in _split(tree, max_tokens, layout)]
    return _filled(sorted(trees, key=lambda tree: _width(tree, layout)), lambda batch: tokens(batch, layout) <= max_tokens)


def _filled(items: Iterable[T], fits: Callable[[list[T]], bool]) -> Iterator[list[T]]:
    """Yield the items in order, as many at a time as fit together, or one that does not fit alone."""
    chosen: list[T] = []
    for item in items:
        if chosen and not fits([*chosen, item]):
            yield chosen
            chosen = []
        chosen.append(item)
    if chosen:
        yield chosen


def tokens(trees: Sequence[Tree], layout: Layout) -> int:
    """Return the tokens that the model reads of a batch, padding included."""
    widest = max(_width(tree, layout) for tree in trees)
    if layout == "tree":
        return widest * len(trees)
    limbs = [limb for tree in trees for limb in tree.limbs]
    if layout != "cached":
        return widest * len(limbs)
    trunks = sum(len({limb.prefix for limb in tree.limbs}) for tree in trees)
    return widest * trunks + max(len(limb.tokens) for limb in limbs) * len(limbs)


def _width(tree: Tree, layout: Layout) -> int:
    """Return the length in tokens of the tree, or of its longest row, or of its longest trunk if it is cached."""
    if layout == "cached":
        return len(tree.trunk.token_ids) + max(len(limb.prefix) for limb in tree.limbs)
    return len(tree) if layout == "tree" else tree.longest


def _split(tree: Tree, max_tokens: int, layout: Layout) -> Iterator[Tree]:
    """Yield the tree, or trees with some of its limbs each, if it has more tokens than that."""
    some = _filled(tree.limbs, lambda limbs: tokens([replace(tree, limbs=tuple(limbs))], layout) <= max_tokens)
    yield from (replace(tree, limbs=tuple(limbs)) for limbs in some)
