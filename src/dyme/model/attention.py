"""Attention over packed trees that computes only the pairs that the tree needs: the trunk against itself, each branch against the
trunk, the hint before it, if there is one, and itself. A dense mask over the packed sequence would compute every branch against every
other one.

It is registered with transformers under the name `NAME` and calls the ordinary SDPA kernels; inputs that are not trees (rollouts,
rows, the vision tower) go to the kernels with their own mask.
"""

from __future__ import annotations

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
    """Return the attention [B, L, H, D] of query [B, H, L, D] over key and value [B, G, L, D]; by parts if the mask carries `Parts`."""
    parts: Parts | None = getattr(attention_mask, "parts", None)
    if parts is None:
        causal = getattr(module, "is_causal", True) and kwargs.get("is_causal") is not False
        if attention_mask is None and causal and query.shape[2] == key.shape[2]:
            return _causal(module, query, key, value, **kwargs), None
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
    written = parts.written_JT
    return whole.index_put((owner.expand_as(column)[written], column[written]), branches[written]), None


def _causal(module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **kwargs: Any) -> torch.Tensor:
    """Return the causal attention of a sequence on itself. On a CPU it is computed in pieces, each on the keys before its end: as fast as
    the causal kernel there, and at most 1 / `PIECES` of the masked pairs is computed or counted.
    """
    length = query.shape[2]
    size = max(64, -(-length // PIECES)) if query.device.type == "cpu" else length
    if size >= length:
        out: torch.Tensor = sdpa_attention_forward(module, query, key, value, None, **kwargs)[0]
        return out
    pieces = []
    for start in range(0, length, size):
        end = min(start + size, length)
        seen = torch.ones(1, 1, end - start, end, dtype=torch.bool).tril(start)
        pieces.append(sdpa_attention_forward(module, query[:, :, start:end], key[:, :, :end], value[:, :, :end], seen, **kwargs)[0])
    return torch.cat(pieces, 1)


def carrier(parts: Parts) -> torch.Tensor:
    """Return an empty tensor that carries `parts` to every layer in place of a mask: models pass on a mask of four dimensions unchanged.

    A model that uses the tensor as a mask instead fails, because it is empty, and never attends wrongly.
    """
    mask = torch.empty((1, 1, 0, 0), dtype=torch.bool, device=parts.owner_J.device)
    mask.parts = parts  # type: ignore[attr-defined]
    return mask


def register() -> None:
    """Register the attention with transformers."""
    AttentionInterface.register(NAME, tree_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
