"""Trees as tensors: a batch in each layout, with the places of its pieces and of the tokens that are predicted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from dyme.model.tree.shape import Layout, Limb, Prompt, Tree
from dyme.types import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Places of the pieces of B packed trees: J branches and prefixes of at most T tokens, behind trunks of at most P and prefixes of at
    most H.
    """

    stem: int
    """Tokens of the longest trunk, P."""
    owner_J: torch.Tensor
    """The tree of each piece."""
    column_JT: torch.Tensor
    """Places of each piece's tokens in the packed sequence; past the end of a piece, its last token again."""
    seen_JR: torch.Tensor
    """Places of the H tokens of the prefix before each piece, then of its own T tokens."""
    written_W: torch.Tensor
    """The W tokens that are a piece's own, among all J x T."""
    row_W: torch.Tensor
    column_W: torch.Tensor
    """Place of each of them in the packed sequences: [row, column]."""
    mask_J1TS: torch.Tensor
    """True where a piece's tokens may attend: the trunk's P columns, the prefix's H, then the piece's own T."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Branches:
    """J branches of at most T tokens as rows behind B cached trunks of at most P tokens, padded on the right."""

    input_ids_JT: torch.Tensor
    owner_J: torch.Tensor
    """The trunk of each branch."""
    mask_JS: torch.Tensor
    """1 for the tokens of the branch's trunk (P columns) and for its own (T columns), 0 for padding."""
    position_ids: torch.Tensor
    """[J, T], or [C, J, T] for families with C rotary axes."""
    types: dict[str, torch.Tensor]
    """Inputs of one number per token that an answer's tokens need, [J, T]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeBatch:
    """Trees as tensors. B sequences (trees, trunks or rows), L positions, N predicted tokens.

    Sequences are padded on the right; cached trunks on the left, so that their cache ends where branches begin.
    """

    layout: Layout
    input_ids_BL: torch.Tensor
    segment_BL: torch.Tensor
    """0 for a trunk, k for its k-th piece, prefixes first, -1 for padding."""
    above_BL: torch.Tensor
    """Segment of the prefix before each token's piece, 0 where there is none."""
    parts: Parts | None
    """Places of the pieces of packed trees."""
    branches: Branches | None = None
    """The branches behind cached trunks."""
    position_ids: torch.Tensor
    """[B, L], or [C, B, L] for families with C rotary axes."""
    types: dict[str, torch.Tensor]
    """Inputs of one number per token, [B, L]."""
    vision: dict[str, torch.Tensor]
    images: tuple[str, ...]
    """Identity of each sequence's vision inputs, in order; sequences without an image are left out."""
    row_N: torch.Tensor
    column_N: torch.Tensor
    """Place of the hidden state that predicts each token: [row, column]; behind cached trunks a row of 0 and a column that counts on
    through all trunks, then through all branches."""
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

    @property
    def tokens(self) -> int:
        """Return the number of tokens that the model reads, padding included."""
        return self.input_ids_BL.numel() + (self.branches.input_ids_JT.numel() if self.branches else 0)

    def to(self, device: torch.device | str) -> TreeBatch:
        """Return the batch on a device."""
        return to_device(self, device)  # type: ignore[no-any-return]


def to_device(value: Any, device: torch.device | str) -> Any:
    """Return a batch, or a dictionary of tensors, on a device."""
    if isinstance(value, dict):
        return {k: to_device(v, device) for k, v in value.items()}
    if isinstance(value, (TreeBatch, Parts, Branches)):
        return replace(value, **{f.name: to_device(getattr(value, f.name), device) for f in fields(value)})
    return _sent(value, device) if isinstance(value, torch.Tensor) else value


def _sent(value: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Return the tensor on a device; of an expanded tensor, only the stored numbers are sent."""
    return _held(value).to(device, non_blocking=True).expand(value.shape)


def _held(value: torch.Tensor) -> torch.Tensor:
    """Return an expanded tensor without its repetitions: dimensions of stride 0, except for the first, get size 1."""
    return value[(slice(None), *(slice(0, 1) if stride == 0 else slice(None) for stride in value.stride()[1:]))] if value.ndim else value


def collate(trees: Sequence[Tree], pad: int, layout: Layout = "tree", answer_types: dict[str, int] | None = None) -> TreeBatch:
    """Return trees as a batch, padded with `pad`: packed trees side by side, trunks and branches apart if they are cached, or each limb
    behind its trunk as a separate row.

    `answer_types` gives the value of per-token inputs at the answers' tokens (0 unless named).
    """
    if layout == "cached":
        return _cached(trees, pad, answer_types or {})
    rows = trees if layout == "tree" else [replace(tree, limbs=(limb,)) for tree in trees for limb in tree.limbs]
    longest, n = max(map(len, rows)), len(rows)
    ids = torch.full((n, longest), pad)
    axes = max(1 if row.trunk.positions_CP is None else len(row.trunk.positions_CP) for row in rows)
    positions = torch.zeros((axes, n, longest), dtype=torch.long)
    segment, above = torch.full((n, longest), -1), torch.zeros((n, longest), dtype=torch.long)
    types = {name: torch.zeros((n, longest), dtype=torch.long) for name in rows[0].trunk.types}
    columns: list[int] = []
    place: list[int] = []
    limbs: list[Limb] = []
    for b, row in enumerate(rows):
        stem = len(row.trunk.token_ids)
        ids[b, :stem] = torch.tensor(row.trunk.token_ids)
        positions[:, b, :stem] = torch.arange(stem) if row.trunk.positions_CP is None else row.trunk.positions_CP
        segment[b, :stem] = 0
        for name, values in types.items():
            values[b, :stem] = row.trunk.types[name]
        hints, answers = row.pieces()
        for k, piece in enumerate((*hints, *answers), start=1):
            there = piece.columns
            before = len(piece.above.tokens) if piece.above else 0
            ids[b, there] = torch.tensor(piece.tokens, dtype=torch.long)
            positions[:, b, there] = torch.arange(len(piece.tokens)) + row.trunk.next_position + before
            segment[b, there] = k
            above[b, there] = hints.index(piece.above) + 1 if piece.above else 0
        for limb, piece in zip(row.limbs, answers, strict=True):
            for name, values in types.items():
                values[b, piece.columns] = (answer_types or {}).get(name, 0)
            columns += [(piece.above.columns.stop if piece.above else stem) - 1, *range(piece.columns.start, piece.columns.stop)]
            place += [b] * len(limb.tokens)
            limbs.append(limb)
    return TreeBatch(
        layout=layout,
        input_ids_BL=ids,
        segment_BL=segment,
        above_BL=above,
        parts=parts_of(rows) if layout == "tree" else None,
        position_ids=positions[0] if axes == 1 else positions,
        types=types,
        vision=stack_vision([row.trunk.vision for row in rows]),
        images=tuple(row.trunk.images for row in rows if row.trunk.vision),
        row_N=torch.tensor(place),
        column_N=torch.tensor(columns),
        **_predicted(limbs),
    )


def _predicted(limbs: Sequence[Limb]) -> dict[str, Any]:
    """Return the predicted tokens of the limbs with their inputs of the objective, as fields of a batch."""
    shapes = tuple(dict.fromkeys(limb.shape for limb in limbs if limb.shape is not None))
    return {
        "target_N": torch.tensor([t for limb in limbs for t in limb.tokens]),
        "weight_N": torch.tensor([limb.token_weight for limb in limbs for _ in limb.tokens]),
        "advantage_N": torch.tensor([limb.advantage for limb in limbs for _ in limb.tokens]),
        "imitate_N": torch.tensor([limb.term == "imitate" for limb in limbs for _ in limb.tokens]),
        "sampled_N": torch.tensor([value for limb in limbs for value in limb.logprobs or [math.nan] * len(limb.tokens)]),
        "shapes": shapes,
        "shape_N": torch.tensor([shapes.index(limb.shape) if limb.shape else -1 for limb in limbs for _ in limb.tokens]),
    }


def _cached(trees: Sequence[Tree], pad: int, answer_types: dict[str, int]) -> TreeBatch:
    """Return a batch of cached trunks, padded on the left, and the branches behind them; a hint is read as the end of a trunk of its own.

    There is always a row of branches, and it has at least two tokens: models take another way, which writes into the cache, for one.
    """
    stems = {(k, limb.prefix): tree.trunk.extended(limb.prefix) for k, tree in enumerate(trees) for limb in tree.limbs}
    number = {stem: row for row, stem in enumerate(stems)}
    trunks, limbs = list(stems.values()), [limb for tree in trees for limb in tree.limbs]
    owners = [number[k, limb.prefix] for k, tree in enumerate(trees) for limb in tree.limbs]
    stem, read = max(len(trunk.token_ids) for trunk in trunks), max(2, *(len(limb.tokens) - 1 for limb in limbs))
    rows = [k for k, limb in enumerate(limbs) if len(limb.tokens) > 1] or [0]
    ids, mask_BL, positions, types = padded_left(trunks, pad)
    own_JT = torch.full((len(rows), read), pad)
    written_JT = torch.zeros((len(rows), read), dtype=torch.long)
    columns = [[len(trunks) * stem + j * read + t for t in range(len(limbs[k].tokens) - 1)] for j, k in enumerate(rows)]
    before = dict(zip(rows, columns, strict=True))
    for j, k in enumerate(rows):
        size = len(limbs[k].tokens) - 1
        own_JT[j, :size] = torch.tensor(limbs[k].tokens[:-1], dtype=torch.long)
        written_JT[j, :size] = 1
    owner_J = torch.tensor([owners[k] for k in rows])
    following_J1 = torch.tensor([trunk.next_position for trunk in trunks])[owner_J][:, None]
    following_JT = following_J1 + torch.arange(read)
    column_N = [column for k, owner in enumerate(owners) for column in (owner * stem + stem - 1, *before.get(k, ()))]
    return TreeBatch(
        layout="cached",
        input_ids_BL=ids,
        segment_BL=mask_BL - 1,
        above_BL=torch.zeros_like(mask_BL),
        parts=None,
        branches=Branches(
            input_ids_JT=own_JT,
            owner_J=owner_J,
            mask_JS=torch.cat([mask_BL[owner_J], written_JT], 1),
            position_ids=following_JT if positions.ndim == 2 else following_JT.expand(len(positions), -1, -1),
            types={name: torch.full_like(own_JT, value) for name, value in answer_types.items()},
        ),
        position_ids=positions,
        types=types,
        vision=stack_vision([trunk.vision for trunk in trunks]),
        images=tuple(trunk.images for trunk in trunks if trunk.vision),
        row_N=torch.zeros(len(column_N), dtype=torch.long),
        column_N=torch.tensor(column_N),
        **_predicted(limbs),
    )


def padded_left(prompts: Sequence[Prompt], pad: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Return token ids [B, P] of prompts padded on the left, their mask (1 for tokens), positions ([B, P], or [C, B, P] on C axes) and
    inputs of one number per token.
    """
    longest = max(len(prompt.token_ids) for prompt in prompts)
    axes = max(1 if prompt.positions_CP is None else len(prompt.positions_CP) for prompt in prompts)
    ids = torch.full((len(prompts), longest), pad)
    mask = torch.zeros((len(prompts), longest), dtype=torch.long)
    positions = torch.zeros((axes, len(prompts), longest), dtype=torch.long)
    types = {name: torch.zeros_like(mask) for name in prompts[0].types}
    for b, prompt in enumerate(prompts):
        start = longest - len(prompt.token_ids)
        ids[b, start:] = torch.tensor(prompt.token_ids)
        mask[b, start:] = 1
        positions[:, b, start:] = torch.arange(longest - start) if prompt.positions_CP is None else prompt.positions_CP
        for name, values in types.items():
            values[b, start:] = prompt.types[name]
    return ids, mask, positions[0] if axes == 1 else positions, types


def parts_of(trees: Sequence[Tree]) -> Parts | None:
    """Return the places of the pieces of these packed trees; None if no piece has a token that is read."""
    pieces = [(b, piece) for b, tree in enumerate(trees) for kind in tree.pieces() for piece in kind if piece.tokens]
    if not pieces:
        return None
    spans = [(b, piece.start, len(piece.tokens), *((a.start, len(a.tokens)) if (a := piece.above) else (0, 0))) for b, piece in pieces]
    owner_J, start_J, read_J, lead_J, led_J = torch.tensor(spans).unbind(1)
    stem_J = torch.tensor([len(trees[b].trunk.token_ids) for b, _ in pieces])
    longest, led, stem = int(read_J.max()), int(led_J.max()), max(len(tree.trunk.token_ids) for tree in trees)
    step_T, step_H = torch.arange(longest), torch.arange(led)
    before_JS = torch.cat([torch.arange(stem) < stem_J[:, None], step_H < led_J[:, None]], 1)
    own_TT = step_T[:, None] >= step_T
    column_JT = start_J[:, None] + torch.minimum(step_T, read_J[:, None] - 1)
    written_JT = step_T < read_J[:, None]
    return Parts(
        stem=stem,
        owner_J=owner_J,
        column_JT=column_JT,
        seen_JR=torch.cat([lead_J[:, None] + torch.minimum(step_H, (led_J[:, None] - 1).clamp(min=0)), column_JT], 1),
        written_W=written_JT.flatten().nonzero()[:, 0],
        row_W=owner_J[:, None].expand_as(column_JT)[written_JT],
        column_W=column_JT[written_JT],
        mask_J1TS=torch.cat([before_JS[:, None].expand(-1, longest, -1), own_TT.expand(len(pieces), -1, -1)], -1)[:, None],
    )


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
