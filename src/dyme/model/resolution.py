"""The size of pictures for the model: the recipe's image settings, translated for each family's processor.

    SmolVLM, SmolVLM2, Idefics3        image_longest_edge   pixels of the longer side before it is cut into tiles
                                       image_splitting      off: one tile a picture
    InternVL                           image_max_tiles      tiles that a picture is cut into, its thumbnail not counted; 1: none
    Qwen2-VL, Qwen2.5-VL, Qwen3-VL     image_min_pixels     pixels of a picture, at least and at most; one token for
                                       image_max_pixels     28 x 28 of them (Qwen3-VL: 32 x 32)

The number of image tokens follows, and with it the cost of a prompt. A saved processor keeps the settings. Other families
have one size, or, as LLaVA-OneVision, a grid of sizes that is part of the model's own config; for them any setting is an error.
"""

from __future__ import annotations

from typing import Any

from dyme.config import ModelConfig
from dyme.errors import ConfigError

SETTINGS = ("image_longest_edge", "image_min_pixels", "image_max_pixels", "image_max_tiles", "image_splitting")
"""The fields of `ModelConfig`; 0 and None leave the checkpoint's own value."""


def taken(images: Any) -> tuple[str, ...]:
    """Return the settings that an image processor has."""
    if hasattr(images, "do_image_splitting") and hasattr(images, "max_image_size"):
        return ("image_longest_edge", "image_splitting")
    if hasattr(images, "crop_to_patches"):
        return ("image_max_tiles",)
    if hasattr(images, "temporal_patch_size"):
        return ("image_min_pixels", "image_max_pixels")
    return ()


def apply(processor: Any, config: ModelConfig) -> None:
    """Change a processor to the recipe's image settings; raises ConfigError for a setting that the family does not have."""
    asked = {name: value for name in SETTINGS if (value := getattr(config, name)) not in (0, None) or value is False}
    if not asked:
        return
    images = getattr(processor, "image_processor", None)
    if images is None:
        raise ConfigError(f"model.{next(iter(asked))}: {config.path} reads text only; remove the setting")
    known, kind = taken(images), type(images).__name__.removesuffix("Pil")
    for name in asked:
        if name not in known:
            raise ConfigError(f"model.{name}: {kind} has no such setting; it takes {_listed(images, known)}")
    _check(images, asked)
    if "image_splitting" in asked:
        images.do_image_splitting = asked["image_splitting"]
    if "image_max_tiles" in asked:
        images.max_patches = asked["image_max_tiles"]
        images.min_patches = min(images.min_patches, images.max_patches)
    edges = {"image_longest_edge": "longest_edge", "image_min_pixels": "shortest_edge", "image_max_pixels": "longest_edge"}
    size = {key: value for key, value in dict(images.size).items() if value is not None}
    images.size = type(images.size)(**size | {edges[name]: value for name, value in asked.items() if name in edges})


def _check(images: Any, asked: dict[str, Any]) -> None:
    """Raise ConfigError for impossible numbers of pixels."""
    least, most = (asked.get(name, images.size[key]) for name, key in _PIXELS.items()) if _PIXELS.keys() & asked.keys() else (0, 0)
    if least > most:
        raise ConfigError(f"model.image_min_pixels is {least:,}, above image_max_pixels, {most:,}")
    if _PIXELS.keys() & asked.keys() and most < (side := images.patch_size * images.merge_size) ** 2:
        raise ConfigError(f"model.image_max_pixels must be at least {side * side:,}: a token is {side} x {side} pixels")


_PIXELS = {"image_min_pixels": "shortest_edge", "image_max_pixels": "longest_edge"}


def _listed(images: Any, known: tuple[str, ...]) -> str:
    if hasattr(images, "image_grid_pinpoints"):
        return "none: its grid of sizes (image_grid_pinpoints) is part of the model's own config"
    return " and ".join(known) or "none: its pictures have one size"
