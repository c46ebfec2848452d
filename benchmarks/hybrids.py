"""Models of other families at the shapes of `shapes.py`: for `update.py --family` such whose language models are no plain attention, and
SmolVLM's classes for its own shape.

qwen3_5     Qwen3.5: three of four layers keep a state of 128 x 128 numbers a head, the fourth is attention with gated outputs
lfm3_vl     LFM3-VL: short convolutions, attention over all tokens and over the last 256
gemma3      Gemma 3: image tokens see each other both ways; five of six layers look back 1,024 tokens
idefics3    SmolVLM: plain attention; a picture is `tiles` x `tiles` tiles and one more of the whole, a token for 4 x 4 patches

Widths, heads and vocabulary are the shape's; a picture is one square of as many tokens as fit, and its tower sees it whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dyme.embedded import architecture, curriculum
from dyme.model.loading import without_video

if TYPE_CHECKING:
    from shapes import Shape


def chatml(picture: str) -> str:
    """A chat template that writes `picture` for each picture."""
    return (
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
        "{% for c in m['content'] %}{% if c['type'] == 'image' %}" + picture + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def tokenizer_with(shape: Shape, *special: str, **roles: str) -> Any:
    """The embedded tokenizer with a family's own tokens; `roles` are those that it has as attributes."""
    tokenizer = architecture.build_tokenizer(curriculum.corpus(conversations=200))
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>", *special, *roles.values()], special_tokens=True)
    tokenizer._set_model_specific_special_tokens(roles)
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.model_max_length = shape.text["max_position_embeddings"]
    return tokenizer


def ends(tokenizer: Any) -> dict[str, Any]:
    """Token ids of a text config."""
    return {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}


def _grid_processor(shape: Shape, kind: Any) -> Any:
    """A processor of the Qwen-VL kind, a token for each patch."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    names = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = tokenizer_with(shape, *names)
    pixels = shape.edge**2
    images = Qwen2VLImageProcessorPil(
        patch_size=shape.vision["patch_size"], merge_size=1, size={"shortest_edge": pixels, "longest_edge": pixels}
    )
    template = chatml("<|vision_start|><|image_pad|><|vision_end|>")
    return without_video(kind, {}).from_args_and_dict([images, tokenizer], {}, chat_template=template)


def _grid_tokens(tokenizer: Any) -> dict[str, int]:
    names = {"image_token_id": "image_pad", "video_token_id": "video_pad", "vision_start_token_id": "vision_start"}
    names["vision_end_token_id"] = "vision_end"
    return {key: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for key, name in names.items()}


def qwen3_5_processor(shape: Shape) -> Any:
    from transformers import Qwen3VLProcessor

    return _grid_processor(shape, Qwen3VLProcessor)


def qwen3_5(shape: Shape, processor: Any) -> tuple[Any, Any]:
    """Class and config."""
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    heads, seen = shape.text["num_attention_heads"], shape.vision
    wide = 128 if shape.name != "tiny" else 8
    text = shape.text | ends(processor.tokenizer) | {
        "num_hidden_layers": 4 * max(1, shape.text["num_hidden_layers"] // 3), "head_dim": shape.text["hidden_size"] // heads,
        "linear_num_key_heads": heads, "linear_num_value_heads": heads, "linear_key_head_dim": wide, "linear_value_head_dim": wide,
    }  # fmt: skip
    vision = {
        "depth": seen["num_hidden_layers"], "num_heads": seen["num_attention_heads"], "hidden_size": seen["hidden_size"],
        "intermediate_size": seen["intermediate_size"], "patch_size": seen["patch_size"], "spatial_merge_size": 1,
        "out_hidden_size": shape.text["hidden_size"], "num_position_embeddings": (shape.side + 2) ** 2,
    }  # fmt: skip
    config = Qwen3_5Config(vision_config=vision, text_config=text, **_grid_tokens(processor.tokenizer), tie_word_embeddings=True)
    return Qwen3_5ForConditionalGeneration, config


def lfm3_vl_processor(shape: Shape) -> Any:
    from transformers.models.lfm3_vl.processing_lfm3_vl import Lfm3VlProcessor

    return _grid_processor(shape, Lfm3VlProcessor)


def lfm3_vl(shape: Shape, processor: Any) -> tuple[Any, Any]:
    """Class and config."""
    from transformers import Lfm3VlConfig, Lfm3VlForConditionalGeneration

    kinds = ["conv", "conv", "full_attention", "conv", "sliding_attention", "conv"][: shape.text["num_hidden_layers"] + 1]
    text = {"model_type": "lfm3", "sliding_window": 256, "layer_types": kinds, "head_dim": 64} | shape.text | ends(processor.tokenizer)
    text["num_hidden_layers"] = len(kinds)
    heads = {"num_key_value_heads": shape.vision["num_attention_heads"], "spatial_merge_size": 1}
    vision = {key: value for key, value in shape.vision.items() if key != "image_size"} | heads
    config = Lfm3VlConfig(
        vision_config=vision, text_config=text, projector_hidden_size=shape.text["hidden_size"], **_grid_tokens(processor.tokenizer)
    )
    return Lfm3VlForConditionalGeneration, config


def gemma3_processor(shape: Shape) -> Any:
    from transformers import Gemma3Processor
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    roles = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = tokenizer_with(shape, **roles)
    images = Gemma3ImageProcessorPil(size={"height": shape.edge, "width": shape.edge})
    return Gemma3Processor(images, tokenizer, image_seq_length=shape.side**2, chat_template=chatml("<start_of_image>"))


def gemma3(shape: Shape, processor: Any) -> tuple[Any, Any]:
    """Class and config."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3TextConfig, SiglipVisionConfig

    layers, tokenizer = shape.text["num_hidden_layers"], processor.tokenizer
    kinds = ["full_attention" if k == layers - 1 else "sliding_attention" for k in range(layers)]
    width = shape.text["hidden_size"] // shape.text["num_attention_heads"]
    more = {"head_dim": width, "query_pre_attn_scalar": width, "sliding_window": 1024, "layer_types": kinds}
    config = Gemma3Config(
        vision_config=SiglipVisionConfig(**shape.vision | {"image_size": shape.edge}, vision_use_head=False),
        text_config=Gemma3TextConfig(**shape.text, **ends(tokenizer), **more), mm_tokens_per_image=shape.side**2,
        image_token_index=tokenizer.image_token_id, boi_token_index=tokenizer.boi_token_id, eoi_token_index=tokenizer.eoi_token_id,
    )  # fmt: skip
    return Gemma3ForConditionalGeneration, config


def idefics3_processor(shape: Shape) -> Any:
    """Idefics3's, which cuts a picture into tiles."""
    from transformers import Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = tokenizer_with(shape, *(f"<row_{r}_col_{c}>" for r in range(1, shape.tiles + 1) for c in range(1, shape.tiles + 1)))
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": shape.edge}, max_image_size={"longest_edge": shape.tile}, do_image_splitting=True
    )
    return Idefics3Processor(images, tokenizer, image_seq_len=shape.tile_tokens, chat_template=chatml("<image>"))


def idefics3(shape: Shape, processor: Any) -> tuple[Any, Any]:
    """Class and config."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    own = ends(processor.tokenizer)
    return Idefics3ForConditionalGeneration, Idefics3Config(
        image_token_id=processor.image_token_id, scale_factor=4, pad_token_id=own["pad_token_id"], tie_word_embeddings=True,
        vision_config=shape.vision, text_config={"model_type": "llama", **shape.text, **own, "tie_word_embeddings": True},
    )  # fmt: skip


FAMILIES: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "qwen3_5": (qwen3_5_processor, qwen3_5), "lfm3_vl": (lfm3_vl_processor, lfm3_vl), "gemma3": (gemma3_processor, gemma3),
    "idefics3": (idefics3_processor, idefics3),
}  # fmt: skip
