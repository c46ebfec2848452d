"""Memory of a device: the free bytes, the bytes that a forward pass keeps for its backward pass, and the size of a micro-batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import psutil
import torch

from dyme.system.launch import local_count

MOST_TOKENS = {"cuda": 131072, "cpu": 8192}
"""Largest automatic micro-batch."""


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that a device has no memory left; a CPU's is a plain RuntimeError."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in ("out of memory", "allocate memory", "ALLOC_FAILED"))


def saved_bytes(forward: Callable[[], torch.Tensor], weights: Iterable[torch.Tensor] = ()) -> int:
    """Return the bytes that a forward pass keeps for its backward pass, without the weights; each storage counts once.

    A pass through an adapter keeps frozen weights transposed; these are recognised only if given as `weights`.
    """
    own = {weight.untyped_storage().data_ptr() for weight in weights}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter) and not (tensor.is_leaf and tensor.requires_grad):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        held = forward()
    del held
    return sum(kept.values())


def free_bytes(device: torch.device) -> int:
    """Return the bytes that the device could still give to this process: the available memory, file cache included, divided by the
    number of processes on this computer unless the device is this process's own.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(psutil.virtual_memory().available) // local_count()


def token_budget(bytes_per_token: float, free: int, reserved: int, device: torch.device) -> int:
    """Return the tokens of a micro-batch: as many as half of `free - reserved` bytes holds, within [256, MOST_TOKENS].

    `reserved` are the bytes of gradients and moments. On a CPU small batches are as fast as large ones, so the limit there seldom depends
    on memory.
    """
    fits = int(max(0, free - reserved) / 2 / max(1.0, bytes_per_token))
    return max(256, min(fits, MOST_TOKENS["cuda" if device.type == "cuda" else "cpu"]))
