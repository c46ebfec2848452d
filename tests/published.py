"""Configurations of published checkpoints, with their numbers, built without weights on the meta device."""

from __future__ import annotations

from typing import Any

import torch

SIGLIP_B = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12, "image_size": 512, "patch_size": 16,
}  # fmt: skip
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 512,
    "patch_size": 16,
}
SIGLIP_SO = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26, "num_attention_heads": 16, "image_size": 384, "patch_size": 14,
}  # fmt: skip
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}
SMOLLM2_135M = {
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "head_dim": 64,
}  # fmt: skip
SMOLLM2_360M = {
    "hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15, "num_key_value_heads": 5, "head_dim": 64,
}  # fmt: skip
QWEN2_0_5B = {
    "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
}  # fmt: skip


def smolvlm(text: dict[str, Any]) -> Any:
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration

    config = Idefics3Config(
        vision_config=SIGLIP_B, text_config=dict(model_type="llama", vocab_size=49280, tie_word_embeddings=False, **text),
        scale_factor=4, image_token_id=49190, pad_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip
    return Idefics3ForConditionalGeneration(config)


def smolvlm_256m() -> Any:
    return smolvlm(SMOLLM2_135M)


def smolvlm_500m() -> Any:
    return smolvlm(SMOLLM2_360M)


def llava_onevision_0_5b() -> Any:
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, Qwen2Config, SiglipVisionConfig

    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**SIGLIP_SO, vision_use_head=False),
        text_config=Qwen2Config(**QWEN2_0_5B, vocab_size=152000, tie_word_embeddings=True), tie_word_embeddings=True,
    )  # fmt: skip
    return LlavaOnevisionForConditionalGeneration(config)


def internvl3_1b() -> Any:
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLVisionConfig, Qwen2Config

    vision = InternVLVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=448, patch_size=14, attention_bias=True,
    )  # fmt: skip
    text = Qwen2Config(**QWEN2_0_5B, vocab_size=151674, tie_word_embeddings=False)
    return InternVLForConditionalGeneration(InternVLConfig(vision_config=vision, text_config=text, tie_word_embeddings=False))


def qwen2_5_vl_7b() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    vision = {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584, "patch_size": 14,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
    }  # fmt: skip
    text = {
        "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
        "vocab_size": 152064, "tie_word_embeddings": False,
    }  # fmt: skip
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(vision_config=vision, text_config=text, tie_word_embeddings=False))


def qwen2_5_0_5b() -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return Qwen2ForCausalLM(Qwen2Config(**QWEN2_0_5B, vocab_size=151936, tie_word_embeddings=True))


def smollm2_135m() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**SMOLLM2_135M, vocab_size=49152, tie_word_embeddings=True))


PUBLISHED = {
    "SmolVLM-256M": smolvlm_256m, "SmolVLM-500M": smolvlm_500m, "LLaVA-OneVision-0.5B": llava_onevision_0_5b, "InternVL3-1B": internvl3_1b,
    "Qwen2.5-VL-7B": qwen2_5_vl_7b, "Qwen2.5-0.5B": qwen2_5_0_5b, "SmolLM2-135M": smollm2_135m,
}  # fmt: skip


def on_meta(name: str) -> Any:
    """A published model's modules, without storage."""
    with torch.device("meta"):
        return PUBLISHED[name]()
