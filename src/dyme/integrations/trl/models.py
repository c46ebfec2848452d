"""The model of a trainer: a hub id or folder to open, or a loaded model, with its processor and its new adapter."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoProcessor

from dyme.config import Config, ModelConfig
from dyme.errors import ConfigError, ModelError, quoted
from dyme.model import adapters, merging
from dyme.model.loading import attend, first_line, open_checkpoint
from dyme.model.policy import Policy
from dyme.model.precision import read
from dyme.tracking.run_folder import RunFolder

_ATTENTION = {None: "tree", "sdpa": "tree", "eager": "eager", "flex_attention": "flex_attention"}
"""Our attention for transformers'."""
_DTYPES = (None, "auto", "float32", "bfloat16", "float16", torch.float32, torch.bfloat16, torch.float16)
_LOADING = ("dtype", "torch_dtype", "revision", "trust_remote_code", "attn_implementation")
"""Arguments of from_pretrained that are honoured; of `dtype` any will do, as masters are float32 and the run computes in bf16, fp16 or fp32
as GRPOConfig says."""


@dataclass
class Spec:
    """The parts that the policy is made of."""

    model: Any
    """A loaded model, or None."""
    processor: Any
    peft: Any
    settings: dict[str, Any]
    """Settings of [model]."""
    template: dict[str, Any]
    """Variables of the chat template."""

    def policy(self, config: Config) -> Policy:
        """Return the policy; raises ModelError for a model that cannot be used. A given model is trained itself, not a copy."""
        if self.model is None:
            plain = dataclasses.replace(config.model, lora_rank=0)
            model, processor = open_checkpoint(plain, read(config), templated=False)
        else:
            model, processor = self.model.to(read(config)), None
            attend(model, config.model.attention)
            if adapters.attached(model):
                adapters.in_float32(model)
        if self.peft is not None and not adapters.attached(model):
            _attach(model, self.peft, config.model)
        policy = Policy.of(model, self.processor or processor, config.model, self.template)
        self.processor = policy.processor
        return policy


def spec_of(model: Any, processor: Any, peft: Any, args: Any, name: str) -> Spec:
    """Return the model's Spec from a trainer's arguments. Raises ConfigError or ModelError for arguments that cannot be honoured."""
    loading = dict(args.model_init_kwargs or {})
    if unknown := sorted(set(loading) - set(_LOADING)):
        raise ConfigError(f"GRPOConfig.model_init_kwargs: {unknown[0]} cannot be honoured; dyme knows {', '.join(_LOADING)}")
    if (dtype := loading.get("dtype", loading.get("torch_dtype"))) not in _DTYPES:
        raise ConfigError(f"GRPOConfig.model_init_kwargs: dtype={quoted(dtype)} is no type of weights that can be trained")
    attention = loading.get("attn_implementation")
    if attention not in _ATTENTION:
        raise ConfigError(f"GRPOConfig.model_init_kwargs: attn_implementation={attention!r} cannot be honoured; leave it out")
    settings = {
        "attention": _ATTENTION[attention], "trust_remote_code": bool(args.trust_remote_code or loading.get("trust_remote_code")),
        "path": name,
    }  # fmt: skip
    if isinstance(model, str):
        settings["path"] = _revision(model, loading["revision"]) if loading.get("revision") else model
        model = None
    elif hasattr(model, "get_base_model"):
        model = _unwrapped(model, peft)
    if model is not None and processor is None:
        try:
            processor = AutoProcessor.from_pretrained(name, trust_remote_code=settings["trust_remote_code"])
        except Exception as error:  # files may hold anything
            raise ModelError(f"{name}: has no processor that can be read ({first_line(error)}); give processing_class") from error
    if peft is not None:
        settings["lora_rank"] = _checked(peft).r
    elif model is not None:
        settings["lora_rank"] = adapters.rank(model)
    return Spec(model, processor, peft, settings, dict(args.chat_template_kwargs or {}))


def _revision(model: str, revision: str) -> str:
    """Return the folder of a hub model's revision."""
    from huggingface_hub import snapshot_download

    try:
        return snapshot_download(model, revision=revision)
    except Exception as error:
        raise ModelError(f"{model}: revision {revision} cannot be had ({first_line(error)})") from error


def _unwrapped(model: Any, peft: Any) -> Any:
    """Return the transformers model in a PeftModel, with the adapter's layers. Raises ModelError for an adapter that cannot be trained."""
    if peft is not None:
        raise ModelError("model is a PeftModel and peft_config is given too; merge the first adapter, or leave peft_config out")
    if list(model.peft_config) != ["default"]:
        raise ModelError(f"model has adapters {', '.join(model.peft_config)}; only one of the name default can be trained on")
    _checked(model.peft_config["default"])
    return model.get_base_model()


def _checked(peft: Any) -> Any:
    """Return peft's config if it is a LoRA that dyme trains. Raises ConfigError, naming type or field, for another."""
    from peft import LoraConfig

    if not isinstance(peft, LoraConfig):
        raise ConfigError(f"peft_config: {type(peft).__name__} cannot be honoured; give a LoraConfig")
    settings = peft.to_dict()
    others = {"modules_to_save": None, "trainable_token_indices": None, "bias": "none", "lora_bias": False, "layers_pattern": None}
    wrong = [name for name, value in others.items() if settings.get(name) and settings.get(name) != value]
    wrong += [name for name in merging.BESIDE if settings.get(name)]
    if settings.get("init_lora_weights") not in merging.STARTS:
        wrong.append("init_lora_weights")
    if wrong:
        raise ConfigError(f"peft_config: {wrong[0]}={quoted(settings[wrong[0]])} cannot be honoured; leave it out")
    return peft


def _attach(model: Any, peft: Any, config: ModelConfig) -> None:
    """Freeze the model and put peft's layers in, by the given settings, in float32, peft's default."""
    from peft import inject_adapter_in_model

    peft.base_model_name_or_path = adapters.name_of(config.path, config.path)
    try:
        inject_adapter_in_model(peft, model)
    except ValueError as error:
        raise ConfigError(f"peft_config: {first_line(error)}") from error
    adapters.in_float32(model)


def held(place: Path) -> Config:
    """Return the settings of a run that is to be resumed."""
    return RunFolder.open(place).config()
