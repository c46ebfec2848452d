"""Image settings of a recipe: the number of image tokens changes as documented, and a saved processor keeps them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from families import SEEING
from tiny import Picture

from dyme.config import ModelConfig
from dyme.errors import ConfigError
from dyme.model.policy import Policy
from dyme.model.resolution import SETTINGS, taken
from dyme.recipe import build
from dyme.types import Sample

WIDE = Sample(id="wide", question="How many?", answer="1", images=(Picture(0, (60, 30)),))
TILE = 4
"""Tokens of one 16-pixel tile of the tiny SmolVLM and InternVL."""


def image_tokens(policy: Policy) -> int:
    return policy.encode(WIDE, "").token_ids.count(policy.model.config.image_token_id)


@pytest.mark.parametrize(
    ("family", "settings", "tokens"),
    [
        ("idefics3", {}, (3 * 2 + 1) * TILE),  # 60 x 30 is scaled to 48 x 24: three columns, two rows and the whole
        ("idefics3", {"image_longest_edge": 32}, (2 * 1 + 1) * TILE),
        ("idefics3", {"image_longest_edge": 16}, TILE),
        ("idefics3", {"image_splitting": False}, TILE),
        ("smolvlm", {"image_longest_edge": 32}, (2 * 1 + 1) * TILE),
        ("internvl", {}, (2 * 1 + 1) * TILE),  # two tiles and a thumbnail, at most four
        ("internvl", {"image_max_tiles": 1}, TILE),
        ("qwen2_vl", {}, 5 * 2),  # a token is 8 x 8 pixels; at most 1,024 pixels: 40 x 16
        ("qwen2_vl", {"image_max_pixels": 512}, 4 * 2),
        ("qwen2_5_vl", {"image_max_pixels": 128}, 2 * 1),
        ("qwen3_vl", {"image_min_pixels": 2048, "image_max_pixels": 4096}, 8 * 4),
    ],
)
def test_the_number_of_image_tokens(
    family: str, settings: dict[str, Any], tokens: int, checkpoints: Callable[[str], Path], tmp_path: Path
) -> None:
    config = ModelConfig(path=str(checkpoints(family)), **settings)
    policy = Policy.load(config)
    assert image_tokens(policy) == tokens
    policy.save(tmp_path)
    assert image_tokens(Policy.load(ModelConfig(path=str(tmp_path)))) == tokens, "the saved processor keeps the setting"
    assert image_tokens(Policy.load(replace(config, path=str(tmp_path)))) == tokens, "and the same recipe changes nothing more"


TAKEN = {
    "idefics3": "image_longest_edge and image_splitting", "smolvlm": "image_longest_edge and image_splitting",
    "internvl": "image_max_tiles", "llava_onevision": "none: its grid of sizes (image_grid_pinpoints) is part of",
    "granite_docling": "image_max_tiles",
} | dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "lfm3_vl"), "image_min_pixels and image_max_pixels")  # fmt: skip


@pytest.mark.parametrize("family", SEEING)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_that_the_family_lacks(family: str, name: str, policies: Callable[[str], Policy], checkpoints: Any) -> None:
    if name in taken(policies(family).processor.image_processor):
        return
    config = ModelConfig(path=str(checkpoints(family)), **{name: False if name == "image_splitting" else 64})
    with pytest.raises(ConfigError, match=rf"model\.{name}: \w+ImageProcessor has no such setting; it takes ") as caught:
        Policy.load(config)
    assert f"it takes {TAKEN.get(family, 'none: its pictures have one size')}" in str(caught.value)


def test_a_text_model_has_no_image_settings(checkpoints: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"model\.image_max_pixels: .* reads text only; remove the setting"):
        Policy.load(ModelConfig(path=str(checkpoints("llama")), image_max_pixels=100))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_min_pixels": 5000}, r"image_min_pixels is 5,000, above image_max_pixels, 1,024"),
        ({"image_max_pixels": 100}, r"image_min_pixels is 128, above image_max_pixels, 100"),
        ({"image_min_pixels": 1, "image_max_pixels": 60}, r"image_max_pixels must be at least 64: a token is 8 x 8 pixels"),
    ],
)
def test_pixels_that_make_no_picture(settings: dict[str, int], message: str, checkpoints: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=message):
        Policy.load(ModelConfig(path=str(checkpoints("qwen2_vl")), **settings))


def test_settings_from_the_command_line() -> None:
    config = build({}, ["--model.image_splitting", "false", "--model.image_longest_edge", "1024"])
    assert (config.model.image_splitting, config.model.image_longest_edge) == (False, 1024)
    assert build({}, ["--model.image_splitting", "none"]).model.image_splitting is None
    with pytest.raises(ConfigError, match="model.image_max_tiles must be from 0 to 1,000, not -1"):
        build({}, ["--model.image_max_tiles", "-1"])
