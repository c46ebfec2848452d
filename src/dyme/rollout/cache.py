"""The cache of a rollout: keys and values of B prompts, computed once, and of the K completions behind each of them.

shared      those of the prompts stay as they are, once; each completion has a short cache of its own, and `model/attention.py` attends to
            both. For models whose layers all attend to every earlier token, through the attention that the policy sets.
prepared    each completion has a copy of its prompt's, with its own behind it, and each type of layer a mask made here: for sliding
            windows, convolutions, linear attention.
expanded    the same with a mask of tokens and padding, from which transformers makes its own, some of them by a look at it for each
            token: for models that take no masks by type of layer, or other attention.
growing     the same in the cache that transformers has, where each token copies all earlier ones: for a model that fits none of these.

In the first three a token is written in place, into memory that is taken for `BLOCK` tokens at a time: never more than `BLOCK` tokens a row
above what the last takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from dyme.model.attention import Shared, carrier

Kind = Literal["shared", "prepared", "expanded", "growing"]
ATTENDING = ("full_attention", "sliding_attention")
"""Types of layers that a padded prompt's mask matters to, for a single token behind it."""
TYPES = (*ATTENDING, "conv", "linear_attention")
"""Types of layers whose masks can be prepared."""
BLOCK = 64
"""Tokens for which a layer takes memory at a time."""


Mask = torch.Tensor | dict[str, torch.Tensor | None]
"""What a model's forward takes as `attention_mask`: a tensor for all layers, or one by type of layer, None where nothing is hidden."""


class Held(Protocol):
    """A cache of R rows, all of one length."""

    cache: DynamicCache

    def mask(self) -> Mask:
        """Return the attention mask for the next token of each row, which must follow."""

    def keep(self, rows: Sequence[int]) -> None:
        """Remove all rows but these, which are in ascending order."""


class InPlace(DynamicLayer):  # type: ignore[misc]
    """A layer's keys and values [R, G, S, D] of R rows; a token is written behind the `length` that are in use."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, *, length: int, before: int = 0) -> None:
        """`before`: the number of earlier tokens, which are kept elsewhere."""
        super().__init__()
        self.keys, self.values, self.length, self.before = keys, values, length, before
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Write the keys and values of the next tokens, and return those in use."""
        start, end = self.length, self.length + key_states.shape[-2]
        if end > self.keys.shape[2]:
            self.keys, self.values = _roomy(self.keys, start, end + BLOCK - 1), _roomy(self.values, start, end + BLOCK - 1)
        self.keys[:, :, start:end], self.values[:, :, start:end] = key_states, value_states
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]

    def get_seq_length(self) -> int:
        """Return the number of tokens before the next one."""
        return self.before + self.length

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        """Keep these rows."""
        self.keys, self.values = (_roomy(own, self.length, own.shape[2], beam_idx) for own in (self.keys, self.values))


def _roomy(states: torch.Tensor, length: int, room: int, rows: torch.Tensor | None = None) -> torch.Tensor:
    """Return [R, G, room, D] that begins with the first `length` tokens of the states, or of these rows of them; the rest is not set."""
    used = states[:, :, :length] if rows is None else states[:, :, :length].index_select(0, rows)
    out = states.new_empty(len(used), states.shape[1], room, states.shape[3])
    out[:, :, :length] = used
    return out


class SharedCache:
    """The kind "shared"."""

    def __init__(self, cache: DynamicCache, mask_BP: torch.Tensor, per_prompt: int) -> None:
        self.cache, device = cache, mask_BP.device
        self.owners = [b for b in range(len(mask_BP)) for _ in range(per_prompt)]
        bias = None if mask_BP.all() else torch.zeros_like(mask_BP, dtype=torch.float32).masked_fill(mask_BP == 0, -torch.inf)
        self.shared = Shared(None if bias is None else bias[:, None, None])
        self._mask = carrier(self.shared, device)
        for place, layer in enumerate(cache.layers):
            keys, values = layer.keys, layer.values
            assert keys is not None and values is not None
            self.shared.keys.append(keys)
            self.shared.values.append(values)
            own = (states.new_empty(len(self.owners), states.shape[1], 0, states.shape[3]) for states in (keys, values))
            cache.layers[place] = InPlace(*own, length=0, before=keys.shape[2])

    def mask(self) -> Mask:
        """Return what every layer's attention reads of trunks and rows."""
        return self._mask

    def keep(self, rows: Sequence[int]) -> None:
        """Remove all rows but these, and the trunks behind which none is left."""
        device, own = self.shared.keys[0].device, [self.owners[row] for row in rows]
        left = sorted(set(own))
        self.cache.reorder_cache(torch.tensor(rows, device=device))
        if len(left) < len(self.shared.keys[0]):
            kept = torch.tensor(left, device=device)
            for states in (self.shared.keys, self.shared.values):
                states[:] = [layer.index_select(0, kept) for layer in states]
            if self.shared.bias_B11P is not None:
                self.shared.bias_B11P = self.shared.bias_B11P[kept]
        self.owners = [left.index(owner) for owner in own]
        behind: list[list[int]] = [[] for _ in left]
        for row, owner in enumerate(self.owners):
            behind[owner].append(row)
        most = max(map(len, behind))
        places = [owner * most + behind[owner].index(row) for row, owner in enumerate(self.owners)]
        self.shared.row_N = torch.tensor([row for own in behind for row in own + own[:1] * (most - len(own))], device=device)
        self.shared.place_R = torch.tensor(places, device=device)


class ExpandedCache:
    """The kinds "expanded" and, unless `in_place`, "growing"."""

    def __init__(self, cache: DynamicCache, mask_BP: torch.Tensor, per_prompt: int, in_place: bool) -> None:
        self.cache = cache
        every = torch.arange(len(mask_BP), device=mask_BP.device).repeat_interleave(per_prompt)
        self._mask_RL = mask_BP[every]
        for place, layer in enumerate(cache.layers):
            if in_place and type(layer) is DynamicLayer and layer.keys is not None and layer.values is not None:
                length = layer.get_seq_length()
                keys, values = (_roomy(states, length, length + BLOCK, every) for states in (layer.keys, layer.values))
                cache.layers[place] = InPlace(keys, values, length=length)
            elif per_prompt > 1:
                layer.reorder_cache(every)  # by index, the only way that convolution layers support

    def mask(self) -> Mask:
        """Return True for tokens and False for padding, the next token included."""
        self._mask_RL = torch.nn.functional.pad(self._mask_RL, (0, 1), value=1)
        return self._mask_RL

    def keep(self, rows: Sequence[int]) -> None:
        """Remove all rows but these."""
        chosen = torch.tensor(rows, device=self._mask_RL.device)
        self.cache.reorder_cache(chosen)
        self._mask_RL = self._mask_RL[chosen]


class PreparedCache(ExpandedCache):
    """The kind "prepared"; `types` names the type of each of the model's layers."""

    def __init__(self, cache: DynamicCache, mask_BP: torch.Tensor, per_prompt: int, types: Sequence[str]) -> None:
        super().__init__(cache, mask_BP, per_prompt, in_place=True)
        self._first = {name: cache.layers[types.index(name)] for name in types}
        self._padded = not mask_BP.all()
        dtype = next(layer.keys.dtype for layer in cache.layers if isinstance(layer, DynamicLayer) and layer.keys is not None)
        self._mask_RL = torch.zeros_like(self._mask_RL, dtype=dtype).masked_fill(self._mask_RL == 0, -torch.inf)

    def mask(self) -> Mask:
        """Return what each type of layer adds to its scores: 0 at the tokens that it sees, the next one included, -inf at padding."""
        self._mask_RL = torch.nn.functional.pad(self._mask_RL, (0, 1))
        return {name: self._added(layer) if self._padded and name in ATTENDING else None for name, layer in self._first.items()}

    def _added(self, layer: DynamicLayer) -> torch.Tensor:
        return self._mask_RL[:, None, None, -layer.get_mask_sizes(1)[0] :]


def hold(cache: DynamicCache, mask_BP: torch.Tensor, per_prompt: int, kind: Kind, types: Sequence[str] = ()) -> Held:
    """Return the cache of K completions behind each prompt, made from the prompts' cache, which is used up; `types` are the layers'."""
    if kind == "shared":
        return SharedCache(cache, mask_BP, per_prompt)
    if kind == "prepared":
        return PreparedCache(cache, mask_BP, per_prompt, types)
    return ExpandedCache(cache, mask_BP, per_prompt, in_place=kind == "expanded")
