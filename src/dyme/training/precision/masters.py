"""Float32 masters of the weights that train (Micikevicius et al., 2018, arXiv 1710.03740).

A model that computes in half precision cannot hold small updates: AdamW moves a weight by about the learning rate at most, and near
0.05 bfloat16 has no step smaller than 1e-4. So the optimizer moves float32 masters, gradients are added up in float32, and after
each step the model's own weights are the masters, rounded.

A published bfloat16 checkpoint lies on bfloat16's grid, where rounding to the nearest would hide every update until it has grown to half a
step of the grid: at a rate of 1e-5 a model would learn next to nothing in its first twenty steps. So each master has its own
fixed threshold between the two neighbouring values, at which it is rounded up or down: of the weights that moved by a tenth of a step,
a tenth take the next value at once. A weight on the grid stays unchanged. float16's grid is eight times as fine; its weights are rounded
to the nearest value.

Where a model computes in float32, its weights are the masters. LoRA's adapters are float32 in every model, peft's default.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.distributed.tensor import DTensor

from dyme.model.precision import all_finite


class Masters:
    """The weights that an optimizer moves, by their names in the policy, and the model's own weights, which are set from them.

    Where weights are sharded (`training/placement/sharded.py`), a process has a part of each.
    """

    def __init__(self, weights: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor], dtype: torch.dtype) -> None:
        """`own` are the model's weights, with which it computes in `dtype`; where the two are one tensor, nothing is rounded."""
        self.weights, self.own, self.dtype = weights, own, dtype
        self.round()

    @property
    def nbytes(self) -> int:
        """Return the bytes of the masters on this process."""
        return sum(local(master).nbytes for master in self.weights.values())

    @torch.no_grad()
    def round(self) -> None:
        """Set the model's weights to the rounded masters; call it after each step of the optimizer."""
        device = next((master.device for master in self.weights.values()), torch.device("cpu"))
        thresholds = torch.Generator(device).manual_seed(0)
        for name, master in self.weights.items():
            own = self.own[name]
            if own is master:
                continue
            if self.dtype == torch.bfloat16:
                drawn = torch.randint(1 << 16, master.shape, generator=thresholds, device=device, dtype=torch.int32)
                local(own).copy_(dithered(local(master), part_of(drawn, master)))
            else:
                local(own).copy_(local(master))

    def finite(self) -> bool:
        """Return whether all weights that train are finite, on this process, in the type that the model computes with."""
        return all_finite(local(own).to(self.dtype) for own in self.own.values())


def local(tensor: torch.Tensor) -> torch.Tensor:
    """Return this process's part of a sharded tensor, or a plain tensor itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def part_of(whole: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Return the part of `whole` that this process has of `like`, which is sharded along its first dimension or plain."""
    if not isinstance(like, DTensor):
        return whole
    mesh = like.device_mesh
    parts, place = whole.chunk(mesh.size(mesh.ndim - 1)), mesh.get_local_rank(mesh.ndim - 1)
    return parts[place] if place < len(parts) else whole[:0]


def dithered(master: torch.Tensor, thresholds: torch.Tensor) -> torch.Tensor:
    """Return `master`, rounded to bfloat16 values, in float32: each weight away from 0 above its own threshold, else towards 0.

    bfloat16 is the upper half of float32's bits, so a threshold is a number, below 2^16, that is added to the lower half.
    """
    return ((master.view(torch.int32) + thresholds) & -(1 << 16)).view(torch.float32)
