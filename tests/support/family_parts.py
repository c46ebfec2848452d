"""What tiny models of several families share: dimensions, tokenizers, processors without their video half."""

from __future__ import annotations

from typing import Any

import chat_templates as templates
from tokenizers.processors import TemplateProcessing

from dyme.embedded import architecture, curriculum

VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = VISION | {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048}


def tokenizer_with(*special: str, eos: str = "<eos>", **roles: str) -> Any:
    """The embedded tokenizer on a small corpus, with a family's own special tokens, which `all_special_ids` does not name.

    `roles` are tokens that the tokenizer has as attributes, such as image_token.
    """
    tokenizer = architecture.build_tokenizer(curriculum.corpus(conversations=200))
    tokenizer.add_tokens([*special, *roles.values()], special_tokens=True)
    tokenizer._set_model_specific_special_tokens(roles)
    tokenizer.eos_token = eos
    tokenizer.model_max_length = 2048
    return tokenizer


def common(tokenizer: Any) -> dict[str, Any]:
    """Vocabulary settings of a text config, padded as real ones are."""
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    return {"vocab_size": len(tokenizer) + 3} | ends


def without_video(kind: type) -> Any:
    """A processor class without its video half, which needs torchvision."""
    return type(kind.__name__, (kind,), {"get_attributes": staticmethod(lambda: ["image_processor", "tokenizer"])})


def qwen_vl(
    config_class: Any, processor_class: Any, vision: dict[str, Any], rope: dict[str, Any], template: str = templates.QWEN2_VL
) -> tuple[Any, Any]:
    """Configuration and processor that the three Qwen-VL families share: dynamic resolution, rotary positions on three axes."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = tokenizer_with(
        "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", eos="<|im_end|>"
    )
    images = Qwen2VLImageProcessorPil(patch_size=4, size={"shortest_edge": 128, "longest_edge": 1024})
    processor = without_video(processor_class)(images, tokenizer, chat_template=template)
    token = tokenizer.convert_tokens_to_ids
    config = config_class(
        vision_config=dict(depth=2, num_heads=2, patch_size=4, spatial_merge_size=2, temporal_patch_size=2, **vision),
        text_config=dict(**TEXT, **common(tokenizer), head_dim=8, rope_parameters={"rope_type": "default", "rope_theta": 1e6} | rope),
        image_token_id=token("<|image_pad|>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"), vision_end_token_id=token("<|vision_end|>"), tie_word_embeddings=True,
    )  # fmt: skip
    return config, processor


def text_only(
    config_class: Any, model_class: Any, tokenizer: Any = None, template: str = templates.QWEN2, **settings: Any
) -> tuple[Any, Any]:
    tokenizer = tokenizer or tokenizer_with("<|im_start|>", "<|im_end|>", eos="<|im_end|>")
    tokenizer.chat_template = template
    settings = TEXT | common(tokenizer) | {"head_dim": 8, "tie_word_embeddings": True} | settings
    return model_class(config_class(**settings)), tokenizer


def begun(tokenizer: Any, bos: str = "<|begin_of_text|>") -> Any:
    """A tokenizer that puts its begin token before all text, unless it is told to add no special tokens."""
    tokenizer.bos_token = bos
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, tokenizer.bos_token_id)])
    return tokenizer
