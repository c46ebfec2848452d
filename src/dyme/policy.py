"""The policy: any Hugging Face image-text-to-text or causal language model, with one door to prompts and one to log-probabilities.

A prompt is rendered by the model's own chat template, once and alike for SFT, rollouts and evaluation, so that all see the
same context. Targets are tokenized as the template would place them after the generation prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

from dyme.config import ModelConfig
from dyme.errors import DataError, ModelError
from dyme.tree import TreeBatch
from dyme.types import Sample

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A tokenized prompt with its vision inputs (as the processor made them, batch size 1)."""

    token_ids: tuple[int, ...]
    vision: dict[str, torch.Tensor]


class Policy(torch.nn.Module):
    """A model with its processor. `forward` takes a TreeBatch, so that data-parallel wrappers see every update."""

    def __init__(self, model: Any, processor: Any) -> None:
        super().__init__()
        self.model = model
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self.takes_images = self.tokenizer is not processor
        self.lead = self._lead()
        self.eos = self._eos()
        self.pad: int = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.eos
        self.forbidden = self._forbidden()

    @classmethod
    def load(cls, config: ModelConfig) -> Policy:
        """Load weights and processor; raises ModelError in one line for a folder that cannot be used."""
        path = resolve(config)
        transformers.utils.logging.disable_progress_bar()  # it breaks the live display
        try:
            shape = AutoConfig.from_pretrained(path, trust_remote_code=config.trust_remote_code)
            multimodal = hasattr(shape, "vision_config")
            loader = AutoModelForImageTextToText if multimodal else AutoModelForCausalLM
            read = _processor if multimodal else AutoTokenizer.from_pretrained
            processor = read(path, trust_remote_code=config.trust_remote_code)
            model, found = loader.from_pretrained(
                path, dtype=getattr(torch, config.dtype), trust_remote_code=config.trust_remote_code, output_loading_info=True
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"{config.path}: cannot load the model: {_first_line(error)}") from error
        if missing := sorted(found["missing_keys"]):
            raise ModelError(
                f"{config.path}: lacks {len(missing)} of the model's weights ({missing[0]} ...); the download may be incomplete"
            )
        if getattr(processor, "chat_template", None) is None:
            raise ModelError(f"{config.path}: has no chat template; use an instruction-tuned checkpoint or add chat_template.jinja")
        if "mrope" in str(getattr(shape.get_text_config(), "rope_parameters", "")):
            raise ModelError(f"{config.path}: {shape.model_type} needs three-dimensional rotary positions, which dyme does not lay out yet")
        policy = cls(model, processor)
        if config.freeze_vision:
            policy.freeze_vision()
        return policy

    def freeze_vision(self) -> None:
        """Stop gradients in the vision tower (the projector still trains, as in the paper)."""
        for name in ("vision_model", "vision_tower", "visual"):
            tower = getattr(self.model.base_model, name, None)
            if tower is not None:
                tower.requires_grad_(False)

    def encode(self, sample: Sample, instruction: str) -> Prompt:
        """Render and tokenize one prompt: images, question, instruction.

        Raises DataError if a text-only model is given images.
        """
        if sample.images and not self.takes_images:
            raise DataError(f"{sample.id}: has an image, but {type(self.model).__name__} reads text only; use a vision-language model")
        text = f"{sample.question} {instruction}".strip()
        content: Any = [{"type": "image"} for _ in sample.images] + [{"type": "text", "text": text}] if self.takes_images else text
        rendered = self._render([{"role": "user", "content": content}])
        if not self.takes_images:
            return Prompt(token_ids=tuple(self._tokenize(rendered)), vision={})
        images = {"images": [[source.load() for source in sample.images]]} if sample.images else {}
        out = self.processor(text=[rendered], return_tensors="pt", add_special_tokens=False, **images)
        vision = {k: v for k, v in out.items() if k not in ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")}
        return Prompt(token_ids=tuple(out["input_ids"][0].tolist()), vision=vision)

    def target(self, text: str) -> tuple[int, ...]:
        """Tokens of an answer as the chat template places it, with the end token."""
        return (*self._tokenize(self.lead + text), self.eos)

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of a completion, special tokens left out."""
        text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return text

    def forward(self, batch: TreeBatch, temperature: float = 1.0) -> torch.Tensor:
        """Log-probabilities [N] of a batch's target tokens, float32; logits exist only where a branch reads them.

        Explored tokens are scored at the sampling `temperature`, imitated ones at 1.
        """
        hidden_BLD = self.model.base_model(
            input_ids=batch.input_ids_BL,
            attention_mask=self._mask(batch),
            position_ids=batch.position_ids_BL,
            use_cache=False,
            **batch.vision,
        ).last_hidden_state
        logits_NV = self.model.get_output_embeddings()(hidden_BLD[batch.row_N, batch.column_N]).float()
        if temperature != 1.0:
            logits_NV = logits_NV / torch.where(batch.imitate_N, 1.0, temperature)[:, None]
        logprob_N: torch.Tensor = logits_NV.log_softmax(-1).gather(1, batch.target_N[:, None])[:, 0]
        return logprob_N

    def _mask(self, batch: TreeBatch) -> torch.Tensor:
        """The tree's mask as the attention wants it: eager attention adds masks to scores, so it must not be given booleans."""
        if self.model.config.get_text_config()._attn_implementation != "eager":
            return batch.mask_B1LL
        dtype = self.model.dtype
        return torch.zeros_like(batch.mask_B1LL, dtype=dtype).masked_fill(~batch.mask_B1LL, torch.finfo(dtype).min)

    def save(self, folder: Path, state: dict[str, torch.Tensor] | None = None) -> None:
        """Write a folder that plain transformers loads: safetensors, config, processor."""
        own = None if state is None else {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
        self.model.save_pretrained(folder, state_dict=own)
        self.processor.save_pretrained(folder)

    def _render(self, messages: list[dict[str, Any]], generate: bool = True) -> str:
        text: str = self.processor.apply_chat_template(messages, add_generation_prompt=generate, tokenize=False)
        return text

    def _tokenize(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _lead(self) -> str:
        """What the template puts between the generation prompt and an answer's first character: "" or " "."""
        user = {"role": "user", "content": [{"type": "text", "text": "q"}] if self.takes_images else "q"}
        answer = {"role": "assistant", "content": [{"type": "text", "text": "\u241fx"}] if self.takes_images else "\u241fx"}
        whole, opening = self._render([user, answer], generate=False), self._render([user])
        between = whole.partition("\u241f")[0].removeprefix(opening)
        return between if len(between) < 3 else ""

    def _eos(self) -> int:
        ends = self.model.generation_config.eos_token_id
        ends = ends if isinstance(ends, list) else [ends]
        own = self.tokenizer.eos_token_id
        end = own if own in ends or ends[0] is None else ends[0]
        if end is None:
            raise ModelError(f"{type(self.model).__name__}: neither the tokenizer nor the generation config names an end token")
        return int(end)

    def _forbidden(self) -> torch.Tensor:
        """[V] True for tokens that must never be sampled: image placeholders, other special tokens, padded vocabulary."""
        size = self.model.get_output_embeddings().weight.shape[0]
        mask = torch.zeros(size, dtype=torch.bool)
        mask[len(self.tokenizer) :] = True
        config = self.model.config
        placeholders = [getattr(config, f"{kind}_token_{word}", None) for kind in ("image", "video") for word in ("id", "index")]
        special = [token for token, added in self.tokenizer.added_tokens_decoder.items() if added.special]  # <row_1_col_1> and its like
        for token in [*self.tokenizer.all_special_ids, *special, *placeholders]:
            if token is not None and token != self.eos and token < size:
                mask[token] = True
        return mask


def resolve(config: ModelConfig) -> str:
    """The folder or hub id behind `config.path`; raises ModelError, before torch does any work, for an unusable folder."""
    if config.path == "embedded":
        return str(resources.files("dyme.zoo") / "base")
    folder = Path(config.path)
    if not folder.exists():
        if folder.is_absolute() or config.path.count("/") != 1 or config.path.startswith("."):
            raise ModelError(f"{config.path}: no such folder; give a local folder, a hub id such as org/name, or embedded")
        return config.path
    final = folder / "model"
    if not (folder / "config.json").exists() or not any(folder.glob("*token*")):
        if (final / "config.json").exists():
            folder = final
        elif not (folder / "config.json").exists():
            raise ModelError(f"{config.path}: has no config.json; give the folder of a Hugging Face checkpoint or of a finished run")
    if not any(file.stat().st_size for pattern in _WEIGHTS for file in folder.glob(pattern)):
        raise ModelError(f"{config.path}: has no weights (*.safetensors); the download may be incomplete")
    if not config.trust_remote_code and '"auto_map"' in (folder / "config.json").read_text(encoding="utf-8"):
        raise ModelError(f"{config.path}: wants to run its own Python code; if you trust it, add --model.trust_remote_code true")
    return str(folder)


def _processor(path: str, trust_remote_code: bool) -> Any:
    """The processor with its PIL image half; a video half needs torchvision, so where it cannot load only its settings are kept."""
    options = {"backend": "pil", "trust_remote_code": trust_remote_code}
    try:
        return AutoProcessor.from_pretrained(path, **options)
    except ImportError:
        shape = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
        kind = getattr(transformers, PROCESSOR_MAPPING_NAMES.get(shape.model_type, ""), None)
        if kind is None or "video_processor" not in kind.get_attributes():
            raise
    kept = [name for name in kind.get_attributes() if name != "video_processor"]
    video = {k: v for k, v in kind.get_processor_dict(path)[0].items() if k == "video_processor"}
    members = {"get_attributes": staticmethod(lambda: kept), "to_dict": lambda self: kind.to_dict(self) | video}
    slim: Any = type(kind.__name__, (kind,), members)
    return slim.from_pretrained(path, **options)


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
