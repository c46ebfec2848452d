"""Configurations of published checkpoints, with their numbers, built without weights on the meta device."""

from __future__ import annotations

from typing import Any

import torch


def shape(width: int, inner: int, layers: int, heads: int, **more: int) -> dict[str, int]:
    """What all configs call alike."""
    return {"hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads} | more


SIGLIP_B = shape(768, 3072, 12, 12, image_size=512, patch_size=16)
SIGLIP_SO = shape(1152, 4304, 26, 16, image_size=384, patch_size=14)
INTERNVIT = shape(1024, 4096, 24, 16, image_size=448, patch_size=14)
SMOLLM2_135M = shape(576, 1536, 30, 9, num_key_value_heads=3, head_dim=64)
SMOLLM2_360M = shape(960, 2560, 32, 15, num_key_value_heads=5, head_dim=64)
QWEN2_0_5B = shape(896, 4864, 24, 14, num_key_value_heads=2)
QWEN2_7B = shape(3584, 18944, 28, 28, num_key_value_heads=4)


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

    vision = InternVLVisionConfig(**INTERNVIT, attention_bias=True)
    text = Qwen2Config(**QWEN2_0_5B, vocab_size=151674, tie_word_embeddings=False)
    return InternVLForConditionalGeneration(InternVLConfig(vision_config=vision, text_config=text, tie_word_embeddings=False))


def qwen2_5_vl_7b() -> Any:
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    vision = {
        "depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": 3584, "patch_size": 14,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31],
    }  # fmt: skip
    text = QWEN2_7B | {"vocab_size": 152064, "tie_word_embeddings": False}
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
