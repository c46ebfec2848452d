"""LoRA (Hu et al., 2021) by peft: small trainable matrices beside frozen linear layers, saved as a peft adapter.

The layers are put into the model itself, which keeps its class and its names; `peft.PeftModel.from_pretrained(base, folder)`
finds the same layers by the names in the adapter's settings.
"""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from dyme.config import ModelConfig
from dyme.errors import ConfigError, ModelError
from dyme.model import merging

SETTINGS, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""The files of an adapter, as peft names them."""
_PREFIX = "base_model.model."
"""What peft puts before a name of the model."""
_LAYER = re.compile(r"(?<=\.)[0-9]+(?=\\\.)")
"""A layer's number within an escaped name."""


def attach(model: Any, config: ModelConfig, base: str) -> None:
    """Freeze the model and add a new adapter, which changes nothing until it is trained; its weights are float32.

    Raises ConfigError for targets that the model lacks, or without peft.
    """
    _need_peft()
    from peft import LoraConfig, inject_adapter_in_model

    settings = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha or 2 * config.lora_rank,
        lora_dropout=config.lora_dropout,
        target_modules=targets(model, config),
        base_model_name_or_path=name_of(config.path, base),
        task_type=None if hasattr(model.config, "vision_config") else "CAUSAL_LM",
    )
    inject_adapter_in_model(settings, model)
    in_float32(model)


def reopen(model: Any, folder: Path, ids: torch.Tensor) -> None:
    """Freeze the model and add the adapter of a folder; one of another kind than plain LoRA is merged into the model (`merging.py`).

    Raises ModelError for an adapter that cannot be used or does not fit; `ids` [1, L] are tokens to check a merged model with.
    """
    _need_peft()
    from peft import inject_adapter_in_model, set_peft_model_state_dict

    settings = read_settings(folder)
    merging.check_mergeable(settings, folder)
    try:
        weights = _placed(load_file(folder / WEIGHTS), [name for name, _ in model.named_modules()])
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{folder}: {WEIGHTS} cannot be read ({error}); the download may be incomplete") from error
    if not merging.plain(settings, list(weights)):
        merging.absorb(model, folder, settings, weights, ids)
        return
    shape = merging.known(settings, folder)
    try:
        inject_adapter_in_model(shape, model)
        in_float32(model)
        found = set_peft_model_state_dict(model, {name.removeprefix(_PREFIX): value for name, value in weights.items()})
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{folder}: the adapter does not fit its base: {str(error).splitlines()[0]}") from error
    lacking = [name for name in found.missing_keys if "lora_" in name] + list(found.unexpected_keys)
    if lacking:
        raise ModelError(f"{folder}: the adapter does not fit its base: {len(lacking)} names differ ({lacking[0]} ...)")


def _placed(weights: dict[str, torch.Tensor], modules: list[str]) -> dict[str, torch.Tensor]:
    """Return the weights under the model's names of layers; earlier versions of transformers named the layers of some families differently.

    A name that the model lacks stands for the only layer whose name ends in the same way.
    """
    known, out = set(modules), {}
    for name, value in weights.items():
        layer, dot, rest = name.removeprefix(_PREFIX).partition(".lora_")
        parts = layer.split(".")
        for k in range(1, len(parts)) if dot and layer not in known else ():
            alike = [module for module in modules if f".{module}".endswith("." + ".".join(parts[k:]))]
            if alike:
                layer = alike[0] if len(alike) == 1 else layer
                break
        out[f"{_PREFIX}{layer}{dot}{rest}" if dot else name] = value
    return out


def attached(model: Any) -> bool:
    """Return whether the model has an adapter."""
    return bool(getattr(model, "peft_config", None))


def rank(model: Any) -> int:
    """Return the rank of the model's adapter, 0 without one."""
    return int(model.peft_config["default"].r) if attached(model) else 0


def save(model: Any, folder: Path, state: dict[str, torch.Tensor] | None = None) -> None:
    """Write the adapter in peft's format: its settings and its weights, from `state` if that is given."""
    from peft import get_peft_model_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    model.peft_config["default"].save_pretrained(str(folder))
    weights = get_peft_model_state_dict(model, state_dict=state, save_embedding_layers=False)
    save_file({_PREFIX + name: value.contiguous() for name, value in weights.items()}, folder / WEIGHTS, metadata={"format": "pt"})


def targets(model: Any, config: ModelConfig) -> str:
    """Return the layers that get an adapter, as a regular expression that peft matches with the layers' names.

    These are layers of the language model; with `freeze_vision` off, also of the tower and projector. Never the output embedding.
    """
    inner = model.get_decoder() if config.freeze_vision else model.base_model
    top = next(name for name, module in model.named_modules() if module is inner)
    linear = [name for name, module in inner.named_modules() if isinstance(module, torch.nn.Linear)]
    names = {name.split(".")[-1] for name in linear}
    chosen = names if config.lora_targets == "all-linear" else {word.strip() for word in config.lora_targets.split(",")}
    if unknown := sorted(chosen - names):
        raise ConfigError(f"model.lora_targets: there is no {unknown[0]!r}; choose from all-linear, {', '.join(sorted(names))}")
    places = {
        _LAYER.sub(r"\\d+", re.escape(name)) for name in linear if name.split(".")[-1] in chosen
    }  # whole names: parts recur elsewhere
    return rf"{re.escape(top)}\.(?:{'|'.join(sorted(places))})"


def base_of(folder: Path) -> str:
    """Return the path or hub id of the model that an adapter was trained on; raises ModelError if its settings do not say."""
    name = read_settings(folder).get("base_model_name_or_path")
    if not name:
        raise ModelError(f"{folder}: {SETTINGS} does not say which model it belongs to; fill in base_model_name_or_path")
    return str(name)


def read_settings(folder: Path) -> dict[str, Any]:
    """Return an adapter's settings as peft wrote them; raises ModelError for a file that holds no settings."""
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder}: {SETTINGS} is not valid JSON; the download may be incomplete") from error
    if not isinstance(settings, dict):
        raise ModelError(f"{folder}: {SETTINGS} holds no settings; the download may be incomplete")
    return settings


def name_of(path: str, base: str) -> str:
    """Return the name of an adapter's base as the adapter records it: a hub id or "embedded" unchanged, a folder by its absolute path."""
    return str(Path(base).resolve()) if Path(path).exists() else path


def in_float32(model: Any) -> None:
    """Make the adapter's weights float32, peft's default: small updates of half-precision weights would be rounded away."""
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()


def _need_peft() -> None:
    if importlib.util.find_spec("peft") is None:
        raise ConfigError("LoRA takes another package: pip install 'dyme[lora]'; or set model.lora_rank = 0 to train all weights")
