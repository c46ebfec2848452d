"""The rows of a rollout: unfinished completions, which one forward pass takes a token further; and the choice of their cache's kind."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from dyme.model import attention
from dyme.model.policy import Policy
from dyme.model.precision import in_float32
from dyme.model.tree import Prompt, padded_left, stack_vision, to_device
from dyme.rollout.cache import TYPES, Held, Kind, hold

TOLERANCE = 1e-4
"""Largest difference between log-probabilities that rounding explains, in float32."""
_SWITCHED = ("sdpa", "flex_attention")
"""Attention in whose place the rows of a shared cache take the policy's own."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Start:
    """B prompts that the model has read."""

    cache: DynamicCache
    logits_BV: torch.Tensor
    mask_BP: torch.Tensor
    position_B: torch.Tensor
    """The position of each answer's first token."""
    axes: int
    """Rotary axes; past the prompt, a token has the same position on all of them."""


@dataclass(slots=True)
class Rows:
    """The unfinished completions: R rows, a subset of all."""

    policy: Policy
    held: Held
    logits_RV: torch.Tensor
    position_R: torch.Tensor
    axes: int

    def keep(self, rows: Sequence[int]) -> None:
        """Remove all rows but these, whose next tokens are to be read."""
        self.held.keep(rows)
        self.position_R = self.position_R[torch.tensor(rows, device=self.position_R.device)]

    def advance(self, token_R: torch.Tensor) -> None:
        """Read one more token of each row."""
        self.logits_RV = self.policy.model(
            input_ids=token_R[:, None], attention_mask=self.held.mask(),
            position_ids=self.position_R[:, None] if self.axes == 1 else self.position_R[:, None].expand(self.axes, -1, 1),
            use_cache=True, **self.policy.cached(self.held.cache),
        ).logits[:, -1]  # fmt: skip
        self.position_R = self.position_R + 1


def prefill(policy: Policy, prompts: Sequence[Prompt], device: torch.device) -> Start:
    """Run one forward pass over the prompts, padded on the left."""
    ids, mask, positions, types = padded_left(prompts, policy.pad)
    vision = to_device(stack_vision([p.vision for p in policy.tower.thin(prompts)]), device)
    mask, several = mask.to(device), positions.ndim == 3
    cache = DynamicCache(config=policy.model.config.get_text_config())
    with policy.tower.serving([p.images for p in prompts if p.vision]):
        logits = policy.model(
            input_ids=ids.to(device), attention_mask=mask, position_ids=positions.to(device), use_cache=True, logits_to_keep=1,
            **policy.cached(cache), **({} if several else {k: v.to(device) for k, v in policy.types(types).items()}), **vision,
        ).logits[:, -1]  # fmt: skip
    following = torch.tensor([p.next_position for p in prompts], device=device)
    return Start(cache, logits, mask, following, len(positions) if several else 1)


def rows_behind(policy: Policy, start: Start, per_prompt: int, kind: Kind) -> Rows:
    """Return K rows behind each prompt; the prompts' cache is used up."""
    logits, position = (values.repeat_interleave(per_prompt, 0) for values in (start.logits_BV, start.position_B))
    return Rows(policy, hold(start.cache, start.mask_BP, per_prompt, kind, _types(policy)), logits, position, start.axes)


def _types(policy: Policy) -> Sequence[str]:
    """Return the types of the language model's layers, as its configuration names them; none if it does not."""
    return getattr(policy.model.config.get_text_config(), "layer_types", None) or ()


@contextmanager
def attending(policy: Policy, kind: Kind) -> Iterator[None]:
    """Let the language model take the policy's own attention for single tokens, unless its cache is the one that transformers has."""
    config = policy.model.config.get_text_config()
    before = config._attn_implementation
    if kind != "growing" and before in _SWITCHED:
        attention.register()
        config._attn_implementation = attention.NAME
    try:
        yield
    finally:
        config._attn_implementation = before


@torch.no_grad()
def choose(policy: Policy, prompts: Sequence[Prompt], device: torch.device) -> Kind:
    """Return the first kind of cache that gives the model's own log-probabilities, to `TOLERANCE` in float32, behind two of the prompts."""
    few = [prompts[0], *(p for p in prompts if len(p.token_ids) != len(prompts[0].token_ids))][:2]  # of two lengths, so that one is padded
    found: dict[Kind, float] = {}
    with in_float32(policy.model), attending(policy, "shared"), _failing():
        start = prefill(policy, few, device)
        expected = _two_tokens(policy, start, "growing")
        for kind in _candidates(policy, start.cache):
            found[kind] = math.inf
            with _failing():
                apart = (_two_tokens(policy, start, kind) - expected).abs().max()
                found[kind] = float(apart.nan_to_num(nan=math.inf, posinf=math.inf))
            if found[kind] <= TOLERANCE:
                break
    chosen: Kind = next((kind for kind, apart in found.items() if apart <= TOLERANCE), "growing")
    measured = ", ".join(f"{kind} {apart:.1e}" for kind, apart in found.items())
    level = logging.INFO if [kind for kind in found if kind != "prepared"] in ([], [chosen]) else logging.WARNING
    _log.log(level, "cache of rollouts: %s; largest difference of a log-probability from the model's own: %s", chosen, measured)
    return chosen


@contextmanager
def _failing() -> Iterator[None]:
    """Go on behind an error of a model that does not support what was tried, but not if memory runs out."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (ValueError, RuntimeError, TypeError, LookupError, AttributeError, AssertionError) as error:
        _log.info("a cache of rollouts failed: %s", error)


def can_share(policy: Policy) -> bool:
    """Return whether completions can share their prompt's cache, as far as the configuration says: a sliding window, a layer that is
    not attention, or another attention rules it out.
    """
    ours = policy.model.config.get_text_config()._attn_implementation in (attention.NAME, *_SWITCHED)
    return ours and policy.window is None and set(_types(policy)) <= {"full_attention"}


def _candidates(policy: Policy, cache: DynamicCache) -> list[Kind]:
    """Return the kinds that can serve layers like these."""
    if can_share(policy) and all(type(layer) is DynamicLayer and layer.keys is not None for layer in cache.layers):
        return ["shared", "expanded"]
    types = _types(policy)
    return ["prepared", "expanded"] if types and set(types) <= set(TYPES) else ["expanded"]


def _two_tokens(policy: Policy, start: Start, kind: Kind) -> torch.Tensor:
    """Return the log-probabilities behind two tokens of two different rows a prompt, of which one row is removed in between."""
    token_R = start.logits_BV.topk(2).indices.flatten()
    rows = rows_behind(policy, copy.deepcopy(start), 2, kind)
    rows.advance(token_R)
    left = list(range(1, len(token_R)))
    rows.keep(left)
    rows.advance(token_R[left].flip(0))
    return rows.logits_RV.float().log_softmax(-1)
