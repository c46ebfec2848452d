"""The models that the benchmarks run, with prompts of an exact length. LLaVA-OneVision's classes, random weights; others: `hybrids.py`.

tiny        for tests: whether the benchmarks run, not how fast anything is
small       about 10 M parameters; a trunk of 1,236 tokens of which 1,176 are the image (two tiles of 192 x 192); fp32
reference   LLaVA-OneVision-0.5B: SigLIP-so400m and Qwen2-0.5B; a 384 x 384 picture is 1,485 of 1,545 tokens; bf16 on a GPU
smolvlm     SmolVLM-500M: SigLIP-base and SmolLM2-360M; a square picture is 17 tiles, 1,088 of 1,300 tokens; bf16 on a GPU
smoltiny    the same for tests

The frozen tower and the trained rest are as DyME trains. Speed does not depend on what the weights are.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from hybrids import FAMILIES
from PIL import Image

from dyme.embedded import architecture, curriculum
from dyme.model.loading import attend
from dyme.model.policy import Policy
from dyme.model.tree import Prompt
from dyme.model.vision import tower_of
from dyme.targets import target_text
from dyme.types import Completion, Group, Sample, Verdict

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
MARKER = "Answer:"
WORD = " value"
"""A word of one token, with which prompts and targets are filled to their length."""
Name = Literal["tiny", "small", "reference", "smolvlm", "smoltiny"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Dimensions of a model and of the work that it is given."""

    name: Name
    vision: dict[str, int]
    text: dict[str, Any]
    trunk: int
    """Tokens of a prompt."""
    new_tokens: int = 128
    """Tokens of a completion and of a target."""
    num_generations: int = 8
    prompts: int = 1
    dtype: torch.dtype = torch.float32
    family: str = "llava_onevision"
    tiles: int = 0
    """Tiles along an edge of a picture, for idefics3."""

    @property
    def side(self) -> int:
        """Tokens of a side of the square picture that the other families get: about as many tokens as LLaVA-OneVision's tiles have."""
        patches = self.tile // self.vision["patch_size"]
        return int((2 * patches * patches + patches) ** 0.5)

    @property
    def edge(self) -> int:
        """Pixels of a picture's side."""
        if self.tiles:
            return self.tiles * self.tile
        return self.tile if self.family == "llava_onevision" else self.side * self.vision["patch_size"]

    @property
    def tile(self) -> int:
        return self.vision["image_size"]

    @property
    def tile_tokens(self) -> int:
        """Tokens of a tile, for idefics3: one for 4 x 4 patches."""
        return (self.tile // self.vision["patch_size"] // 4) ** 2

    @property
    def image_tokens(self) -> int:
        """One tile for the overview, one for the picture, and a newline token behind each row of the latter; or one square, or tiles."""
        if self.tiles:
            return self.tile_tokens * (self.tiles**2 + 1)
        if self.family != "llava_onevision":
            return self.side * self.side
        side = self.tile // self.vision["patch_size"]
        return side * side + side * (side + 1)

    def but(self, **changes: Any) -> Shape:
        """The same shape with some fields changed."""
        return replace(self, **changes)


SHAPES: dict[Name, Shape] = {
    "tiny": Shape(
        name="tiny",
        vision={
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32, "patch_size": 8,
        },
        text={
            "vocab_size": 4200, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "max_position_embeddings": 2048,
        },
        trunk=64,
    ),
    "small": Shape(
        name="small",
        vision={
            "hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3, "intermediate_size": 768,
            "image_size": 192, "patch_size": 8,
        },
        text={
            "vocab_size": 8000, "hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 4,
            "num_key_value_heads": 2, "max_position_embeddings": 8192,
        },
        trunk=1236,
    ),
    "reference": Shape(
        name="reference",
        vision={
            "hidden_size": 1152, "num_hidden_layers": 26, "num_attention_heads": 16, "intermediate_size": 4304,
            "image_size": 384, "patch_size": 14,
        },
        text={
            "vocab_size": 152000, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
            "num_key_value_heads": 2, "max_position_embeddings": 32768,
        },
        trunk=1545,
        dtype=torch.bfloat16,
    ),
    "smolvlm": Shape(
        name="smolvlm",
        vision={
            "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
            "image_size": 512, "patch_size": 16,
        },
        text={
            "vocab_size": 49280, "hidden_size": 960, "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15,
            "num_key_value_heads": 5, "max_position_embeddings": 8192,
        },
        trunk=1300,
        dtype=torch.bfloat16,
        family="idefics3",
        tiles=4,
    ),
    "smoltiny": Shape(
        name="smoltiny",
        vision={
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, "image_size": 32, "patch_size": 4,
        },
        text={
            "vocab_size": 4200, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "num_key_value_heads": 1, "max_position_embeddings": 2048,
        },
        trunk=100,
        family="idefics3",
        tiles=2,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Noise:
    """A picture of coloured noise from a seed, one tile large."""

    seed: int
    edge: int

    @property
    def key(self) -> str:
        return f"{self.seed}:{self.edge}"

    def load(self) -> Image.Image:
        return Image.frombytes("RGB", (self.edge, self.edge), random.Random(self.seed).randbytes(3 * self.edge**2))


def build_processor(shape: Shape) -> Any:
    """The family's processor on the embedded tokenizer; LLaVA-OneVision's without its video half, which needs torchvision."""
    if shape.family in FAMILIES:
        return FAMILIES[shape.family][0](shape)
    from transformers import LlavaOnevisionProcessor
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

    tokenizer = architecture.build_tokenizer(curriculum.corpus(conversations=200))
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>", "<video>"], special_tokens=True)
    tokenizer.eos_token = "<|im_end|>"
    tokenizer.model_max_length = shape.text["max_position_embeddings"]
    images = LlavaOnevisionImageProcessorPil(size={"height": shape.tile, "width": shape.tile}, image_grid_pinpoints=[[shape.tile] * 2])
    parts = staticmethod(lambda: ["image_processor", "tokenizer"])
    kind: Any = type("LlavaOnevisionProcessor", (LlavaOnevisionProcessor,), {"get_attributes": parts})
    side = shape.tile // shape.vision["patch_size"]
    return kind(images, tokenizer, num_image_tokens=side * side, vision_feature_select_strategy="full", chat_template=CHATML)


def build_model(shape: Shape, processor: Any, device: str) -> Any:
    """The model with random weights from seed 0, its vision tower frozen."""
    if shape.family in FAMILIES:
        kind, config = FAMILIES[shape.family][1](shape, processor)
        return _built(kind, config, shape, processor.tokenizer).to(device)
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, Qwen2Config, SiglipVisionConfig

    tokenizer = processor.tokenizer
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**shape.vision, vision_use_head=False),
        text_config=Qwen2Config(**shape.text, **ends, tie_word_embeddings=True),
        image_token_id=processor.image_token_id, video_token_id=processor.video_token_id, image_grid_pinpoints=[[shape.tile] * 2],
        vision_feature_layer=-1, vision_feature_select_strategy="full", tie_word_embeddings=True,
    )  # fmt: skip
    return _built(LlavaOnevisionForConditionalGeneration, config, shape, tokenizer).to(device)


def _built(kind: Any, config: Any, shape: Shape, tokenizer: Any) -> Any:
    torch.manual_seed(0)
    model = kind._from_config(config, dtype=shape.dtype, attn_implementation="sdpa")
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    tower = tower_of(model)
    assert tower is not None
    tower.requires_grad_(False)
    return model


def build_policy(shape: Shape, device: str, attention: str = "tree") -> Policy:
    """Ours: the model with its processor and attention (a value of model.attention); no vision cache across steps."""
    processor = build_processor(shape)
    model = build_model(shape, processor, device)
    attend(model, attention)
    return Policy(model, processor)


def samples(policy: Policy, shape: Shape) -> list[Sample]:
    """Questions whose prompts have exactly `shape.trunk` tokens and whose targets have exactly `shape.new_tokens`."""
    rows = [
        Sample(id=f"s{k}", question="q", answer=str(k % 10), rationale="r", images=(Noise(k, shape.edge),)) for k in range(shape.prompts)
    ]
    return [_filled(policy, row, shape) for row in rows]


def _filled(policy: Policy, row: Sample, shape: Shape) -> Sample:
    missing = shape.trunk - len(policy.encode(row, "").token_ids)
    absent = shape.new_tokens - len(policy.target(target_text(row, MARKER)))
    row = replace(row, question="q" + WORD * missing, rationale="r" + WORD * absent)
    lengths = len(policy.encode(row, "").token_ids), len(policy.target(target_text(row, MARKER)))
    if lengths != (shape.trunk, shape.new_tokens):
        raise SystemExit(f"cannot make a prompt and a target of {shape.trunk} and {shape.new_tokens} tokens, but of {lengths}")
    return row


def prompts(policy: Policy, rows: list[Sample]) -> list[Prompt]:
    """The rows as the policy reads them."""
    return [policy.encode(row, "") for row in rows]


def groups(policy: Policy, rows: list[Sample], shape: Shape) -> list[Group]:
    """K completions of random tokens for each row, exactly `shape.new_tokens` long, with normally distributed rewards."""
    rng = random.Random(0)
    allowed = [token for token in (~policy.forbidden).nonzero()[:, 0].tolist() if token != policy.eos]
    out = []
    for row in rows:
        completions = [Completion(text="", token_ids=tuple(rng.choices(allowed, k=shape.new_tokens))) for _ in range(shape.num_generations)]
        verdicts = [Verdict(parsed=True, correct=True, answer="", thinking="", reward=rng.gauss(0, 1)) for _ in completions]
        out.append(Group(sample=row, completions=tuple(completions), verdicts=tuple(verdicts)))
    return out
