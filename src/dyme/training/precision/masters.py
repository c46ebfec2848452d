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

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast, reduce

from dyme.model import adapters
from dyme.model.policy import Policy
from dyme.model.precision import all_finite

BUCKET = 64 * 2**20
"""Bytes of gradients that processes sum in one call; a larger gradient is summed by itself, in place."""


class Masters:
    """The weights that an optimizer moves, by their names in the policy, and their gradients."""

    def __init__(self, policy: Policy, dtype: torch.dtype, accelerator: Accelerator) -> None:
        """Make the policy compute in `dtype`. Several processes start from the weights of the main one."""
        self.accelerator = accelerator
        self.weights: dict[str, torch.Tensor] = {}
        """float32; those of a model that computes in float32 are its own."""
        self._own: dict[str, torch.nn.Parameter] = {}
        adapted = adapters.attached(policy.model)
        for name, weight in policy.named_parameters():
            if not weight.requires_grad:
                weight.data = weight.data.to(dtype)
                continue
            master = weight.data.float()
            if dtype != torch.float32 and not adapted:
                weight.data = master.to(dtype)
                weight.register_post_accumulate_grad_hook(_adder(master))  # type: ignore[no-untyped-call]
            else:
                weight.data, master = master, weight
            self.weights[name], self._own[name] = master, weight
        if accelerator.num_processes > 1:
            self.load({name: broadcast(master.detach()) for name, master in self.weights.items()})
        self.round()

    @torch.no_grad()
    def load(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Set the masters to these values, by name."""
        for name, master in self.weights.items():
            master.copy_(weights[name])
        self.round()

    @torch.no_grad()
    def round(self) -> None:
        """Set the model's weights to the rounded masters; call it after each step of the optimizer."""
        thresholds = torch.Generator(self.accelerator.device).manual_seed(0)
        for name, master in self.weights.items():
            own = self._own[name]
            if own is not master:
                own.copy_(dithered(master, thresholds) if own.dtype == torch.bfloat16 else master)

    def finite(self) -> bool:
        """Return whether all weights that train are finite in the type that the model computes with."""
        return all_finite(self._own.values())

    @torch.no_grad()
    def collect(self, scale: float) -> None:
        """Sum the gradients over all processes, and divide them by the `scale` of the loss."""
        masters = list(self.weights.values())
        if self.accelerator.num_processes > 1:
            given = torch.tensor([int(m.grad is not None) for m in masters], device=self.accelerator.device)
            for master, processes in zip(masters, reduce(given, "sum").tolist(), strict=True):
                if processes and master.grad is None:
                    master.grad = torch.zeros_like(master)
            for bucket in buckets([master.grad for master in masters if master.grad is not None]):
                _all_reduce(bucket)
        if scale != 1.0:
            for master in masters:
                if master.grad is not None:
                    master.grad /= scale

    def state(self, policy: Policy, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Return the policy's weights in `dtype` under their `state_dict` names: in the type it computes with, its own; else the masters.

        Adapters stay float32.
        """
        precise = {own.data_ptr(): self.weights[name].detach() for name, own in self._own.items() if own.dtype != dtype}
        made: dict[int, torch.Tensor] = {}  # tied weights stay tied
        for value in (state := policy.state_dict()).values():
            if value.data_ptr() not in made:
                best = precise.get(value.data_ptr(), value)
                made[value.data_ptr()] = best.to(dtype) if value.is_floating_point() else value
        return {name: made[value.data_ptr()] for name, value in state.items()}


def dithered(master: torch.Tensor, thresholds: torch.Generator) -> torch.Tensor:
    """Return `master`, rounded to bfloat16 values, in float32: each weight away from 0 above its own random threshold, else towards 0.

    bfloat16 is the upper half of float32's bits, so a threshold is a number that is added to the lower half.
    """
    added = torch.randint(1 << 16, master.shape, generator=thresholds, device=master.device, dtype=torch.int32)
    return ((master.view(torch.int32) + added) & -(1 << 16)).view(torch.float32)


def buckets(gradients: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Yield the gradients in order, in lists of at most BUCKET bytes, or of one gradient."""
    bucket: list[torch.Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and size + gradient.nbytes > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.nbytes
    if bucket:
        yield bucket


def _all_reduce(bucket: Sequence[torch.Tensor]) -> None:
    """Sum each gradient over all processes, in one call."""
    if len(bucket) == 1:
        torch.distributed.all_reduce(bucket[0])
        return
    flat = torch.cat([gradient.flatten() for gradient in bucket])
    torch.distributed.all_reduce(flat)
    for gradient, summed in zip(bucket, torch.split_with_sizes(flat, [gradient.numel() for gradient in bucket]), strict=True):
        gradient.copy_(summed.view_as(gradient))


def _adder(master: torch.Tensor) -> Callable[[torch.Tensor], None]:
    """Return a hook that adds the gradient of a half-precision weight to its master's gradient."""

    def add(weight: torch.Tensor) -> None:
        gradient, weight.grad = weight.grad, None
        if gradient is not None:
            master.grad = gradient.float() if master.grad is None else master.grad.add_(gradient)

    return add
