"""Prompts and the answers that branch off them, before they become tensors (the room's head has a picture)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from dyme.pictures import ImageSource
from dyme.types import Shape, Term

Layout = Literal["tree", "cached", "rows", "reference"]
"""tree: packed; cached: trunks as rows, then branches as rows behind the trunks' cache; rows: a row per branch; reference: rows through
the model's own forward, to check the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A tokenized prompt of P tokens with the processor's output for its images (batch size 1)."""

    token_ids: tuple[int, ...]
    vision: dict[str, torch.Tensor] = field(default_factory=dict)
    """Inputs about images: pixels, sizes, grids."""
    images: str = ""
    """Identity of the pictures, by their content: equal names mean equal `vision`; "" without pictures."""
    types: dict[str, torch.Tensor] = field(default_factory=dict)
    """Inputs of one number per token, [P], such as token_type_ids."""
    positions_CP: torch.Tensor | None = None
    """Rotary positions on C axes, for families that have several; None: 0 ... P - 1."""
    bare: tuple[int, ...] = ()
    """The tokens before the processor repeats a picture's, as a server takes them beside the pictures."""
    pictures: tuple[ImageSource, ...] = ()

    @property
    def next_position(self) -> int:
        """Return the position of an answer's first token, on every axis."""
        return len(self.token_ids) if self.positions_CP is None else int(self.positions_CP.max()) + 1

    def extended(self, token_ids: Sequence[int]) -> Prompt:
        """Return the prompt with further tokens of text behind it."""
        more, positions = len(token_ids), self.positions_CP
        following = self.next_position + torch.arange(more)
        return replace(
            self,
            token_ids=(*self.token_ids, *token_ids),
            bare=(*self.bare, *token_ids),
            types={name: torch.cat([values, values.new_zeros(more)]) for name, values in self.types.items()},
            positions_CP=None if positions is None else torch.cat([positions, following.expand(len(positions), -1)], 1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limb:
    """A branch with its tokens and its inputs of the objective; `token_weight` is the weight of each of its tokens."""

    tokens: tuple[int, ...]
    term: Term
    advantage: float
    token_weight: float
    logprobs: tuple[float, ...] = ()
    """Log-probabilities under the policy that sampled it, if that may be an earlier one; empty: the current policy."""
    shape: Shape | None = None
    """Function from a token's probability to the factor of its loss."""
    prefix: tuple[int, ...] = ()
    """Tokens between the trunk and the limb's own, read and not predicted; limbs with equal ones share them in a tree."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A prefix or a limb in the packed sequence: its tokens that are read, the column of the first, and the prefix before it."""

    tokens: tuple[int, ...]
    start: int
    above: Piece | None = None

    @property
    def columns(self) -> slice:
        """Return the columns of its tokens."""
        return slice(self.start, self.start + len(self.tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A trunk and its limbs."""

    trunk: Prompt
    limbs: tuple[Limb, ...]

    def __len__(self) -> int:
        """Return the length of the packed sequence in tokens; the last token of a limb is predicted, never read."""
        hints = {limb.prefix for limb in self.limbs}
        return len(self.trunk.token_ids) + sum(map(len, hints)) + sum(len(limb.tokens) - 1 for limb in self.limbs)

    @property
    def longest(self) -> int:
        """Return the length of its longest row in tokens: the trunk and one limb, with its prefix, without the last token."""
        return len(self.trunk.token_ids) + max(len(limb.prefix) + len(limb.tokens) for limb in self.limbs) - 1

    def pieces(self) -> tuple[list[Piece], list[Piece]]:
        """Return the places of its prefixes and of its limbs, in the order of the packed sequence."""
        end, hints = len(self.trunk.token_ids), dict[tuple[int, ...], Piece]()
        for prefix in dict.fromkeys(limb.prefix for limb in self.limbs if limb.prefix):
            hints[prefix] = Piece(prefix, end)
            end += len(prefix)
        limbs = []
        for limb in self.limbs:
            limbs.append(Piece(limb.tokens[:-1], end, hints.get(limb.prefix)))
            end += len(limb.tokens) - 1
        return list(hints.values()), limbs
