"""The analytic floor: the FLOPs that the mathematics of an update needs, written down from the model's dimensions.

    linear layers   2 x inputs x outputs per token forward, twice that backward; each trunk token once, each live branch token
                    that is read once (the last token of a branch is predicted, never read)
    attention       4 x head width x heads per pair of tokens that the mask allows forward, twice that backward; a mask may have a
                    window, and let the tokens of an image see each other both ways
    recurrence      linear attention as the recurrence that defines it: per token and head a product of the state with the key, one
                    with the query and an outer product, 6 x key width x value width forward, twice that backward. Training does not
                    run it so: a chunk of 64 tokens at a time needs products of 64 x 64 besides, which is above this floor
    convolution     2 x kernel per channel and token forward, twice that backward
    head            2 x vocabulary x width per position that a token is predicted at forward, twice that backward; the trunk's
                    last position, where all branches begin, once
    projector       its two layers per patch forward; backward both weights, but the input of the second alone
    tower           once forward per image, or nothing where the rollout of the same step has paid for it

Lookups, norms, rotary positions, softmax and the optimizer are left out, as torch's counter leaves them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

import torch
from shapes import Shape


@dataclass(frozen=True)
class Floor:
    """FLOPs by part."""

    linear: float
    attention: float
    recurrence: float
    convolution: float
    head: float
    projector: float
    tower: float
    tower_attention: float

    @property
    def total(self) -> float:
        return sum(astuple(self))

    @property
    def products(self) -> float:
        """Of the total: matrix products outside attention, patch embedding included."""
        return self.total - self.attention - self.tower_attention


def floor(model: Any, shape: Shape, live: Sequence[int], tower: bool = False) -> Floor:
    """Of one update; `live` is the number of live branches of each prompt. With `tower`, each image is encoded in the update, which is
    counted for LLaVA-OneVision alone.
    """
    parts = [astuple(_prompt(model, shape, branches, tower)) for branches in live if branches]
    return Floor(*map(sum, zip(*parts, strict=True)))


def _prompt(model: Any, shape: Shape, branches: int, tower: bool) -> Floor:
    text, read = model.config.text_config, shape.new_tokens - 1
    tokens = shape.trunk + branches * read
    heads = text.num_attention_heads * (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
    kinds = getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers
    block = shape.image_tokens if shape.family == "gemma3" else 0
    seen = {
        "full_attention": pairs(shape.trunk, read, branches, block=block),
        "sliding_attention": pairs(shape.trunk, read, branches, block=block, window=getattr(text, "sliding_window", None) or 0),
    }
    return Floor(
        linear=3 * 2 * tokens * _weights(model.model.language_model),
        attention=3 * 4 * heads * sum(seen.get(kind, 0) for kind in kinds),
        recurrence=3 * 6 * tokens * kinds.count("linear_attention") * _state(text),
        convolution=3 * 2 * tokens * sum(m.weight.numel() for m in model.model.language_model.modules() if isinstance(m, torch.nn.Conv1d)),
        head=3 * 2 * text.vocab_size * text.hidden_size * (1 + branches * read),
        projector=_projector(model, shape),
        tower=_tower(model, shape) if tower else 0.0,
        tower_attention=_tower_attention(model, shape) if tower else 0.0,
    )


def rollout_floor(model: Any, shape: Shape) -> float:
    """Of one rollout, forward alone: each image, trunk token and completion token once, logits where a token is drawn."""
    text, read = model.config.text_config, shape.new_tokens - 1
    tokens, completions = shape.trunk + shape.num_generations * read, shape.num_generations
    heads = text.num_attention_heads * (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
    linear = 2 * tokens * _weights(model.model.language_model) + 2 * _patches(shape) * _weights(model.model.multi_modal_projector)
    attention = 4 * heads * text.num_hidden_layers * pairs(shape.trunk, read, completions)
    head = 2 * text.vocab_size * text.hidden_size * (1 + completions * read)
    return float(shape.prompts * (linear + attention + head + _tower(model, shape) + _tower_attention(model, shape)))


def pairs(trunk: int, read: int, branches: int, *, block: int = 0, window: int = 0) -> int:
    """Pairs of tokens that the mask allows: causal in the trunk, each branch on the trunk and causal on itself. `block` tokens in a row
    of the trunk see each other both ways; with a `window`, no token sees further back.
    """
    window = window or trunk + read
    back = sum(min(k + 1, window) for k in range(trunk)) + branches * sum(min(trunk + k + 1, window) for k in range(read))
    return back + block * (block - 1) // 2


def _state(text: Any) -> int:
    """Numbers in the state of a layer of linear attention."""
    return (
        text.linear_num_value_heads * text.linear_key_head_dim * text.linear_value_head_dim
        if hasattr(text, "linear_num_value_heads")
        else 0
    )


def _weights(module: torch.nn.Module) -> int:
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, torch.nn.Linear))


def _patches(shape: Shape) -> int:
    """Patches of a prompt's image: those of its two tiles."""
    return int(2 * (shape.tile // shape.vision["patch_size"]) ** 2)


def _projector(model: Any, shape: Shape) -> float:
    projector = getattr(model.model, "multi_modal_projector", None)
    if projector is None:  # part of the frozen tower
        return 0.0
    layers = [weight.numel() for name, weight in projector.named_parameters() if weight.ndim == 2]
    patches = _patches(shape) if shape.family == "llava_onevision" else shape.image_tokens
    return float(2 * patches * (2 * sum(layers) + sum(layers[1:])))


def _tower(model: Any, shape: Shape) -> float:
    vision, patches = model.config.vision_config, _patches(shape)
    return float(2 * patches * (_weights(model.model.vision_tower) + 3 * vision.patch_size**2 * vision.hidden_size))


def _tower_attention(model: Any, shape: Shape) -> float:
    """Each of the two tiles sees itself alone."""
    vision = model.config.vision_config
    return float(4 * vision.hidden_size * vision.num_hidden_layers * _patches(shape) ** 2 // 2)
