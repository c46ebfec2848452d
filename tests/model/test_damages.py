"""Checkpoints that are damaged: each is refused in one line, or loads as what it is; nothing else is raised."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from damages import DAMAGES, SEEING, W, config, cut

from dyme.config import ModelConfig
from dyme.errors import DymeError, ModelError
from dyme.model.policy import Policy
from dyme.types import Sample

Checkpoints = Callable[[str], Path]
LOADS = {
    "no layers", "rope is empty", "positions are zero", "architectures are a text", "kind is another", "tokenizer is of no class",
    "end is no token", "generation settings are cut", "end ids are empty", "dtype is a number", "processor is of no class",
}  # fmt: skip
"""Damages that transformers reads over, or that cannot be told from other models."""


@pytest.mark.parametrize("name", [*DAMAGES, *SEEING])
def test_a_damaged_checkpoint_is_refused_in_one_line(name: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    family, damage = ("llama", DAMAGES[name]) if name in DAMAGES else ("idefics3", SEEING[name])
    folder = shutil.copytree(checkpoints(family), tmp_path / "damaged")
    damage(folder)
    started = time.perf_counter()
    try:
        policy = Policy.load(ModelConfig(path=str(folder)))
        policy.encode(Sample(id="x", question="How many?", answer="1"), "Think.")
    except DymeError as error:
        assert "\n" not in str(error) and str(error).strip()
    else:
        assert name in LOADS, "it was not seen"
    assert time.perf_counter() - started < 30, "nothing large is built first"


def test_what_a_damage_is_called(checkpoints: Checkpoints, tmp_path: Path) -> None:
    for k, (family, damage, match) in enumerate([
        ("llama", cut("config.json", 0.5), r"config.json is not valid JSON \(.*\); the download may be incomplete"),
        ("llama", config(num_hidden_layers=1), r"config.json has no place for 9 of the weights \(model.layers.1..* ...\)"),
        ("llama", config(num_hidden_layers=9), r"lacks 63 of the model's weights"),
        ("llama", config(hidden_size="many"), "cannot load the model: Validation error for field 'hidden_size': TypeError"),
        ("llama", cut(W, 0.5), "cannot load the model"),
        ("idefics3", config(text_config=None), r"config.json describes a model of [0-9,]{10,} weights, and [0-9,]+ bytes"),
    ]):  # fmt: skip
        folder = shutil.copytree(checkpoints(family), tmp_path / str(k))
        damage(folder)
        with pytest.raises(ModelError, match=match):
            Policy.load(ModelConfig(path=str(folder)))
