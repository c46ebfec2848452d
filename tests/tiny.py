"""Tiny random-weight models of real architectures, with prompts, groups and a plain reference to hold the update against."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image

from dyme.config import Config
from dyme.policy import Policy, Prompt
from dyme.types import Branch, Completion, Group, Route, Sample, Verdict
from dyme.update import Updater
from dyme.zoo import architecture, practice

VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
TEXT = VISION | {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 2048}
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = (
    "{% for m in messages %}{{ m['role'].upper() }}: {% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if m['role'] == 'assistant' %}<eos>{% else %} {% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


def tokenizer_with(*special: str, eos: str = "<eos>") -> Any:
    """The embedded tokenizer on a small corpus, with a family's own special tokens, which `all_special_ids` does not name."""
    tokenizer = architecture.build_tokenizer(practice.corpus(conversations=200))
    tokenizer.add_tokens(list(special), special_tokens=True)
    tokenizer.eos_token = eos
    tokenizer.model_max_length = 2048
    return tokenizer


def common(tokenizer: Any) -> dict[str, Any]:
    """Vocabulary settings of a text config, padded as real ones are."""
    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    return {"vocab_size": len(tokenizer) + 3} | ends


def idefics3() -> tuple[Any, Any]:
    """SmolVLM's class, with image splitting as in the real checkpoints: a picture's size decides its number of tiles."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    tokenizer = tokenizer_with(*(f"<row_{r}_col_{c}>" for r in range(1, 4) for c in range(1, 4)), eos="<end_of_utterance>")
    images = Idefics3ImageProcessorPil(size={"longest_edge": 48}, max_image_size={"longest_edge": 16}, do_image_splitting=True)
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=architecture.CHAT_TEMPLATE)
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

    tokenizer = tokenizer_with()
    images = CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor = LlavaProcessor(
        images, tokenizer, patch_size=4, vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=PLAIN
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
    parts = staticmethod(lambda: ["image_processor", "tokenizer"])  # its video half needs torchvision
    kind = type("LlavaOnevisionProcessor", (LlavaOnevisionProcessor,), {"get_attributes": parts})
    processor = kind(images, tokenizer, num_image_tokens=16, vision_feature_select_strategy="full", chat_template=CHATML)
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**VISION, image_size=16, patch_size=4, vision_use_head=False),
        text_config=Qwen2Config(**TEXT, **common(tokenizer), tie_word_embeddings=True),
        image_token_id=processor.image_token_id, video_token_id=processor.video_token_id, image_grid_pinpoints=pinpoints,
        vision_feature_layer=-1, vision_feature_select_strategy="full", tie_word_embeddings=True,
    )  # fmt: skip
    return LlavaOnevisionForConditionalGeneration(config), processor


def llama() -> tuple[Any, Any]:
    """A text-only model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = tokenizer_with("<|im_start|>", "<|im_end|>", eos="<|im_end|>")
    tokenizer.chat_template = CHATML
    return LlamaForCausalLM(LlamaConfig(**TEXT, **common(tokenizer), tie_word_embeddings=True)), tokenizer


FAMILIES = {make.__name__: make for make in (idefics3, smolvlm, llava, llava_onevision, llama)}


def checkpoint(family: str, folder: Path) -> Path:
    """Save a family's tiny model in `folder`, as it would lie on the hub."""
    torch.manual_seed(0)
    model, processor = FAMILIES[family]()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim >= 2:
                weight.normal_(0, 0.15)  # wider than the default, so that pictures and contexts matter to the logits
    tokenizer = getattr(processor, "tokenizer", processor)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    if family == "llava_onevision":  # as published folders have it
        file = folder / "processor_config.json"
        settings = json.loads(file.read_text()) | {"video_processor": {"video_processor_type": "LlavaOnevisionVideoProcessor"}}
        file.write_text(json.dumps(settings))
    return folder


@dataclass(frozen=True)
class Picture:
    """Coloured noise from a seed, of a size."""

    seed: int
    size: tuple[int, int] = (16, 16)

    @property
    def key(self) -> str:
        return f"{self.seed}:{self.size}"

    def load(self) -> Image.Image:
        width, height = self.size
        return Image.frombytes("RGB", self.size, random.Random(self.seed).randbytes(3 * width * height))


SIZES = ((16, 16), (40, 20), (20, 44), (34, 34), (9, 30))


def samples(policy: Policy, count: int) -> list[Sample]:
    """Questions of different lengths, each with a picture of another size if the model sees."""
    return [
        Sample(
            id=f"s{k}", question="What is " + "the height of " * (k % 3) + f"bar {k}?",
            answer=str(k), rationale="It is " + "tall " * (k % 4) + ".",
            images=(Picture(k, SIZES[k % len(SIZES)]),) if policy.takes_images else (),
        )
        for k in range(count)
    ]  # fmt: skip


def prompts(policy: Policy, count: int) -> list[Prompt]:
    return [policy.encode(sample, "Think.") for sample in samples(policy, count)]


def words(policy: Policy, length: int, rng: random.Random) -> tuple[int, ...]:
    """Random tokens that may be sampled, the last of them the end token."""
    allowed = [token for token in (~policy.forbidden).nonzero()[:, 0].tolist() if token != policy.eos]
    return (*rng.choices(allowed, k=length - 1), policy.eos)


def group(sample: Sample, completions: Sequence[Sequence[int]], rewards: Sequence[float]) -> Group:
    """A group with these tokens and rewards; a reward of at least 1 is a correct answer."""
    return Group(
        sample=sample,
        completions=tuple(Completion(text="", token_ids=tuple(ids)) for ids in completions),
        verdicts=tuple(Verdict(parsed=True, correct=r >= 1, answer="", thinking="", reward=r) for r in rewards),
    )


def groups(policy: Policy, rewards: Sequence[Sequence[float]], seed: int = 0) -> list[Group]:
    """One group per row of rewards, with random completions of 1 to 6 tokens."""
    rng = random.Random(seed)
    return [
        group(sample, [words(policy, rng.randint(1, 6), rng) for _ in row], row)
        for sample, row in zip(samples(policy, len(rewards)), rewards, strict=True)
    ]


def row_logprobs(model: Any, prompt: Prompt, tokens: Sequence[int], temperature: float = 1.0) -> torch.Tensor:
    """Log-probabilities of an answer by a plain causal forward over prompt and answer, one row, no mask, no positions."""
    ids = torch.tensor([[*prompt.token_ids, *tokens]])
    logits = model(input_ids=ids, **prompt.vision).logits[0, len(prompt.token_ids) - 1 : -1] / temperature
    return logits.log_softmax(-1).gather(1, torch.tensor(tokens)[:, None])[:, 0]


@dataclass(frozen=True)
class Step:
    """What an optimizer step did."""

    metrics: dict[str, float]
    gradients: dict[str, torch.Tensor]


def step(updater: Updater, prompts: Sequence[Prompt], groups: Sequence[Group], routes: Sequence[Route], lr: float = 0.0) -> Step:
    """`Updater.step`, with the gradients as they were before clipping; at `lr` 0 the weights stay."""
    gradients: dict[str, torch.Tensor] = {}

    def clip(parameters: Any, limit: float) -> torch.Tensor:
        gradients.update({n: p.grad.clone() for n, p in updater.bare.named_parameters() if p.grad is not None})
        return Accelerator.clip_grad_norm_(updater.accelerator, parameters, limit)

    updater.accelerator.clip_grad_norm_ = clip  # type: ignore[method-assign]
    try:
        return Step(updater.step(prompts, groups, routes, lr), gradients)
    finally:
        del updater.accelerator.clip_grad_norm_


def gradients_of(policy: Policy, config: Config, prompts: Sequence[Prompt], groups: Sequence[Group], routes: Sequence[Route]) -> Step:
    """Loss and gradients of one step from a fresh updater; the policy's weights stay."""
    return step(Updater(policy, config, Accelerator(cpu=True)), prompts, groups, routes)


def gap(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Relative distance of two sets of gradients: the norm of the difference over the norm; a missing one counts as zero."""
    zero = torch.zeros(())
    names = one.keys() | other.keys()
    apart = sum(float((one.get(n, zero) - other.get(n, zero)).double().square().sum()) for n in names)
    size = sum(float(g.double().square().sum()) for g in other.values())
    return (apart / size) ** 0.5


def grads(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A module's gradients by name; they are cleared."""
    out = {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}
    module.zero_grad()
    return out


def explore_all(route_groups: Sequence[Group], config: Config) -> list[Route]:
    """Every completion of every group, zero advantages included."""
    from dyme.route import advantages

    return [
        Route(mode="explore", branches=tuple(
            Branch(term="policy", completion=k, advantage=a)
            for k, a in enumerate(advantages([v.reward for v in g.verdicts], config.objective))
        ))
        for g in route_groups
    ]  # fmt: skip
