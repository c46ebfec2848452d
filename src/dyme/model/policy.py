"""The policy: any Hugging Face image-text-to-text or causal language model, with one function for prompts and one for log-probabilities.

A prompt is rendered by the model's own chat template (`chat.py`), once and alike for imitation, rollouts and evaluation, so that all
see the same context. Targets are tokenized as the template would place them after the generation prompt.
"""

from __future__ import annotations

import atexit
import inspect
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from dyme.config import ModelConfig
from dyme.errors import DataError, ModelError
from dyme.model import adapters
from dyme.model.attention import NAME, carrier
from dyme.model.chat import Chat
from dyme.model.loading import declare, first_line, open_checkpoint
from dyme.model.pictures import Pictures, name_of
from dyme.model.tree import Prompt, TreeBatch, block_mask, tree_mask
from dyme.model.trunk.cache import Trunk
from dyme.model.vision import Shelf, Tower, tower_of
from dyme.types import Sample

HEAD_BYTES = 2**28
"""Log-probabilities are computed in pieces whose float32 logits take no more than this."""
_TOKEN_TYPES = ("token_type_ids", "mm_token_type_ids")


class Policy(torch.nn.Module):
    """A model with its processor. `forward` takes a TreeBatch, so that data-parallel wrappers see every update."""

    def __init__(self, model: Any, processor: Any, shelf: Shelf | None = None, chat: Chat | None = None) -> None:
        super().__init__()
        self.model = model
        self.processor = processor
        self.chat = chat or Chat(processor)
        self.tokenizer, self.takes_images = self.chat.tokenizer, self.chat.takes_images
        self.notes: list[str] = []
        """Lines for the user about how this checkpoint is read."""
        self.cache_kind: Any = None
        """The kind of cache that its rollouts take (`rollout/cache.py`); None until the first of them."""
        self.ends = self._ends()
        self.eos = self.ends[0]
        self.pad: int = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.eos
        self.forbidden = self._forbidden()
        self.tower = Tower(model, shelf)
        self.pictures = Pictures(processor)
        self.whole: Callable[[], AbstractContextManager[None]] = nullcontext
        """Context in which this process has all weights, so that it may call any part of the model, as often as it likes: needed to sample
        while weights are divided among processes (`train.shard`), which all enter it together."""
        self._accepted = set(inspect.signature(model.forward).parameters)
        self._after_head = after_head(model)

    @classmethod
    def load(cls, config: ModelConfig, dtype: torch.dtype = torch.float32) -> Policy:
        """Load weights in `dtype`, adapter (float32) and processor, and return the policy; raises ModelError for an unusable checkpoint."""
        return cls.of(*open_checkpoint(config, dtype), config)

    @classmethod
    def of(cls, model: Any, processor: Any, config: ModelConfig, options: Mapping[str, Any] | None = None) -> Policy:
        """Return the policy of a loaded model; `options` are variables of its chat template in place of those of `config`."""
        chat = Chat(processor, config.system_prompt, config.enable_thinking, config.date, options)
        policy = cls(model, processor, _shelf(config), chat)
        if config.freeze_vision:
            policy.freeze_vision()
        return policy

    def freeze_vision(self) -> None:
        """Stop gradients in the vision tower (the projector still trains, as in the paper)."""
        tower = tower_of(self.model)
        if tower is not None:
            tower.requires_grad_(False)

    def checkpoint_activations(self) -> None:
        """Compute each layer again in the backward pass instead of keeping what it computed; a trunk's cache allows that."""
        enable = getattr(
            self.model, "activation_checkpointing_enable", self.model.gradient_checkpointing_enable
        )  # the name since transformers 5.23
        enable({"use_reentrant": False})
        for module in self.model.modules():
            if isinstance(module, GradientCheckpointingLayer):
                module._can_checkpoint_with_cache = True

    def encode(self, sample: Sample, instruction: str) -> Prompt:
        """Render and tokenize one prompt: images, question, instruction; or the sample's own prompt, unchanged.

        Raises DataError if the model cannot read it: images in a text-only model, or none in one that needs them.
        """
        if sample.images and not self.takes_images:
            raise DataError(f"{sample.id}: has an image, but {type(self.model).__name__} reads text only; use a vision-language model")
        rendered = self._rendered(sample, instruction)
        plain = isinstance(sample.prompt, str)
        if not self.takes_images:
            with self.pictures.text:
                bare = tuple(self.tokenizer(rendered, add_special_tokens=plain)["input_ids"])
            return Prompt(token_ids=bare, bare=bare)
        try:
            with self.pictures.serving(sample.images) as loaded:
                special = plain or self.chat.adds_special_tokens(rendered)
                images = {"images": [loaded]} if loaded else {}
                out = self.processor(text=[rendered], return_tensors="pt", add_special_tokens=special, **images)
                bare = tuple(self.tokenizer(rendered, add_special_tokens=special)["input_ids"])
        except DataError:
            raise
        except ValueError as error:
            raise DataError(f"{sample.id}: {type(self.processor).__name__} cannot read the prompt: {first_line(error)}") from error
        types = {k: out[k][0].long() for k in _TOKEN_TYPES if k in out}
        vision = {k: v for k, v in out.items() if k not in ("input_ids", "attention_mask", "labels", *_TOKEN_TYPES)}
        ids = out["input_ids"]
        return Prompt(
            token_ids=tuple(ids[0].tolist()), vision=vision, images=name_of(sample.images), types=types,
            positions_CP=self._positions(ids, types, vision), bare=bare, pictures=tuple(sample.images),
        )  # fmt: skip

    def _rendered(self, sample: Sample, instruction: str) -> str:
        """Return the prompt's text with places for pictures."""
        if sample.prompt is None:
            return self.chat.prompt(f"{sample.question} {instruction}".strip(), len(sample.images))
        if isinstance(sample.prompt, str):
            return sample.prompt
        try:
            return self.chat.conversation(sample.prompt, len(sample.images))
        except DataError as error:
            raise DataError(f"{sample.id}: {error}") from error

    def _positions(self, ids: torch.Tensor, types: dict[str, torch.Tensor], vision: dict[str, torch.Tensor]) -> torch.Tensor | None:
        """Return positions [C, P] for families whose images have rotary positions on several axes (Qwen2-VL and later), else None."""
        layout = getattr(self.model.base_model, "get_rope_index", None)
        if layout is None or not vision:
            return None
        accepted = inspect.signature(layout).parameters
        given = {k: v for k, v in (vision | {k: v[None] for k, v in types.items()}).items() if k in accepted}
        positions: torch.Tensor = layout(ids, **given)[0][:, 0]
        return positions

    def target(self, text: str) -> tuple[int, ...]:
        """Return the tokens of an answer as the chat template places it, with the end token."""
        return (*self.beginning(text), self.eos)

    def beginning(self, text: str) -> tuple[int, ...]:
        """Return the tokens of the beginning of an answer as the chat template places it."""
        with self.pictures.text:
            return tuple(self.chat.tokenize(self.chat.lead + text))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of a completion without special tokens."""
        with self.pictures.text:
            text: str = self.tokenizer.decode(list(token_ids), skip_special_tokens=True)
        return text

    def forward(self, batch: TreeBatch, temperature: float = 1.0) -> torch.Tensor:
        """Return the log-probabilities [N] of a batch's target tokens, float32; logits are computed only where a token is predicted.

        Explored tokens are scored at the sampling `temperature`, imitated tokens at 1.
        """
        with self.tower.serving(batch.images):
            if batch.layout == "reference":
                return self._reference(batch, temperature)
            trunk = Trunk(self.model.config.get_text_config()) if batch.layout == "cached" else None
            hidden_BLD = self.model.base_model(
                input_ids=batch.input_ids_BL, attention_mask=self._mask(batch), use_cache=False,
                **self._extras(batch), **batch.vision, **({} if trunk is None else self.cached(trunk)),
            ).last_hidden_state  # fmt: skip
        if trunk is not None:
            hidden_BLD = torch.cat([hidden_BLD.flatten(0, 1), self._behind(trunk, batch).flatten(0, 1)])[None]
        scale_N = torch.where(batch.imitate_N, 1.0, temperature) if temperature != 1.0 else None
        return token_logprobs(hidden_BLD[batch.row_N, batch.column_N], self._logits, len(self.forbidden), batch.target_N, scale_N)

    def _logits(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """Return the logits [N, V] of hidden states, as the model's own forward has them."""
        return self._after_head(self.model.get_output_embeddings()(hidden_ND))

    def _behind(self, trunk: Trunk, batch: TreeBatch) -> torch.Tensor:
        """Return the hidden states [J, T, D] of the branches behind cached trunks. All get a gradient, if only zeros, so that each process
        runs the same backward passes."""
        assert batch.branches is not None
        own = batch.branches
        hidden: torch.Tensor = self.model.base_model(
            input_ids=own.input_ids_JT, attention_mask=own.mask_JS, position_ids=own.position_ids, use_cache=False,
            **self.types(own.types), **self.cached(trunk.behind(own.owner_J)),
        ).last_hidden_state  # fmt: skip
        return hidden

    def _extras(self, batch: TreeBatch) -> dict[str, torch.Tensor]:
        """Return positions and token types; in rows the model counts positions itself, unless it has several axes."""
        several = batch.position_ids.ndim == 3
        given = {"position_ids": batch.position_ids} if batch.layout in ("tree", "cached") or several else {}
        return given | ({} if several else self.types(batch.types))

    @property
    def answer_types(self) -> dict[str, int]:
        """Return the values of per-token inputs at an answer's tokens; PaliGemma marks the suffix, which it reads causally, with 1."""
        return {"token_type_ids": 1} if "paligemma" in self.model.config.model_type else {}

    @property
    def window(self) -> int | None:
        """Return the length of the model's sliding window in tokens, None without one; no row of a tree may be longer."""
        config = self.model.config.get_text_config()
        kinds = getattr(config, "layer_types", None) or ("sliding_attention",)
        return getattr(config, "sliding_window", None) if "sliding_attention" in kinds else None

    def types(self, types: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Return the per-token inputs that the model's forward takes."""
        return {k: v for k, v in types.items() if k in self._accepted}

    def cached(self, cache: Cache) -> dict[str, Cache]:
        """Return the cache under its argument name in the model's forward: `cache` since transformers 5.24, `past_key_values` before."""
        return {"cache" if "cache" in self._accepted else "past_key_values": cache}

    def _reference(self, batch: TreeBatch, temperature: float) -> torch.Tensor:
        """Return log-probabilities by the model's own forward, mask, positions and head, to compare layouts with (`training/layout.py`)."""
        columns, place_N = batch.column_N.unique(return_inverse=True)  # type: ignore[no-untyped-call]
        logits = self.model(
            input_ids=batch.input_ids_BL, attention_mask=(batch.segment_BL >= 0).long(), use_cache=False, logits_to_keep=columns,
            **self.types(batch.types), **batch.vision,
        ).logits  # fmt: skip
        logits_NV = logits[batch.row_N, place_N].float()
        if temperature != 1.0:
            logits_NV = logits_NV / torch.where(batch.imitate_N, 1.0, temperature)[:, None]
        return _chosen(logits_NV, batch.target_N)

    def _mask(self, batch: TreeBatch) -> Any:
        """Return the mask in the form that the model's attention takes: trees: the tree mask; else 1 for tokens, 0 for padding."""
        if batch.layout != "tree":
            return (batch.segment_BL >= 0).long()
        attention = self.model.config.get_text_config()._attn_implementation
        if attention == "flex_attention":
            return block_mask(batch.segment_BL, batch.above_BL)
        if attention == NAME and batch.parts is not None:
            return carrier(batch.parts, batch.segment_BL.device)
        mask = tree_mask(batch.segment_BL, batch.above_BL)
        if attention != "eager":
            return mask
        dtype = self.model.dtype  # eager attention adds the mask to the scores
        return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)

    def save(self, folder: Path, state: dict[str, torch.Tensor] | None = None, dtype: torch.dtype | None = None) -> None:
        """Write a folder that plain transformers loads (safetensors, config, processor), or, for a model with an adapter, peft.

        `state` holds weights to write instead of the model's, all in `dtype`, which config.json then names; adapters are always float32.
        """
        own = None if state is None else {k.removeprefix("model."): v for k, v in state.items() if k.startswith("model.")}
        if adapters.attached(self.model):
            adapters.save(self.model, folder, own)
        else:
            self.model.save_pretrained(folder, state_dict=own)
            declare(folder, dtype or self.model.dtype)
        self.processor.save_pretrained(folder)

    def _ends(self) -> tuple[int, ...]:
        """Return the tokens that end an answer, the end of targets first; a saved generation config names them all, for other samplers."""
        settings = self.model.generation_config
        named = settings.eos_token_id if isinstance(settings.eos_token_id, list) else [settings.eos_token_id]
        named, size = [token for token in named if token is not None], self.model.get_output_embeddings().weight.shape[0]
        if strange := [token for token in named if not (isinstance(token, int) and 0 <= token < size)]:
            raise ModelError(f"generation_config.json names {strange[0]!r} as an end token, which the model does not have")
        ends = self.chat.ends(named)
        if any(token >= size for token in ends):
            raise ModelError(f"the tokenizer's end token {self.tokenizer.eos_token!r} is none of the {size:,} that the model has")
        if not ends:
            raise ModelError(f"{type(self.model).__name__}: neither the tokenizer nor the generation config names an end token")
        if named and ends[0] not in named:
            first, *others = self.tokenizer.convert_ids_to_tokens(ends)
            self.notes.append(
                f"answers end with {first}, as chat template and tokenizer have it; the generation config names {', '.join(others)} alone, "
                "which ends an answer too"
            )
            settings.eos_token_id = list(ends)
        if self.chat.dated:
            self.notes.append(f"the chat template writes today's date; it gets {self.chat.day} (model.date) on all days")
        return ends

    def _forbidden(self) -> torch.Tensor:
        """Return [V], True for tokens that must never be sampled: image placeholders, other special tokens, padded vocabulary."""
        size = self.model.get_output_embeddings().weight.shape[0]
        mask = torch.zeros(size, dtype=torch.bool)
        mask[len(self.tokenizer) :] = True
        config = self.model.config
        placeholders = [getattr(config, f"{kind}_token_{word}", None) for kind in ("image", "video") for word in ("id", "index")]
        special = [token for token, added in self.tokenizer.added_tokens_decoder.items() if added.special]  # such as <row_1_col_1>
        if strange := [token for token in placeholders if token is not None and token >= size]:
            raise ModelError(f"config.json names token {strange[0]:,} as a picture's place, and the model has {size:,}")
        for token in [*self.tokenizer.all_special_ids, *special, *placeholders]:
            if token is not None and token not in self.ends and token < size:
                mask[token] = True
        return mask


def _shelf(config: ModelConfig) -> Shelf | None:
    if config.vision_cache == "off":
        return None
    if config.vision_cache == "memory":
        return Shelf(config.vision_cache_mib * 2**20)
    folder = tempfile.mkdtemp(prefix="dyme-vision-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Shelf(config.vision_cache_mib * 2**20, Path(folder))


def after_head(model: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what a model's own forward does to logits after the head: caps them (Gemma, PaliGemma) or divides them (Granite).

    The forward is taken to do so if its code names the setting. An error here shows when layouts are compared (`training/layout.py`).
    """
    code, config = inspect.unwrap(type(model).forward).__code__, model.config.get_text_config()
    named = {*code.co_names, *code.co_consts}

    def setting(name: str) -> float | None:
        return getattr(config, name, None) if name in named else None

    cap, divisor = setting("final_logit_softcapping"), setting("logits_scaling")

    def change(logits: torch.Tensor) -> torch.Tensor:
        logits = logits if divisor is None else logits / divisor
        return logits if cap is None else cap * torch.tanh(logits / cap)

    return change


def token_logprobs(
    hidden_ND: torch.Tensor,
    head: Callable[[torch.Tensor], torch.Tensor],
    vocabulary: int,
    target_N: torch.Tensor,
    scale_N: torch.Tensor | None = None,
    limit: int = HEAD_BYTES,
) -> torch.Tensor:
    """Return the log-probabilities [N], float32, of target tokens from hidden states and head, at temperatures `scale_N`.

    The logits are computed in pieces of at most `limit` bytes in float32; several pieces are each computed again in the backward
    pass, so that [N, V] never exists at once.
    """
    size = max(1, limit // (4 * vocabulary))

    def score(hidden: torch.Tensor, target: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
        logits = head(hidden).float()
        return _chosen(logits if scale is None else logits / scale[:, None], target)

    if len(target_N) <= size:
        return score(hidden_ND, target_N, scale_N)
    pieces = [slice(k, k + size) for k in range(0, len(target_N), size)]
    return torch.cat([
        checkpoint(score, hidden_ND[p], target_N[p], None if scale_N is None else scale_N[p], use_reentrant=False) for p in pieces
    ])  # fmt: skip


def _chosen(logits_NV: torch.Tensor, target_N: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of each target token."""
    picked: torch.Tensor = logits_NV.gather(1, target_N[:, None])[:, 0]
    return picked - logits_NV.logsumexp(-1)
