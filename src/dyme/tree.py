"""A prompt and its live branches as one packed sequence: the trunk once, then the branches side by side.

Each branch attends to the trunk and to itself, and its positions continue from the trunk's end, so its log-probabilities and
gradients equal those of a separate row (trunk + branch) up to rounding, while the image and question are encoded once.

    ids        t0 t1 t2 | a0 a1 a2 | b0 b1
    positions   0  1  2 |  3  4  5 |  3  4

Token n of a branch is predicted at the position before it: the trunk's last token for n = 0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dyme.types import Term


@dataclass(frozen=True, slots=True, kw_only=True)
class Limb:
    """A branch with its tokens and what the objective needs of it; `token_weight` is the weight of each of its tokens."""

    tokens: tuple[int, ...]
    term: Term
    advantage: float
    token_weight: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A trunk (prompt tokens and its vision inputs) and its limbs."""

    trunk: tuple[int, ...]
    limbs: tuple[Limb, ...]
    vision: dict[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        """Length of the packed sequence in tokens; the last token of a limb is predicted, never read."""
        return len(self.trunk) + sum(len(limb.tokens) - 1 for limb in self.limbs)


@dataclass(slots=True, kw_only=True)
class TreeBatch:
    """Trees as tensors. B trees, L positions, N predicted tokens."""

    input_ids_BL: torch.Tensor
    position_ids_BL: torch.Tensor
    mask_B1LL: torch.Tensor
    """True where a query (row) may attend to a key (column)."""
    vision: dict[str, torch.Tensor]
    row_N: torch.Tensor
    column_N: torch.Tensor
    """Where each predicted token is read off: hidden state [row, column]."""
    target_N: torch.Tensor
    weight_N: torch.Tensor
    advantage_N: torch.Tensor
    imitate_N: torch.Tensor
    """True for tokens of imitation limbs."""

    def to(self, device: torch.device | str) -> TreeBatch:
        """The same batch on a device."""
        moved: dict[str, Any] = {}
        for name in self.__slots__:
            value = getattr(self, name)
            moved[name] = {k: v.to(device) for k, v in value.items()} if isinstance(value, dict) else value.to(device)
        return TreeBatch(**moved)


def micro_batches(trees: Sequence[Tree], max_tokens: int) -> Iterator[list[Tree]]:
    """Trees of like length together, each batch within `max_tokens` (padding included) or a single tree."""
    batch: list[Tree] = []
    for tree in sorted(trees, key=len):  # ascending: the newest is the longest
        if batch and len(tree) * (len(batch) + 1) > max_tokens:
            yield batch
            batch = []
        batch.append(tree)
    if batch:
        yield batch


def collate(trees: Sequence[Tree], pad: int) -> TreeBatch:
    """Pack trees side by side, padded on the right with `pad`."""
    longest, n = max(map(len, trees)), len(trees)
    ids = torch.full((n, longest), pad)
    positions = torch.zeros((n, longest), dtype=torch.long)
    segment = torch.full((n, longest), -1)
    columns: list[int] = []
    rows: list[int] = []
    limbs: list[Limb] = []
    for b, tree in enumerate(trees):
        stem, end = len(tree.trunk), len(tree.trunk)
        ids[b, :stem] = torch.tensor(tree.trunk)
        positions[b, :stem] = torch.arange(stem)
        segment[b, :stem] = 0
        for k, limb in enumerate(tree.limbs, start=1):
            read = len(limb.tokens) - 1
            ids[b, end : end + read] = torch.tensor(limb.tokens[:-1], dtype=torch.long)
            positions[b, end : end + read] = torch.arange(stem, stem + read)
            segment[b, end : end + read] = k
            columns += [stem - 1, *range(end, end + read)]
            rows += [b] * len(limb.tokens)
            limbs.append(limb)
            end += read
    return TreeBatch(
        input_ids_BL=ids,
        position_ids_BL=positions,
        mask_B1LL=tree_mask(segment),
        vision=stack_vision([tree.vision for tree in trees]),
        row_N=torch.tensor(rows),
        column_N=torch.tensor(columns),
        target_N=torch.tensor([t for limb in limbs for t in limb.tokens]),
        weight_N=torch.tensor([limb.token_weight for limb in limbs for _ in limb.tokens]),
        advantage_N=torch.tensor([limb.advantage for limb in limbs for _ in limb.tokens]),
        imitate_N=torch.tensor([limb.term == "imitate" for limb in limbs for _ in limb.tokens]),
    )


def tree_mask(segment_BL: torch.Tensor) -> torch.Tensor:
    """[B, 1, L, L] from segments (0 trunk, 1.. branches, -1 padding): causal, and within the trunk or the same branch.

    Padding attends to itself alone, so that no row of the softmax is empty.
    """
    length = segment_BL.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    query, key = segment_BL[:, :, None], segment_BL[:, None, :]
    seen = ((key == 0) | (key == query)) & causal & (query >= 0) & (key >= 0)
    return (seen | torch.eye(length, dtype=torch.bool))[:, None]


def stack_vision(inputs: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Vision inputs of several prompts as one batch: joined along the first dimension, the others padded with zeros."""
    out = {}
    for key in {k for one in inputs for k in one}:
        parts = [one[key] for one in inputs if key in one]
        shape = [max(sizes) for sizes in zip(*(p.shape[1:] for p in parts), strict=True)]
        if any(list(p.shape[1:]) != shape for p in parts):
            parts = [_grown(p, shape) for p in parts]
        out[key] = torch.cat(parts)
    return out


def _grown(part: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    grown = part.new_zeros(part.shape[0], *shape)
    grown[tuple(slice(0, s) for s in part.shape)] = part
    return grown
