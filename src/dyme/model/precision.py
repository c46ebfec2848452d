"""The precision that a run computes in (`train.precision`), and a test of whether numbers are finite.

Rollouts, evaluation, update and reference model compute in the same precision, and the model holds its weights in it.
Of the weights that train, `training/precision/masters.py` also keeps float32 copies.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from dyme.config import Config, Precision
from dyme.errors import ConfigError
from dyme.system.processes import on_cpu

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""The type of numbers that a precision stands for."""
_LAUNCHED = "ACCELERATE_MIXED_PRECISION"
"""Where `accelerate launch --mixed_precision` leaves its word."""


def device() -> torch.device:
    """Return the kind of device that a process computes on, without starting accelerate."""
    return torch.device("cpu" if on_cpu() else os.environ.get("ACCELERATE_TORCH_DEVICE", "cuda"))


def settled(config: Config, device: torch.device) -> Config:
    """Return `config` with a definite precision for `device` in place of "auto"; also set how float32 products are computed there."""
    precision = settle(config.train.precision, device)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")  # TF32: products of 10 bits, summed in float32; adapters are float32 in any precision
    return replace(config, train=replace(config.train, precision=precision))


def settle(asked: Precision, device: torch.device) -> Precision:
    """Return the precision to compute in: as asked; for "auto", bf16 on a GPU that supports it, fp16 on another GPU, fp32 elsewhere.

    `accelerate launch --mixed_precision` sets a precision too. Raises ConfigError if the two differ, or if that one is unknown here.
    """
    launched = os.environ.get(_LAUNCHED, "").lower()
    known: dict[str, Precision] = {"bf16": "bf16", "fp16": "fp16"}
    if launched not in ("", "no", *known):
        raise ConfigError(f"accelerate's mixed_precision is {launched}; dyme computes in bf16, fp16 or fp32: set train.precision instead")
    chosen = known.get(launched, asked)
    if asked not in ("auto", chosen):
        raise ConfigError(f"accelerate's mixed_precision is {launched} and train.precision is {asked}; set only one of them")
    if chosen != "auto":
        return chosen
    if device.type != "cuda":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def read(config: Config) -> torch.dtype:
    """Return the type in which to read weights: float32 for weights to train (the masters); below an adapter, the run's precision."""
    return DTYPES[config.train.precision] if config.model.lora_rank else torch.float32


def written(config: Config) -> torch.dtype:
    """Return the type of the weights that a run writes for use: the one that `model.dtype` names, else the run's precision."""
    if config.model.dtype != "auto":
        return getattr(torch, config.model.dtype)  # type: ignore[no-any-return]
    return DTYPES.get(config.train.precision, torch.float32)


def check_trainable(config: Config) -> None:
    """Raise ConfigError if the recipe asks for weights of a type that cannot hold an update."""
    if config.model.dtype == "float16":
        raise ConfigError(
            'model.dtype = "float16" is no precision to train weights in; to compute in it, set train.precision = "fp16" '
            "(and `dyme export --dtype float16` writes such weights)"
        )


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Return whether all numbers are finite."""
    sums = [tensor.detach().sum(dtype=torch.float32) for tensor in tensors if tensor.is_floating_point()]
    return not sums or bool(torch.stack(sums).isfinite().all())


@contextmanager
def in_float32(model: torch.nn.Module) -> Iterator[None]:
    """Compute forward passes inside in float32, without TF32 and autocast, whatever type the model's weights have.

    The weights are cast module by module, each during its own forward pass, so that only one module's weights are held twice.
    """
    sign = torch.nn.Parameter(torch.zeros((), device=next(model.parameters()).device), requires_grad=False)
    signed = [module for module in model.modules() if hasattr(type(module), "dtype")]
    before = torch.get_float32_matmul_precision()
    own: dict[int, dict[str, Any]] = {}

    def widen(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        own[id(module)] = dict(module._parameters)
        module._parameters.update({name: _widened(weight) for name, weight in module._parameters.items()})
        return tuple(map(_widened, args)), {name: _widened(value) for name, value in kwargs.items()}

    def restore(module: torch.nn.Module, args: Any, out: Any) -> None:
        if id(module) in own:
            module._parameters.update(own.pop(id(module)))

    handles = []
    for module in model.modules():
        if any(weight.is_floating_point() and weight.dtype != torch.float32 for weight in module.parameters(recurse=False)):
            handles.append(module.register_forward_pre_hook(widen, with_kwargs=True))
            handles.append(module.register_forward_hook(restore, always_call=True))
    for module in signed:  # a model casts to its `dtype`, which is that of the first parameter
        module._parameters = {"float32": sign, **module._parameters}
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(sign.device.type, enabled=False):
            yield
    finally:
        for module in signed:
            del module._parameters["float32"]
        torch.set_float32_matmul_precision(before)
        for handle in handles:
            handle.remove()


def _widened(value: Any) -> Any:
    """Return a half-precision tensor in float32, and anything else unchanged."""
    half = isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != torch.float32
    return value.float() if half else value
