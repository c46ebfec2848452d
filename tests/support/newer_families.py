"""Families whose language model is no plain attention, or whose pictures enter it deep: linear attention, convolutions, shared caches."""

from __future__ import annotations

from typing import Any

import chat_templates as templates
from family_parts import TEXT, VISION, common, qwen_vl, tokenizer_with

from dyme.model.loading import without_video

VIDEO = {
    "lfm3_vl": {"video_processor_type": "Qwen3VLVideoProcessor"},
    "gemma4": {"video_processor_type": "Gemma4VideoProcessor"},
}
"""Settings of the video half that published folders name; it needs torchvision."""


def qwen3_5() -> tuple[Any, Any]:
    """Qwen3.5's class: every second layer here (three of four in checkpoints) keeps a state in place of keys; Qwen3-VL's processor."""
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration, Qwen3VLProcessor

    def configured(**settings: Any) -> Any:
        linear = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
        settings["text_config"] |= linear | {"layer_types": ["linear_attention", "full_attention"], "linear_conv_kernel_dim": 4}
        return Qwen3_5Config(**settings)

    vision = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32, "num_position_embeddings": 64}
    rope = {"mrope_section": [2, 1, 1], "mrope_interleaved": True, "partial_rotary_factor": 1.0}
    config, processor = qwen_vl(configured, Qwen3VLProcessor, vision, rope, templates.QWEN3_5)
    return Qwen3_5ForConditionalGeneration(config), processor


def lfm3_vl() -> tuple[Any, Any]:
    """LFM3-VL's class: convolutions, a sliding window and full attention, in the tower too."""
    from transformers import Lfm3VlConfig, Lfm3VlForConditionalGeneration
    from transformers.models.lfm3_vl.processing_lfm3_vl import Lfm3VlProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    tokenizer = tokenizer_with(
        "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>", eos="<|im_end|>"
    )
    images = Qwen2VLImageProcessorPil(patch_size=4, size={"shortest_edge": 128, "longest_edge": 1024})
    processor = without_video(Lfm3VlProcessor, VIDEO["lfm3_vl"]).from_args_and_dict(
        [images, tokenizer], {}, chat_template=templates.QWEN3_VL
    )
    token = tokenizer.convert_tokens_to_ids
    kinds = ["conv", "sliding_attention", "full_attention"]
    text = TEXT | common(tokenizer) | {"num_hidden_layers": 3, "head_dim": 8, "sliding_window": 24, "layer_types": kinds, "conv_L_cache": 7}
    vision = {"hidden_size": 32, "intermediate_size": 64, "patch_size": 4, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = Lfm3VlConfig(
        vision_config=vision | {"num_hidden_layers": 2, "layer_types": ["conv", "full_attention"]},
        text_config={"model_type": "lfm3"} | text, image_token_id=token("<|image_pad|>"), video_token_id=token("<|video_pad|>"),
        vision_start_token_id=token("<|vision_start|>"), vision_end_token_id=token("<|vision_end|>"), projector_hidden_size=32,
    )  # fmt: skip
    return Lfm3VlForConditionalGeneration(config), processor


def gemma4() -> tuple[Any, Any]:
    """Gemma 4 E2B's class: embeddings for each layer, later layers that read the keys of earlier ones, sliding windows, capped logits."""
    from transformers import Gemma4Config, Gemma4ForConditionalGeneration
    from transformers.models.gemma4.feature_extraction_gemma4 import Gemma4AudioFeatureExtractor
    from transformers.models.gemma4.image_processing_pil_gemma4 import Gemma4ImageProcessorPil
    from transformers.models.gemma4.processing_gemma4 import Gemma4Processor

    tokenizer = tokenizer_with(
        "<bos>", "<|turn>", "<turn|>", "<|video|>", eos="<turn|>", image_token="<|image|>", boi_token="<|image>", eoi_token="<image|>",
        audio_token="<|audio|>", boa_token="<|audio>", eoa_token="<audio|>",
    )  # fmt: skip
    tokenizer.bos_token = "<bos>"
    images = Gemma4ImageProcessorPil(patch_size=4, max_soft_tokens=70, pooling_kernel_size=2)
    processor = without_video(Gemma4Processor, VIDEO["gemma4"]).from_args_and_dict(
        [Gemma4AudioFeatureExtractor(), images, tokenizer], {}, chat_template=templates.GEMMA4
    )
    token = tokenizer.convert_tokens_to_ids
    kinds = ["sliding_attention", "full_attention", "sliding_attention", "full_attention"]
    text = TEXT | common(tokenizer) | {
        "num_hidden_layers": 4, "head_dim": 8, "global_head_dim": 16, "sliding_window": 24, "layer_types": kinds, "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": len(tokenizer) + 3, "final_logit_softcapping": 30.0,
        "use_double_wide_mlp": True,
    }  # fmt: skip
    vision = VISION | {"head_dim": 16, "num_key_value_heads": 2, "patch_size": 4, "pooling_kernel_size": 2, "position_embedding_size": 64}
    config = Gemma4Config(
        text_config=text, vision_config=vision, audio_config=None, image_token_id=token("<|image|>"), video_token_id=token("<|video|>"),
        audio_token_id=token("<|audio|>"), boi_token_id=token("<|image>"), eoi_token_id=token("<image|>"),
    )  # fmt: skip
    return Gemma4ForConditionalGeneration(config), processor


def granite_docling() -> tuple[Any, Any]:
    """Granite Docling's class: tiles, features of an earlier layer of the tower added deep in the language model, divided logits."""
    from transformers import GraniteDoclingConfig, GraniteDoclingForConditionalGeneration
    from transformers.models.granite_docling.image_processing_pil_granite_docling import GraniteDoclingImageProcessorPil
    from transformers.models.granite_docling.processing_granite_docling import GraniteDoclingProcessor

    tiles = (f"<row_{r}_col_{c}>" for r in range(1, 4) for c in range(1, 4))
    tokenizer = tokenizer_with("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", *tiles, eos="<|end_of_text|>")
    images = GraniteDoclingImageProcessorPil(size={"height": 16, "width": 16}, min_patches=1, max_patches=4)
    processor = GraniteDoclingProcessor(images, tokenizer, image_seq_len=4, chat_template=templates.GRANITE)
    scales = {"embedding_multiplier": 2.0, "logits_scaling": 1.25, "residual_multiplier": 0.5, "attention_multiplier": 0.3}
    deep = {"scale_factor": 2, "out_hidden_size": 32, "deepstack_visual_indexes": [0], "use_fine_route": False}
    config = GraniteDoclingConfig(
        vision_config=VISION | deep | {"image_size": 16, "patch_size": 4}, text_config=TEXT | common(tokenizer) | scales,
        image_token_id=processor.image_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return GraniteDoclingForConditionalGeneration(config), processor
