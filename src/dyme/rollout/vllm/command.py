"""The command that starts the right vLLM server for a recipe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from transformers import AutoConfig, AutoProcessor

from dyme.config import Config, ModelConfig
from dyme.errors import ConfigError, ModelError
from dyme.model import adapters, precision, resolution
from dyme.model.loading import first_line, resolve
from dyme.rollout.vllm.served import log_probability_mode
from dyme.rollout.vllm.server import NAME, URL

TYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
"""vLLM's names of precisions."""
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Largest ranks of adapters that vLLM makes room for."""


def command(config: Config, python: str) -> tuple[dict[str, str], list[str]]:
    """Return the variables and the words of the command that serves the recipe's model at its first `rollout.url`.

    `python` is the interpreter of the environment that has vLLM. Raises ModelError for a checkpoint that vLLM cannot serve, ConfigError for
    an address that is not of this computer's.
    """
    if config.model.path == "embedded":
        raise ModelError(
            "model.path is embedded, whose architecture vLLM does not know; a model this small samples fast by rollout.engine hf"
        )
    path = resolve(config.model)
    if path.endswith(".gguf") or (Path(path) / adapters.SETTINGS).exists():
        raise ModelError(
            f"{config.model.path} is no plain checkpoint; write one (dyme export {config.model.path} --out DIR) and train that"
        )
    url = (config.rollout.url or (URL,))[0]
    address = urlsplit(url)
    if not address.hostname:
        raise ConfigError(f"rollout.url: {url!r} is not the address of a server; give one like http://127.0.0.1:8000")
    settings = precision.settled(config, precision.device())
    words = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", path, "--served-model-name", NAME]
    words += ["--host", address.hostname, "--port", str(address.port or 80), "--dtype", TYPES[settings.train.precision]]
    words += ["--generation-config", "vllm", "--logprobs-mode", log_probability_mode(config.rollout), "--enable-scale-out"]
    variables = {"VLLM_SERVER_DEV_MODE": "1"}
    if pictures := _pictures(path, config.model):
        words += ["--mm-processor-kwargs", json.dumps(pictures)]
    if config.model.lora_rank:
        words += ["--enable-lora", "--max-lora-rank", str(next((r for r in RANKS if r >= config.model.lora_rank), config.model.lora_rank))]
        variables["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
    if config.model.trust_remote_code:
        words.append("--trust-remote-code")
    return variables, words


def _pictures(path: str, config: ModelConfig) -> dict[str, Any]:
    """Return what the server's processor must be told to make the pixels that the model trains on: Pillow's, in the recipe's size."""
    try:
        if not hasattr(AutoConfig.from_pretrained(path, trust_remote_code=config.trust_remote_code), "vision_config"):
            return {}
        processor = AutoProcessor.from_pretrained(path, backend="pil", trust_remote_code=config.trust_remote_code)
    except Exception as error:  # others' code on files that may hold anything
        raise ModelError(f"{config.path}: cannot read its settings: {first_line(error)}") from error
    images, told = processor.image_processor, {"backend": "pil"}
    before = _sizes(images)
    resolution.apply(processor, config)
    return told | {name: value for name, value in _sizes(images).items() if value != before[name]}


def _sizes(images: Any) -> dict[str, Any]:
    """Return the settings of an image processor that the recipe may change."""
    size = {key: value for key, value in dict(images.size).items() if value is not None}
    return {"size": size} | {
        name: getattr(images, name, None) for name in ("do_image_splitting", "max_patches", "min_patches")
    }  # fmt: skip
