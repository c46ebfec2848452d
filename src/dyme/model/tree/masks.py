"""Which tokens of a packed tree attend to which, as a mask of booleans and as one for FlexAttention."""

from __future__ import annotations

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask


def tree_mask(segment_BL: torch.Tensor, above_BL: torch.Tensor) -> torch.Tensor:
    """Return [B, 1, L, L], True where a query (row) may attend to a key (column): causal, and within the trunk, the prefix before the
    query's piece, or the same piece.

    Padding attends to itself alone, so that no row of the softmax is empty.
    """
    index = torch.arange(segment_BL.shape[1], device=segment_BL.device)
    query, above, key = segment_BL[:, :, None], above_BL[:, :, None], segment_BL[:, None, :]
    return _seen(query, above, key, index[:, None], index[None, :])[:, None]


def block_mask(segment_BL: torch.Tensor, above_BL: torch.Tensor, block_size: int = 128) -> BlockMask:
    """Return the same mask for FlexAttention, which skips blocks that no piece attends to."""
    sequences, length = segment_BL.shape

    def mask_mod(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return _seen(segment_BL[b, q], above_BL[b, q], segment_BL[b, k], q, k)

    return create_block_mask(mask_mod, sequences, None, length, length, device=segment_BL.device, BLOCK_SIZE=block_size)


def _seen(query: torch.Tensor, above: torch.Tensor, key: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
    """Return whether a query may attend to a key, by their segments, the one above the query, and indices; the rule of both masks."""
    return (((key == 0) | (key == query) | (key == above)) & (k <= q) & (query >= 0) & (key >= 0)) | (q == k)
