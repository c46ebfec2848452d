"""The families: tiny random-weight models of real transformers classes with their own processors, as they would lie on the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import chat_templates as templates
import newer_families as newer
import torch
import transformers
from family_parts import TEXT, VISION, begun, common, qwen_vl, text_only, tokenizer_with, without_video


def idefics3() -> tuple[Any, Any]:
    """SmolVLM's class, with image splitting as in the real checkpoints: a picture's size decides its number of tiles."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tiles = (f"<row_{r}_col_{c}>" for r in range(1, 4) for c in range(1, 4))
    tokenizer = tokenizer_with("<|im_start|>", *tiles, eos="<end_of_utterance>")
    images = Idefics3ImageProcessorPil(size={"longest_edge": 48}, max_image_size={"longest_edge": 16}, do_image_splitting=True)
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=templates.SMOLVLM)
    config = Idefics3Config(
        image_token_id=processor.image_token_id, scale_factor=2, pad_token_id=tokenizer.pad_token_id, tie_word_embeddings=True,
        vision_config=dict(**VISION, image_size=16, patch_size=4),
        text_config=dict(model_type="llama", **TEXT, **common(tokenizer), tie_word_embeddings=True),
    )  # fmt: skip
    return Idefics3ForConditionalGeneration(config), processor


def smolvlm() -> tuple[Any, Any]:
    """SmolVLM2's class; its own processor needs torchvision and num2words, that of Idefics3 serves pictures alike."""
    from transformers import SmolVLMConfig, SmolVLMForConditionalGeneration

    model, processor = idefics3()
    shape = {k: getattr(model.config, k) for k in ("image_token_id", "scale_factor", "tie_word_embeddings", "text_config")}
    config = SmolVLMConfig(**shape, vision_config=dict(**VISION, image_size=16, patch_size=4))
    return SmolVLMForConditionalGeneration(config), processor


def llava() -> tuple[Any, Any]:
    """LLaVA 1.5's class: CLIP with its class token dropped, the last layer but one, Llama, untied embeddings."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer = begun(tokenizer_with("<s>"), "<s>")
    images = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor = LlavaProcessor(
        images,
        tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=templates.LLAVA,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION, image_size=16, patch_size=4),
        text_config=LlamaConfig(**TEXT, **common(tokenizer)),
        image_token_id=processor.image_token_id, vision_feature_layer=-2, image_seq_length=16,
    )  # fmt: skip
    return LlavaForConditionalGeneration(config), processor


def llava_onevision() -> tuple[Any, Any]:
    """LLaVA-OneVision's class: SigLIP at any resolution, Qwen2, tied embeddings."""
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionProcessor,
        Qwen2Config,
        SiglipVisionConfig,
    )
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

    tokenizer = tokenizer_with("<|im_start|>", "<|im_end|>", "<video>", eos="<|im_end|>")
    pinpoints = [[16, 16], [16, 32], [32, 16], [32, 32]]
    images = LlavaOnevisionImageProcessorPil(size={"height": 16, "width": 16}, image_grid_pinpoints=pinpoints)
    processor = without_video(LlavaOnevisionProcessor)(
        images, tokenizer, num_image_tokens=16, vision_feature_select_strategy="full", chat_template=templates.LLAVA_ONEVISION
    )
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**VISION, image_size=16, patch_size=4, vision_use_head=False),
        text_config=Qwen2Config(**TEXT, **common(tokenizer), tie_word_embeddings=True),
        image_token_id=processor.image_token_id, video_token_id=processor.video_token_id, image_grid_pinpoints=pinpoints,
        vision_feature_layer=-1, vision_feature_select_strategy="full", tie_word_embeddings=True,
    )  # fmt: skip
    return LlavaOnevisionForConditionalGeneration(config), processor


def internvl(text: str = "qwen2") -> tuple[Any, Any]:
    """InternVL3's class: one 16-pixel tile a picture or several and a thumbnail, pixel shuffle, Qwen2."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration, InternVLProcessor, InternVLVisionConfig
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    tokenizer = tokenizer_with(
        "<|im_start|>", "<|im_end|>", eos="<|im_end|>",
        start_image_token="<img>", end_image_token="</img>", context_image_token="<IMG_CONTEXT>", video_token="<video>",
    )  # fmt: skip
    images = GotOcr2ImageProcessorPil(size={"height": 16, "width": 16}, crop_to_patches=True, min_patches=1, max_patches=4)
    processor = without_video(InternVLProcessor)(images, tokenizer, image_seq_length=4, chat_template=templates.INTERNVL)
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**VISION, image_size=16, patch_size=4),
        text_config={"model_type": text, "head_dim": 8} | TEXT | common(tokenizer),
        image_token_id=processor.image_token_id, image_seq_length=4, tie_word_embeddings=False,
    )  # fmt: skip
    return InternVLForConditionalGeneration(config), processor


def internvl3_5() -> tuple[Any, Any]:
    """InternVL3.5's: the same with Qwen3."""
    return internvl("qwen3")


def qwen2_vl() -> tuple[Any, Any]:
    """Qwen2-VL's class."""
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor

    config, processor = qwen_vl(Qwen2VLConfig, Qwen2VLProcessor, {"embed_dim": 32, "hidden_size": 32}, {"mrope_section": [2, 1, 1]})
    return Qwen2VLForConditionalGeneration(config), processor


def qwen2_5_vl() -> tuple[Any, Any]:
    """Qwen2.5-VL's class: window attention in the tower."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

    vision = {"hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32, "window_size": 16, "fullatt_block_indexes": [1]}
    config, processor = qwen_vl(Qwen2_5_VLConfig, Qwen2_5_VLProcessor, vision, {"mrope_section": [2, 1, 1]})
    return Qwen2_5_VLForConditionalGeneration(config), processor


def qwen3_vl() -> tuple[Any, Any]:
    """Qwen3-VL's class: interleaved axes, and features of an earlier layer of the tower added deep in the language model."""
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor

    vision = {
        "hidden_size": 32, "intermediate_size": 64, "out_hidden_size": 32, "num_position_embeddings": 64, "deepstack_visual_indexes": [0],
    }  # fmt: skip
    rope = {"mrope_section": [2, 1, 1], "mrope_interleaved": True}
    config, processor = qwen_vl(Qwen3VLConfig, Qwen3VLProcessor, vision, rope, templates.QWEN3_VL)
    return Qwen3VLForConditionalGeneration(config), processor


def paligemma() -> tuple[Any, Any]:
    """PaliGemma 2's class: image and question see each other both ways, the answer is causal, logits are capped (Gemma 2)."""
    from transformers import Gemma2Config, PaliGemmaConfig, PaliGemmaForConditionalGeneration, PaliGemmaProcessor, SiglipVisionConfig
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    tokenizer = tokenizer_with("<bos>", image_token="<image>")
    tokenizer.bos_token = "<bos>"
    images = SiglipImageProcessorPil(size={"height": 16, "width": 16})
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(images, tokenizer, chat_template=templates.PALIGEMMA)
    text = TEXT | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 4096}
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**VISION, image_size=16, patch_size=4, vision_use_head=False, projection_dim=32),
        text_config=Gemma2Config(**text, **common(tokenizer)),
        image_token_index=processor.image_token_id, projection_dim=32, hidden_size=32, vocab_size=len(tokenizer) + 3,
    )  # fmt: skip
    return PaliGemmaForConditionalGeneration(config), processor


def gemma3() -> tuple[Any, Any]:
    """Gemma 3's class: image tokens see each other both ways; all layers but the last look no further back than 24 tokens."""
    from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3Processor, Gemma3TextConfig, SiglipVisionConfig
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    tokenizer = tokenizer_with(
        "<bos>", "<start_of_turn>", eos="<end_of_turn>",
        image_token="<image_soft_token>", boi_token="<start_of_image>", eoi_token="<end_of_image>",
    )  # fmt: skip
    tokenizer.add_tokens(["<end_of_turn>"], special_tokens=True)
    tokenizer.bos_token = "<bos>"
    images = Gemma3ImageProcessorPil(size={"height": 16, "width": 16})
    processor = Gemma3Processor(images, tokenizer, image_seq_length=4, chat_template=templates.GEMMA3)
    kinds = ["sliding_attention", "full_attention"]
    text = TEXT | {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 24, "layer_types": kinds}
    config = Gemma3Config(
        vision_config=SiglipVisionConfig(**VISION, image_size=16, patch_size=4, vision_use_head=False),
        text_config=Gemma3TextConfig(**text, **common(tokenizer)),
        mm_tokens_per_image=4, image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id, eoi_token_index=tokenizer.eoi_token_id,
    )  # fmt: skip
    return Gemma3ForConditionalGeneration(config), processor


def lfm2_vl() -> tuple[Any, Any]:
    """LFM2-VL's class: short convolutions between the attention layers, so that a token mixes with its neighbours in the sequence.

    Its own picture half exists for torchvision alone; that of SigLIP 2 makes the same inputs of a picture that is not split.
    """
    from transformers import Lfm2Config, Lfm2VlConfig, Lfm2VlForConditionalGeneration, Lfm2VlProcessor, Siglip2VisionConfig

    tokenizer = tokenizer_with(
        "<|startoftext|>", "<|im_start|>", "<|im_end|>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>", eos="<|im_end|>"
    )
    tokenizer.bos_token = "<|startoftext|>"
    images = lfm2_images()(patch_size=4, max_num_patches=64)
    processor = Lfm2VlProcessor(images, tokenizer, chat_template=templates.LFM2_VL)
    text = TEXT | {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False}
    config = Lfm2VlConfig(
        vision_config=Siglip2VisionConfig(**VISION, patch_size=4, num_patches=36, vision_use_head=False),
        text_config=Lfm2Config(**text, **common(tokenizer)),
        image_token_id=processor.image_token_id, projector_hidden_size=32, downsample_factor=2,
    )  # fmt: skip
    return Lfm2VlForConditionalGeneration(config), processor


def lfm2_images() -> Any:
    """A picture half for LFM2-VL without torchvision: sides are even numbers of patches, inputs padded to the most patches."""
    from transformers import AutoImageProcessor, Lfm2VlConfig
    from transformers.models.siglip2.image_processing_pil_siglip2 import Siglip2ImageProcessorKwargs, Siglip2ImageProcessorPil

    class Options(Siglip2ImageProcessorKwargs, total=False):
        return_row_col_info: bool

    class EvenPatchesImageProcessorPil(Siglip2ImageProcessorPil):
        valid_kwargs = Options
        use_thumbnail, tile_size, downsample_factor, encoder_patch_size = False, 16, 2, 4

        def preprocess(self, images: Any, **kwargs: Any) -> Any:
            even = [[picture.resize(tuple(max(8, side // 8 * 8) for side in picture.size)) for picture in own] for own in images]
            options = {k: v for k, v in kwargs.items() if k in ("return_tensors", "do_convert_rgb")}
            out = super().preprocess(even, **options, do_resize=False)
            flat = [picture for own in even for picture in own]
            return out | {"image_rows": [1] * len(flat), "image_cols": [1] * len(flat), "image_sizes": [p.size[::-1] for p in flat]}

    halves = {"pil": EvenPatchesImageProcessorPil, "torchvision": EvenPatchesImageProcessorPil}
    AutoImageProcessor.register(Lfm2VlConfig, image_processor_classes=halves, exist_ok=True)
    return EvenPatchesImageProcessorPil


def llama() -> tuple[Any, Any]:
    """Llama's class, with the begin token that its tokenizer puts before all text and its template writes itself."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = begun(tokenizer_with("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", eos="<|eot_id|>"))
    return text_only(LlamaConfig, LlamaForCausalLM, tokenizer, templates.LLAMA3)


def qwen2() -> tuple[Any, Any]:
    """Qwen2's class (and Qwen2.5's)."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    return text_only(Qwen2Config, Qwen2ForCausalLM)


def qwen3() -> tuple[Any, Any]:
    """Qwen3's class; the marks of its thinking are tokens, but not special ones."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    tokenizer = tokenizer_with("<|im_start|>", "<|im_end|>", eos="<|im_end|>")
    tokenizer.add_tokens(["<think>", "</think>"])
    return text_only(Qwen3Config, Qwen3ForCausalLM, tokenizer, templates.QWEN3)


PACKED = (idefics3, smolvlm, llava, llava_onevision, internvl, qwen2_vl, qwen2_5_vl, qwen3_vl, newer.granite_docling)
"""Families that see and take the tree's mask."""
UNPACKED = (paligemma, gemma3, lfm2_vl, newer.qwen3_5, newer.lfm3_vl, newer.gemma4)
"""Families that see and get branches behind a cached trunk: blocks that see both ways, sliding windows, convolutions, linear attention."""
TEXT_ONLY = (llama, qwen2, qwen3)
LATE = {newer.lfm3_vl: "Lfm3VlConfig", newer.granite_docling: "GraniteDoclingConfig", newer.gemma4: "Lfm3VlConfig"}
"""Families that the oldest supported transformers lacks, or for whose processor it needs torchvision."""
PACKED, UNPACKED = (tuple(make for make in some if hasattr(transformers, LATE.get(make, "Cache"))) for some in (PACKED, UNPACKED))
FAMILIES = {make.__name__: make for make in (*PACKED, *UNPACKED, *TEXT_ONLY)}
VARIANTS = {make.__name__: make for make in (internvl3_5,)}
"""Checkpoints of a family whose language model is another."""
SEEING = [make.__name__ for make in (*PACKED, *UNPACKED)]
TREES = [make.__name__ for make in (*PACKED, *TEXT_ONLY)]
"""Families that take the tree."""
CACHED = [make.__name__ for make in UNPACKED]
"""Families that take the cached trunk."""
PICTURE_NEEDED = ("paligemma",)
"""Families whose processor refuses a prompt without a picture."""
MERGED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_5", "granite_docling")
"""Families whose projector is part of the tower: it is frozen with it."""
VIDEO = {
    "llava_onevision": "LlavaOnevisionVideoProcessor", "internvl": "InternVLVideoProcessor", "internvl3_5": "InternVLVideoProcessor",
    "qwen2_vl": "Qwen2VLVideoProcessor", "qwen2_5_vl": "Qwen2VLVideoProcessor", "qwen3_vl": "Qwen3VLVideoProcessor",
    "qwen3_5": "Qwen3VLVideoProcessor", **{family: settings["video_processor_type"] for family, settings in newer.VIDEO.items()},
}  # fmt: skip
"""Video halves that published folders name; they need torchvision."""


def checkpoint(family: str, folder: Path) -> Path:
    """Save a family's tiny model in `folder`, as it would lie on the hub."""
    torch.manual_seed(0)
    model, processor = (FAMILIES | VARIANTS)[family]()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim >= 2:
                weight.normal_(0, 0.15)  # wider than the default, so that pictures and contexts matter to the logits
    tokenizer = getattr(processor, "tokenizer", processor)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if family in VIDEO:  # as published folders have it
        file = folder / "processor_config.json"
        settings = json.loads(file.read_text())
        settings.setdefault("video_processor", {})["video_processor_type"] = VIDEO[family]
        file.write_text(json.dumps(settings))
    return folder
