"""A plain checkpoint from any that can be read: adapters merged into their base, GGUF files unpacked, weights in another precision.

The written folder is loaded and its logits are compared before it gets its name: the folder is complete and equals the model, or is absent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from dyme.config import ModelConfig
from dyme.errors import ModelError
from dyme.model import adapters, merging
from dyme.model.loading import resolve
from dyme.model.policy import Policy
from dyme.system.files import whole_folder
from dyme.tasks import charts
from dyme.types import Sample

EXACT = 1e-3
"""Largest distance between the logits of a model and of what was written of it, over their norm."""


def write(config: ModelConfig, out: Path, dtype: torch.dtype, finish: Callable[[Path], object] = lambda folder: None) -> bool:
    """Write the checkpoint at `config.path` to the new or empty folder `out`, in `dtype`; return whether an adapter was merged.

    `finish` adds to the folder before it gets its name. An adapter is merged in float32 and rounded once. Raises ModelError for a model
    that cannot be read, merged or read back.
    """
    adapter = (Path(resolve(config)) / adapters.SETTINGS).exists()
    policy = Policy.load(replace(config, lora_rank=0), torch.float32 if adapter else dtype)
    if adapters.attached(policy.model):
        merging.merge(policy.model)
    for weight in policy.model.parameters():
        weight.data = weight.data.to(dtype)
    expected = logits(policy)
    with whole_folder(out) as made:
        policy.save(made)
        del policy  # two models at a time would take twice the memory
        gap = merging.distance(logits(Policy.load(replace(config, path=str(made), lora_rank=0), dtype)), expected)
        if not gap < EXACT:
            raise ModelError(f"{config.path}: cannot be written as a plain checkpoint: read back, its logits differ by {gap:.0%}")
        finish(made)
    return adapter


@torch.no_grad()
def logits(policy: Policy) -> torch.Tensor:
    """Return a model's logits [1, L, V] on a question, with a picture if the model takes pictures."""
    chart = charts.samples("test", 1)[0]
    sample = chart if policy.takes_images else Sample(id=chart.id, question=chart.question, answer=chart.answer)
    prompt = policy.encode(sample, "")
    out: torch.Tensor = policy.eval().model(
        input_ids=torch.tensor([prompt.token_ids]), use_cache=False,
        **policy.types({name: values[None] for name, values in prompt.types.items()}), **prompt.vision,
    ).logits  # fmt: skip
    return out
