"""This process's place in a launch, from the variables that the launcher (torchrun, accelerate launch) sets; free of torch."""

from __future__ import annotations

import os

from dyme.errors import ConfigError

_FSDP, _OWN = "ACCELERATE_USE_FSDP", "DYME_USE_FSDP"
_OTHERS = {"ACCELERATE_USE_DEEPSPEED": "DeepSpeed", "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM"}


def several() -> bool:
    """Return whether this process was launched as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_main() -> bool:
    """Return whether this process is the only one of a launch, or the first."""
    return os.environ.get("RANK", "0") == "0"


def local_count() -> int:
    """Return the number of the launch's processes on this computer; they share its memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE", "1"))


def node() -> int:
    """Return the index of this computer among those of the launch, from 0."""
    return int(os.environ.get("RANK", "0")) // local_count()


def asks_to_shard() -> bool:
    """Return whether the launcher asks to divide the weights among processes (`accelerate launch --use_fsdp`).

    Its word is taken over from accelerate and transformers, which would otherwise divide, or not even load, the weights themselves. Call it
    before they are used. Raises ConfigError for a launcher that asks for DeepSpeed or Megatron-LM.
    """
    for name, engine in _OTHERS.items():
        if _on(name):
            raise ConfigError(
                f"{engine} is not supported; start the processes without it (torchrun, or accelerate launch --multi_gpu), and set "
                'train.shard = "full" to divide weights, gradients and optimizer state among them'
            )
    if _on(_FSDP):
        os.environ[_OWN] = os.environ.pop(_FSDP)
    return _on(_OWN)


def _on(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("1", "true", "yes", "y", "on", "t")
