"""The cache of trunks with its gradient, and the same cache as the branches read it.

transformers' own cache is written in place (states of linear attention and of convolutions) and grows at every call; neither a backward
pass nor gradient checkpointing, which runs a layer twice, allows that. Here a forward pass over trunks fills `Trunk`, once; one over
branches reads `Branches` and writes nothing: what it would add is returned and forgotten. So each pass may be computed again.

No mask of ours is needed: a family's own masks, windows, convolutions and recurrences hold.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer, LinearAttentionLayer

Layer = Any


class Trunk(Cache):  # type: ignore[misc]
    """Keys, values and states of B trunks, empty until a forward pass has filled it."""

    def __init__(self, config: Any) -> None:
        """Raise TypeError for a kind of layer whose cache is none of keys and values, a window of them, or states."""
        super().__init__(layers=[_empty(layer) for layer in DynamicCache(config=config).layers])

    def behind(self, owner_J: torch.Tensor) -> Cache:
        """Hand over what was kept, as the cache of J branches behind these trunks; a layer that is computed again keeps nothing."""
        return Cache(layers=[layer.behind(owner_J) if isinstance(layer, (_Keys, _States)) else layer for layer in self.layers])


class _Keys(DynamicLayer):  # type: ignore[misc]
    """An attention layer's keys and values of the trunks, of the last `window` - 1 tokens if it has a window."""

    def __init__(self, window: int | None = None) -> None:
        super().__init__()
        self.window, self.is_sliding = window, window is not None
        self.kept: tuple[torch.Tensor, torch.Tensor] | None = None
        self.length, self.open = 0, True

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Keep what the branches read; return the trunks' own keys and values."""
        if self.open:
            start = 0 if self.window is None else max(0, key_states.shape[2] - self.window + 1)
            self.kept = key_states[:, :, start:], value_states[:, :, start:]
            self.length = key_states.shape[2]
        return key_states, value_states

    def behind(self, owner_J: torch.Tensor) -> Layer:
        assert self.kept is not None
        layer = _KeysBehind(*self.kept, owner_J, self.length, self.is_sliding)
        self.kept, self.open = None, False
        return layer

    def get_seq_length(self) -> int:
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0


class _KeysBehind(_Keys):
    """The same as branches read it: each branch's trunk, then its own."""

    def __init__(self, keys: torch.Tensor, values: torch.Tensor, owner_J: torch.Tensor, length: int, sliding: bool) -> None:
        super().__init__()
        self.keys, self.values, self.owner_J, self.length, self.is_sliding = keys, values, owner_J, length, sliding

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Return keys and values of the trunk and the branch; keep nothing."""
        assert self.keys is not None and self.values is not None
        return self._joined(self.keys, key_states), self._joined(self.values, value_states)

    def _joined(self, before: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        shared = before.expand(len(own), -1, -1, -1) if len(before) == 1 else before.index_select(0, self.owner_J)
        return torch.cat([shared, own], 2)

    def get_seq_length(self) -> int:
        return self.length

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        assert self.keys is not None
        held = self.keys.shape[2]
        return held + query_length, self.length - held


class _States(LinearAttentionLayer):  # type: ignore[misc]
    """The states of a linear-attention or convolution layer at the end of the trunks."""

    def __init__(self, number_of_states: int = 1) -> None:
        super().__init__(number_of_states)
        self.open = True

    def update_conv_state(self, conv_states: torch.Tensor, state_idx: int = 0, **settings: Any) -> torch.Tensor:
        """Keep the last columns that a convolution reaches back to; return the trunks' own."""
        if self.open:
            reach = settings.get("conv_kernel_size") or conv_states.shape[-1]
            short = max(0, reach - conv_states.shape[-1])
            self.conv_states[state_idx] = torch.nn.functional.pad(conv_states, (short, 0))[..., -reach:]
        return conv_states

    def update_recurrent_state(self, recurrent_states: torch.Tensor, state_idx: int = 0, **_: Any) -> torch.Tensor:
        """Keep the state at the end."""
        if self.open:
            self.recurrent_states[state_idx] = recurrent_states
        return recurrent_states

    def behind(self, owner_J: torch.Tensor) -> Layer:
        layer = _StatesBehind(self.number_of_states)
        for index in range(self.number_of_states):
            layer.conv_states[index] = _chosen(self.conv_states[index], owner_J)
            layer.recurrent_states[index] = _chosen(self.recurrent_states[index], owner_J)
            layer.has_previous_state[index] = True
            self.conv_states[index] = self.recurrent_states[index] = None
        self.open = False
        return layer


class _StatesBehind(_States):
    """The same as branches read it, which go on from there; their own states are read by nobody."""

    def update_conv_state(self, conv_states: torch.Tensor, state_idx: int = 0, **_: Any) -> torch.Tensor:
        """Return the trunks' last columns and the branches' own; keep nothing."""
        return torch.cat([self.conv_states[state_idx], conv_states], -1)

    def update_recurrent_state(self, recurrent_states: torch.Tensor, state_idx: int = 0, **_: Any) -> torch.Tensor:
        """Keep nothing."""
        return recurrent_states


def _chosen(state: torch.Tensor | None, owner_J: torch.Tensor) -> torch.Tensor | None:
    return None if state is None else state.index_select(0, owner_J)


def _empty(layer: Layer) -> Layer:
    """Return an empty layer of a trunk's cache for one of transformers' cache."""
    if type(layer) is LinearAttentionLayer:
        return _States(layer.number_of_states)
    if type(layer) is DynamicSlidingWindowLayer:
        return _Keys(layer.sliding_window)
    if type(layer) is DynamicLayer:
        return _Keys()
    if type(layer).__name__ == "DummyLayer":  # of a layer that reads another one's cache; unknown to the oldest transformers
        return layer
    raise TypeError(f"no cached trunk for a cache of {type(layer).__name__}")
