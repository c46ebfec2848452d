"""A prompt and its live branches as one packed sequence: the trunk once, then the branches side by side.

Each branch attends to the trunk and to itself, and its positions continue from the trunk's end, so its log-probabilities and
gradients equal those of a separate row (trunk + branch) up to rounding, while the image and question are encoded once.

    ids        t0 t1 t2 | a0 a1 a2 | b0 b1
    positions   0  1  2 |  3  4  5 |  3  4

Token n of a branch is predicted at the position before it: the trunk's last token for n = 0.

Families that cannot take such a mask get the same branches as rows, each behind a copy of its trunk (`training/layout.py` decides).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from dyme.types import Shape, Term

Layout = Literal["tree", "rows", "reference"]
"""tree: packed; rows: a row per branch; reference: rows through the model's own forward, positions and head, to check the others."""


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

    @property
    def next_position(self) -> int:
        """Return the position of an answer's first token, on every axis."""
        return len(self.token_ids) if self.positions_CP is None else int(self.positions_CP.max()) + 1


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A trunk and its limbs."""

    trunk: Prompt
    limbs: tuple[Limb, ...]

    def __len__(self) -> int:
        """Return the length of the packed sequence in tokens; the last token of a limb is predicted, never read."""
        return len(self.trunk.token_ids) + sum(len(limb.tokens) - 1 for limb in self.limbs)

    @property
    def longest(self) -> int:
        """Return the length of its longest row in tokens: the trunk and one limb without the last token."""
        return len(self.trunk.token_ids) + max(len(limb.tokens) for limb in self.limbs) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Places of the pieces of B packed trees: J branches of at most T tokens behind trunks of at most P."""

    stem: int
    """Tokens of the longest trunk, P."""
    owner_J: torch.Tensor
    """The tree of each branch."""
    column_JT: torch.Tensor
    """Places of each branch's tokens in the packed sequence; past the end of a branch, its last token again."""
    written_JT: torch.Tensor
    """True for a branch's own tokens."""
    mask_J1TS: torch.Tensor
    """True where a branch's tokens may attend: the trunk's P columns, then the branch's own T."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeBatch:
    """Trees as tensors. B sequences (trees or rows), L positions, N predicted tokens."""

    layout: Layout
    input_ids_BL: torch.Tensor
    segment_BL: torch.Tensor
    """0 for a trunk, k for its k-th limb, -1 for padding."""
    parts: Parts | None
    """Places of the pieces of packed trees."""
    position_ids: torch.Tensor
    """[B, L], or [C, B, L] for families with C rotary axes."""
    types: dict[str, torch.Tensor]
    """Inputs of one number per token, [B, L]."""
    vision: dict[str, torch.Tensor]
    images: tuple[str, ...]
    """Identity of each sequence's vision inputs, in order; sequences without an image are left out."""
    row_N: torch.Tensor
    column_N: torch.Tensor
    """Place of the hidden state that predicts each token: [row, column]."""
    target_N: torch.Tensor
    weight_N: torch.Tensor
    advantage_N: torch.Tensor
    imitate_N: torch.Tensor
    """True for tokens of imitation limbs."""
    sampled_N: torch.Tensor
    """Log-probabilities under the sampling policy; nan where that is the current policy."""
    shapes: tuple[Shape, ...]
    """The shapes of the limbs, each once."""
    shape_N: torch.Tensor
    """Index into the shapes for each token; -1: no shape."""

    def to(self, device: torch.device | str) -> TreeBatch:
        """Return the batch on a device."""
        return to_device(self, device)  # type: ignore[no-any-return]


def to_device(value: Any, device: torch.device | str) -> Any:
    """Return a batch, or a dictionary of tensors, on a device."""
    if isinstance(value, dict):
        return {k: to_device(v, device) for k, v in value.items()}
    if isinstance(value, (TreeBatch, Parts)):
        return replace(value, **{f.name: to_device(getattr(value, f.name), device) for f in fields(value)})
    return _sent(value, device) if isinstance(value, torch.Tensor) else value


def _sent(value: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Return the tensor on a device; of an expanded tensor, only the stored numbers are sent."""
    return _held(value).to(device, non_blocking=True).expand(value.shape)


def _held(value: torch.Tensor) -> torch.Tensor:
    """Return an expanded tensor without its repetitions: dimensions of stride 0, except for the first, get size 1."""
    return value[(slice(None), *(slice(0, 1) if stride == 0 else slice(None) for stride in value.stride()[1:]))] if value.ndim else value


def micro_batches(trees: Sequence[Tree], max_tokens: int, layout: Layout = "tree") -> Iterator[list[Tree]]:
    """Yield batches of trees of similar length, each within `max_tokens` (padding included) or a single tree.

    In rows, a tree whose own rows exceed the budget is split into several with some of its limbs each.
    """
    if layout != "tree":
        trees = [part for tree in trees for part in _split(tree, max_tokens)]
    batch: list[Tree] = []
    rows = 0
    for tree in sorted(trees, key=lambda tree: _width(tree, layout)):  # ascending: the newest is the widest
        own = 1 if layout == "tree" else len(tree.limbs)
        if batch and _width(tree, layout) * (rows + own) > max_tokens:
            yield batch
            batch, rows = [], 0
        batch.append(tree)
        rows += own
    if batch:
        yield batch


def _width(tree: Tree, layout: Layout) -> int:
    """Return the length of the tree's longest sequence in tokens."""
    return len(tree) if layout == "tree" else tree.longest


def _split(tree: Tree, max_tokens: int) -> Iterator[Tree]:
    most = max(1, max_tokens // _width(tree, "rows"))
    for start in range(0, len(tree.limbs), most):
        yield replace(tree, limbs=tree.limbs[start : start + most])


def collate(trees: Sequence[Tree], pad: int, layout: Layout = "tree", answer_types: dict[str, int] | None = None) -> TreeBatch:
    """Pack trees side by side, padded on the right with `pad`; return the batch; unless the layout is "tree", each limb is a separate row.

    `answer_types` gives the value of per-token inputs at the answers' tokens (0 unless named).
    """
    rows = trees if layout == "tree" else [replace(tree, limbs=(limb,)) for tree in trees for limb in tree.limbs]
    longest, n = max(map(len, rows)), len(rows)
    ids = torch.full((n, longest), pad)
    axes = max(1 if row.trunk.positions_CP is None else len(row.trunk.positions_CP) for row in rows)
    positions = torch.zeros((axes, n, longest), dtype=torch.long)
    segment = torch.full((n, longest), -1)
    types = {name: torch.zeros((n, longest), dtype=torch.long) for name in rows[0].trunk.types}
    columns: list[int] = []
    place: list[int] = []
    limbs: list[Limb] = []
    for b, row in enumerate(rows):
        stem = end = len(row.trunk.token_ids)
        ids[b, :stem] = torch.tensor(row.trunk.token_ids)
        positions[:, b, :stem] = torch.arange(stem) if row.trunk.positions_CP is None else row.trunk.positions_CP
        segment[b, :stem] = 0
        for name, values in types.items():
            values[b, :stem] = row.trunk.types[name]
            values[b, stem : len(row)] = (answer_types or {}).get(name, 0)
        for k, limb in enumerate(row.limbs, start=1):
            read = len(limb.tokens) - 1
            ids[b, end : end + read] = torch.tensor(limb.tokens[:-1], dtype=torch.long)
            positions[:, b, end : end + read] = torch.arange(read) + row.trunk.next_position
            segment[b, end : end + read] = k
            columns += [stem - 1, *range(end, end + read)]
            place += [b] * len(limb.tokens)
            limbs.append(limb)
            end += read
    shapes = tuple(dict.fromkeys(limb.shape for limb in limbs if limb.shape is not None))
    return TreeBatch(
        layout=layout,
        input_ids_BL=ids,
        segment_BL=segment,
        parts=parts_of(rows) if layout == "tree" else None,
        position_ids=positions[0] if axes == 1 else positions,
        types=types,
        vision=stack_vision([row.trunk.vision for row in rows]),
        images=tuple(row.trunk.images for row in rows if row.trunk.vision),
        row_N=torch.tensor(place),
        column_N=torch.tensor(columns),
        target_N=torch.tensor([t for limb in limbs for t in limb.tokens]),
        weight_N=torch.tensor([limb.token_weight for limb in limbs for _ in limb.tokens]),
        advantage_N=torch.tensor([limb.advantage for limb in limbs for _ in limb.tokens]),
        imitate_N=torch.tensor([limb.term == "imitate" for limb in limbs for _ in limb.tokens]),
        sampled_N=torch.tensor([value for limb in limbs for value in limb.logprobs or [math.nan] * len(limb.tokens)]),
        shapes=shapes,
        shape_N=torch.tensor([shapes.index(limb.shape) if limb.shape else -1 for limb in limbs for _ in limb.tokens]),
    )


def parts_of(trees: Sequence[Tree]) -> Parts | None:
    """Return the places of the pieces of these packed trees; None if no limb has a token that is read."""
    spans = []
    for b, tree in enumerate(trees):
        start = len(tree.trunk.token_ids)
        for read in (len(limb.tokens) - 1 for limb in tree.limbs):
            if read:
                spans.append((b, start, read))
            start += read
    if not spans:
        return None
    owner_J, start_J, read_J = torch.tensor(spans).unbind(1)
    stem_J = torch.tensor([len(trees[b].trunk.token_ids) for b, _, _ in spans])
    longest, stem = int(read_J.max()), max(len(tree.trunk.token_ids) for tree in trees)
    step_T = torch.arange(longest)
    trunk_JP = torch.arange(stem) < stem_J[:, None]
    own_TT = step_T[:, None] >= step_T
    mask_JTS = torch.cat([trunk_JP[:, None].expand(-1, longest, -1), own_TT.expand(len(spans), -1, -1)], -1)
    return Parts(
        stem=stem,
        owner_J=owner_J,
        column_JT=start_J[:, None] + torch.minimum(step_T, read_J[:, None] - 1),
        written_JT=step_T < read_J[:, None],
        mask_J1TS=mask_JTS[:, None],
    )


def tree_mask(segment_BL: torch.Tensor) -> torch.Tensor:
    """Return [B, 1, L, L], True where a query (row) may attend to a key (column): causal, and within the trunk or the same branch.

    Padding attends to itself alone, so that no row of the softmax is empty.
    """
    index = torch.arange(segment_BL.shape[1], device=segment_BL.device)
    query, key = segment_BL[:, :, None], segment_BL[:, None, :]
    return _seen(query, key, index[:, None], index[None, :])[:, None]


def block_mask(segment_BL: torch.Tensor, block_size: int = 128) -> BlockMask:
    """Return the same mask for FlexAttention, which skips blocks that no branch attends to."""
    sequences, length = segment_BL.shape

    def mask_mod(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return _seen(segment_BL[b, q], segment_BL[b, k], q, k)

    return create_block_mask(mask_mod, sequences, None, length, length, device=segment_BL.device, BLOCK_SIZE=block_size)


def _seen(query: torch.Tensor, key: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Return whether a query may attend to a key, by their segments and indices; the rule of both masks."""
    return (((key == 0) | (key == query)) & (k <= q) & (query >= 0) & (key >= 0)) | (q == k)


def stack_vision(inputs: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return the vision inputs of several prompts as one batch: joined along the first dimension, the others padded with zeros.

    Inputs that are all expanded (`Tower.thin`) stay expanded.
    """
    out = {}
    for key in {k for one in inputs for k in one}:
        parts = [one[key] for one in inputs if key in one]
        shape = [max(sizes) for sizes in zip(*(p.shape[1:] for p in parts), strict=True)]
        held = [_held(p) for p in parts]
        sizes = [1 if all(h.shape[k + 1] == 1 for h in held) else size for k, size in enumerate(shape)]
        out[key] = torch.cat([_grown(h, sizes) for h in held]).expand(-1, *shape)
    return out


def _grown(part: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    if list(part.shape[1:]) == list(shape):
        return part
    grown = part.new_zeros(part.shape[0], *shape)
    grown[tuple(slice(0, s) for s in part.shape)] = part
    return grown
