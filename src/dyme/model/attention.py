"""Attention that computes only the pairs that a prompt with several answers needs.

Packed trees: the trunk against itself, each branch against the trunk, the hint before it, if there is one, and itself. A dense mask over
the packed sequence would compute every branch against every other one.

Rollouts: each row's token against the trunk, which exists once for all rows of its prompt, and against the row's own tokens; the two are
merged by their log-sum-exps (shared-prefix attention: Hydragen, arXiv 2402.05099).

It is registered with transformers under the name `NAME` and calls the ordinary SDPA kernels, but for rollouts; inputs of other kinds
(rows, the vision tower) go to the kernels with their own mask.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from dyme.model.tree import Parts

NAME = "dyme_tree"
PIECES = 8


def tree_attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: Any, **kwargs: Any
) -> tuple[torch.Tensor, None]:
    """Return the attention [B, L, H, D] of query [B, H, L, D] over key and value [B, G, L, D]; by parts if the mask carries `Parts` or
    `Shared`.
    """
    parts: Parts | Shared | None = getattr(attention_mask, "carried", None)
    if isinstance(parts, Shared):
        return shared_attention(module, query, key, value, parts, **kwargs), None
    if parts is None:
        out: tuple[torch.Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
        return out
    stem, owner, column, seen = parts.stem, parts.owner_J[:, None], parts.column_JT, parts.seen_JR
    trunk = _causal(module, query[:, :, :stem], key[:, :, :stem], value[:, :, :stem], **kwargs)

    def behind(states: torch.Tensor) -> torch.Tensor:
        """Return [J, G, P + H + T, D]: the states of each piece's trunk, of the prefix before it, then the piece's own."""
        own = states.transpose(1, 2)[owner, seen].transpose(1, 2)
        shared = states[:, :, :stem].expand(len(column), -1, -1, -1) if len(states) == 1 else states[parts.owner_J, :, :stem]
        return torch.cat([shared, own], 2)

    asked = query.transpose(1, 2)[owner, column].transpose(1, 2)
    branches, _ = sdpa_attention_forward(module, asked, behind(key), behind(value), parts.mask_J1TS, **kwargs)
    whole = torch.nn.functional.pad(trunk, (0, 0, 0, 0, 0, query.shape[2] - stem))
    return whole.index_put((parts.row_W, parts.column_W), branches.flatten(0, 1).index_select(0, parts.written_W)), None


def _causal(module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """Return the causal attention of a sequence on itself. On a CPU it is computed in pieces, each on the keys before its end: as fast as
    the causal kernel there, and at most 1 / `PIECES` of the masked pairs is computed or counted.
    """
    length = query.shape[2]
    size = max(64, -(-length // PIECES)) if query.device.type == "cpu" else length
    if size >= length:
        out: torch.Tensor = sdpa_attention_forward(module, query, key, value, None, **kwargs)[0]
        return out
    pieces, before = [], _staircase(size, length)
    for start in range(0, length, size):
        end = min(start + size, length)
        seen = before[: end - start, length - start : length - start + end][None, None]
        pieces.append(sdpa_attention_forward(module, query[:, :, start:end], key[:, :, :end], value[:, :, :end], seen, **kwargs)[0])
    return torch.cat(pieces, 1)


@dataclass(slots=True)
class Shared:
    """Trunks of B prompts, and which of R rows stand behind each of them: at first K behind each, in order."""

    bias_B11P: torch.Tensor | None
    """0 at a trunk's tokens and -inf at its padding; None if nothing is padded."""
    keys: list[torch.Tensor] = field(default_factory=list)
    """The keys of each layer's trunks, [B, G, P, D]."""
    values: list[torch.Tensor] = field(default_factory=list)
    row_N: torch.Tensor | None = None
    """Once rows have been removed, the rows of each prompt, N = B x K; of a prompt that has fewer than K, any row takes their place."""
    place_R: torch.Tensor | None = None
    """The place of each row in `row_N`."""


def shared_attention(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, shared: Shared, *,
    scaling: float | None = None, softcap: float | None = None, position_bias: torch.Tensor | None = None, **kwargs: Any,
) -> torch.Tensor:  # fmt: skip
    """Return the attention [R, 1, H, D] of the rows' query [R, H, 1, D] over their trunks and over their own key and value [R, G, T, D].

    All queries behind a trunk meet its keys at once. Raises ValueError for a model that changes the scores.
    """
    if softcap is not None or position_bias is not None:
        raise ValueError("scores that the model changes are not supported")
    rows, heads, _, width = query.shape
    trunk_key, trunk_value = shared.keys[module.layer_idx], shared.values[module.layer_idx]  # type: ignore[index]
    prompts, groups = trunk_key.shape[:2]
    each, scale = heads // groups, width**-0.5 if scaling is None else scaling
    asked = query.reshape(rows, groups, each, width)
    together = asked if shared.row_N is None else asked.index_select(0, shared.row_N)
    behind = together.view(prompts, -1, groups, each, width).transpose(1, 2).reshape(prompts, groups, -1, width)

    def returned(part: torch.Tensor) -> torch.Tensor:
        """Return [R, G, H / G, ...] of [B, G, K x H / G, ...]: from the order of trunks to that of rows."""
        by_row = part.view(prompts, groups, -1, each, part.shape[-1]).transpose(1, 2).flatten(0, 1)
        return by_row if shared.place_R is None else by_row.index_select(0, shared.place_R)

    trunk, trunk_sum = map(returned, _partial(behind, trunk_key, trunk_value, scale, shared.bias_B11P))
    own, own_sum = _partial(asked, key, value, scale)
    merged = own.float().lerp(trunk.float(), (trunk_sum - own_sum).float().sigmoid())
    return merged.view(rows, 1, heads, -1).to(query.dtype)


def _partial(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, bias: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the attention [N, G, M, D] of query [N, G, M, D] over some of the keys [N, G, S, D], and the log-sum-exp [N, G, M, 1] of
    their scores; scores are in float32.
    """
    if query.device.type != "cpu":
        return _by_products(query, key, value, scale, bias)
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu  # SDPA's kernel; SDPA itself does not return the sums
    out, total = kernel(query, key, value, attn_mask=None if bias is None else bias.to(query.dtype), scale=scale)
    return out, total[..., None]


def _by_products(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, bias: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the same by two matrix products, on any device, in float32."""
    score = _product(query, key.transpose(2, 3))
    if bias is not None:
        score += bias
    most = score.amax(-1, keepdim=True)
    weight = score.sub_(most).mul_(scale).exp_()
    total = weight.sum(-1, keepdim=True)
    return _product(weight.to(value.dtype), value).div_(total), most.mul_(scale).add_(total.log())


def _product(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the products [N, G, ...] of matrices of one type, summed and returned in float32."""
    left, right = one.flatten(0, 1), other.flatten(0, 1)
    half = one.is_cuda and one.dtype != torch.float32
    out = torch.bmm(left, right, out_dtype=torch.float32) if half else torch.bmm(left.float(), right.float())
    return out.view(*one.shape[:2], *out.shape[1:])


@functools.lru_cache(maxsize=1)
def _staircase(size: int, length: int) -> torch.Tensor:
    """Return [size, length + size], True where column c <= length + row: each piece's mask is a part of it, so all layers share it."""
    return torch.ones(size, length + size, dtype=torch.bool).tril(length)


def carrier(carried: Parts | Shared, device: torch.device) -> torch.Tensor:
    """Return an empty tensor that carries parts to every layer in place of a mask: models pass on a mask of four dimensions unchanged.

    A model that uses the tensor as a mask instead fails, because it is empty, and never attends wrongly.
    """
    mask = torch.empty((1, 1, 0, 0), dtype=torch.bool, device=device)
    mask.carried = carried  # type: ignore[attr-defined]
    return mask


def register() -> None:
    """Register the attention with transformers."""
    AttentionInterface.register(NAME, tree_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
