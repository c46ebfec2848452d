"""Sampling with the Hugging Face model itself: each prompt is prefilled once and its cache expanded over the K completions.

Randomness belongs to the prompt, not to the batch: completion k of a prompt draws from a generator seeded by (seed, step,
prompt), so the same prompt gets the same completions in any batch, on any number of processes, and after a resume.
Tokens are drawn by inverting the cumulative distribution at one uniform number per token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import DynamicCache

from dyme.config import RolloutConfig
from dyme.model.policy import Policy
from dyme.model.tree import Prompt, stack_vision, to_device
from dyme.types import Completion

BATCH_ROWS = 512
"""Completions that are sampled at a time, at most."""


@dataclass(slots=True)
class _Rows:
    """The unfinished completions: R rows, a subset of all."""

    cache: DynamicCache
    logits_RV: torch.Tensor
    mask_RL: torch.Tensor
    position_R: torch.Tensor
    index_R: torch.Tensor
    axes: int
    """Rotary axes; past the prompt, a token has the same position on all of them."""

    def keep(self, alive_R: torch.Tensor) -> None:
        chosen = alive_R.nonzero()[:, 0]
        self.cache.reorder_cache(chosen)
        self.logits_RV, self.mask_RL = self.logits_RV[chosen], self.mask_RL[chosen]
        self.position_R, self.index_R = self.position_R[chosen], self.index_R[chosen]


def seed_of(*parts: object) -> int:
    """Return a 63-bit seed made from any parts; equal on every machine."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big") >> 1


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    config: RolloutConfig,
    *,
    greedy: bool = False,
    batch_rows: int = BATCH_ROWS,
    keep: Sequence[Prompt] = (),
) -> list[tuple[Completion, ...]]:
    """Sample and return K completions for each prompt (one if greedy), in order.

    Special tokens (image placeholders above all) are never drawn. `logprobs` are log-probabilities of the unmasked,
    untruncated distribution at the sampling temperature, as in the update. The tower's outputs for the images of `keep` stay in memory.
    """
    per_prompt = 1 if greedy else config.num_generations
    chunk = max(1, batch_rows // per_prompt)
    training = policy.training
    policy.eval()
    policy.tower.prepare(prompts, keep)
    out: list[tuple[Completion, ...]] = []
    for start in range(0, len(prompts), chunk):
        out += _sample_chunk(policy, prompts[start : start + chunk], seeds[start : start + chunk], config, per_prompt, greedy)
    policy.train(training)
    return out


def _sample_chunk(
    policy: Policy, prompts: Sequence[Prompt], seeds: Sequence[int], config: RolloutConfig, per_prompt: int, greedy: bool
) -> list[tuple[Completion, ...]]:
    device = next(policy.parameters()).device
    rows = _prefill(policy, prompts, per_prompt, device)
    total, longest = len(prompts) * per_prompt, config.max_completion_length
    ids = torch.full((total, longest), policy.pad, device=device)
    logprobs = torch.zeros((total, longest), device=device)
    lengths = torch.zeros(total, dtype=torch.long, device=device)
    ended = torch.zeros(total, dtype=torch.bool, device=device)
    uniform = None if greedy else _uniforms(seeds, per_prompt, longest).to(device)
    forbidden, ends = policy.forbidden.to(device), torch.tensor(policy.ends, device=device)
    for t in range(longest):
        scores = rows.logits_RV.float().masked_fill(forbidden, -torch.inf)
        token_R = scores.argmax(-1) if uniform is None else _draw(scores, uniform[rows.index_R, t], config)
        logprob_RV = (rows.logits_RV.float() / config.temperature).log_softmax(-1)
        writing_R = ~ended[rows.index_R]
        index = rows.index_R[writing_R]
        ids[index, t] = token_R[writing_R]
        logprobs[index, t] = logprob_RV.gather(1, token_R[:, None])[writing_R, 0]
        lengths[index] = t + 1
        alive_R = writing_R & ~torch.isin(token_R, ends)
        ended[rows.index_R[~alive_R]] = True
        if t + 1 == longest or not alive_R.any():
            break
        _advance(policy, rows, token_R, alive_R)
    return _collect(policy, ids, logprobs, lengths, ended, per_prompt)


def _prefill(policy: Policy, prompts: Sequence[Prompt], per_prompt: int, device: torch.device) -> _Rows:
    """Run one forward pass over the prompts (padded on the left), and return the rows with the cache expanded over the completions."""
    longest, axes = max(len(p.token_ids) for p in prompts), max(_axes(p) for p in prompts)
    ids = torch.full((len(prompts), longest), policy.pad)
    mask = torch.zeros((len(prompts), longest), dtype=torch.long)
    positions = torch.zeros((axes, len(prompts), longest), dtype=torch.long)
    types = {name: torch.zeros_like(mask) for name in prompts[0].types}
    for b, prompt in enumerate(prompts):
        start = longest - len(prompt.token_ids)
        ids[b, start:] = torch.tensor(prompt.token_ids)
        mask[b, start:] = 1
        positions[:, b, start:] = torch.arange(longest - start) if prompt.positions_CP is None else prompt.positions_CP
        for name, values in types.items():
            values[b, start:] = prompt.types[name]
    vision = to_device(stack_vision([p.vision for p in policy.tower.thin(prompts)]), device)
    cache = DynamicCache(config=policy.model.config.get_text_config())
    with policy.tower.serving([p.images for p in prompts if p.vision]):
        logits = policy.model(
            input_ids=ids.to(device), attention_mask=mask.to(device), position_ids=(positions[0] if axes == 1 else positions).to(device),
            use_cache=True, logits_to_keep=1, **policy.cached(cache),
            **({} if axes > 1 else {k: v.to(device) for k, v in policy.types(types).items()}), **vision,
        ).logits[:, -1]  # fmt: skip
    if per_prompt > 1:  # by index, the only way that convolution layers support
        cache.reorder_cache(torch.arange(len(prompts), device=device).repeat_interleave(per_prompt))
    following = torch.tensor([p.next_position for p in prompts], device=device).repeat_interleave(per_prompt)
    mask = mask.to(device).repeat_interleave(per_prompt, 0)
    return _Rows(cache, logits.repeat_interleave(per_prompt, 0), mask, following, torch.arange(len(mask), device=device), axes)


def _axes(prompt: Prompt) -> int:
    return 1 if prompt.positions_CP is None else len(prompt.positions_CP)


def _advance(policy: Policy, rows: _Rows, token_R: torch.Tensor, alive_R: torch.Tensor) -> None:
    """Feed one more token; rows that have ended are removed once they are a quarter of the batch."""
    if int(alive_R.sum()) <= 0.75 * len(alive_R):
        rows.keep(alive_R)
        token_R = token_R[alive_R]
    rows.mask_RL = torch.cat([rows.mask_RL, torch.ones_like(rows.mask_RL[:, :1])], 1)
    rows.logits_RV = policy.model(
        input_ids=token_R[:, None], attention_mask=rows.mask_RL,
        position_ids=rows.position_R[:, None] if rows.axes == 1 else rows.position_R[:, None].expand(rows.axes, -1, 1),
        use_cache=True, **policy.cached(rows.cache),
    ).logits[:, -1]  # fmt: skip
    rows.position_R = rows.position_R + 1


def _uniforms(seeds: Sequence[int], per_prompt: int, longest: int) -> torch.Tensor:
    """Return uniform numbers [prompts x K, T], with one generator per prompt."""
    return torch.cat([torch.rand(per_prompt, longest, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def _draw(scores_RV: torch.Tensor, uniform_R: torch.Tensor, config: RolloutConfig) -> torch.Tensor:
    """Return tokens drawn by inverse transform; top-k and nucleus truncation as in transformers."""
    scores_RV = scores_RV / config.temperature
    if config.top_k:
        least = scores_RV.topk(min(config.top_k, scores_RV.shape[1])).values[:, -1:]
        scores_RV = scores_RV.masked_fill(scores_RV < least, -torch.inf)
    probability = scores_RV.softmax(-1)
    if config.top_p < 1:
        ordered, order = probability.sort(descending=True)
        beyond = ordered.cumsum(-1) - ordered >= config.top_p
        probability = probability.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), 0)
    cumulative = probability.cumsum(-1)
    token = torch.searchsorted(cumulative, (uniform_R * cumulative[:, -1])[:, None], right=True)[:, 0]
    last = probability.shape[1] - 1 - (probability.flip(-1) > 0).int().argmax(-1)
    return token.minimum(last)


def _collect(
    policy: Policy, ids: torch.Tensor, logprobs: torch.Tensor, lengths: torch.Tensor, ended: torch.Tensor, per_prompt: int
) -> list[tuple[Completion, ...]]:
    flat = []
    for row, scores, length, finished in zip(ids.tolist(), logprobs.tolist(), lengths.tolist(), ended.tolist(), strict=True):
        tokens = tuple(row[:length])
        text = policy.decode(tokens).strip()
        flat.append(Completion(text=text, token_ids=tokens, logprobs=tuple(scores[:length]), finished=finished))
    return [tuple(flat[k : k + per_prompt]) for k in range(0, len(flat), per_prompt)]
