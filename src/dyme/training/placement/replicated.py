"""Each process has all weights, and the processes sum their gradients: plain data parallelism, or one process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from safetensors.torch import load_file, save_file
from torch.func import functional_call

from dyme.model import adapters
from dyme.model.policy import Policy
from dyme.model.tree import TreeBatch
from dyme.training.placement.placement import Build, Placement, Sections, tied
from dyme.training.precision.masters import Masters

BUCKET = 64 * 2**20
"""Bytes of gradients that processes sum in one call; a larger gradient is summed by itself, in place."""


class Replicated(Placement):
    """All weights on each process."""

    def __init__(self, policy: Policy, dtype: torch.dtype, accelerator: Accelerator, build: Build) -> None:
        """Make the policy compute in `dtype`, on the device. Several processes start from the weights of the main one."""
        self.policy, self.accelerator = policy.to(accelerator.device), accelerator
        weights: dict[str, torch.Tensor] = {}
        own: dict[str, torch.Tensor] = {}
        halved = dtype != torch.float32 and not adapters.attached(policy.model)
        for name, weight in policy.named_parameters():
            if not weight.requires_grad:
                weight.data = weight.data.to(dtype)
                continue
            master = weight.data.float()
            if accelerator.num_processes > 1:
                master = broadcast(master)
            if halved:
                weight.data = master.to(dtype)
                weight.register_post_accumulate_grad_hook(_adder(master))  # type: ignore[no-untyped-call]
            else:
                weight.data, master = master, weight
            weights[name], own[name] = master, weight
        self.masters = Masters(weights, own, dtype if halved else torch.float32)
        self.optimizer = accelerator.prepare(build(list(weights.values())))

    def gather_ends(self) -> None:
        """Do nothing: they are whole."""

    def clip(self, limit: float) -> torch.Tensor:
        """Clip the masters' gradients, and return their norm."""
        norm: torch.Tensor = self.accelerator.clip_grad_norm_(self.masters.weights.values(), limit)
        return norm

    def finite(self) -> bool:
        """Return whether all weights that train are finite."""
        return self.masters.finite()

    def copied(self) -> dict[str, torch.Tensor]:
        """Return copies of the policy's weights that train."""
        return {name: weight.detach().clone() for name, weight in self.masters.own.items()}

    def score(self, weights: Mapping[str, torch.Tensor], batch: TreeBatch, temperature: float) -> torch.Tensor:
        """Return what the policy would return for a batch if it had these weights."""
        scored: torch.Tensor = functional_call(self.policy, dict(weights), (batch, temperature))
        return scored

    def written(self, dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """Return the policy's weights in `dtype`, and adapters in float32."""
        own, adapted = self.masters.own, adapters.attached(self.policy.model)
        precise = {own[name].data_ptr(): master.detach() for name, master in self.masters.weights.items() if own[name].dtype != dtype}

        def make(value: torch.Tensor) -> torch.Tensor:
            best = precise.get(value.data_ptr(), value)
            return best if (adapted and best is not value) or not value.is_floating_point() else best.to(dtype)

        return tied(self.policy.state_dict(), torch.Tensor.data_ptr, make)

    def save(self, folder: Path, sections: Sections) -> None:
        """Write a file a section, and what accelerate writes."""
        self.accelerator.save_state(str(folder))
        if self.accelerator.is_main_process:
            for section, tensors in sections.items():
                save_file({name: tensor.detach() for name, tensor in tensors.items()}, _file(folder, section))

    def load(self, folder: Path, sections: Sections) -> None:
        """Read those files."""
        self.accelerator.load_state(str(folder))
        for section, tensors in sections.items():
            found = load_file(_file(folder, section))
            for name, tensor in tensors.items():
                tensor.detach().copy_(found[name])

    def _used(self) -> set[str]:
        return {name for name, master in self.masters.weights.items() if master.grad is not None}

    def _sum(self, used: set[str]) -> None:
        if self.accelerator.num_processes == 1:
            return
        for name in used:
            master = self.masters.weights[name]
            if master.grad is None:
                master.grad = torch.zeros_like(master)
        for bucket in buckets([master.grad for master in self.masters.weights.values() if master.grad is not None]):
            _all_reduce(bucket)


def _file(folder: Path, section: str) -> Path:
    return folder / f"{section}.safetensors"


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
