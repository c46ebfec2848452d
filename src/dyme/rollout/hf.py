"""Sampling with the Hugging Face model itself: each prompt is prefilled once, and its K completions read its cache (`cache.py`).

Randomness belongs to the prompt, not to the batch: completion k of a prompt draws from a generator seeded by (seed, step,
prompt), so the same prompt gets the same completions in any batch, on any number of processes, and after a resume.
Tokens are drawn by inverting the cumulative distribution at one uniform number per token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence

import torch

from dyme.config import RolloutConfig
from dyme.model.policy import Policy
from dyme.model.tree import Prompt
from dyme.rollout.rows import attending, choose, prefill, rows_behind
from dyme.types import Completion

BATCH_ROWS = 512
"""Completions that are sampled at a time, at most."""
LOOK = 8
"""Tokens after which the host looks which rows have ended."""
See = Callable[[Mapping[int, int]], object]
"""Called with the next token of each unfinished completion, by the completion's place."""
FULL = 0.75
"""Share of unfinished rows from which on none is removed."""


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
    see: See | None = None,
) -> list[tuple[Completion, ...]]:
    """Sample and return K completions for each prompt (one if greedy), in order.

    Special tokens (image placeholders above all) are never drawn. `logprobs` are log-probabilities of the unmasked,
    untruncated distribution at the sampling temperature, as in the update. The tower's outputs for the images of `keep` stay in memory.
    `see` is called after each token; the host then looks at the device after each.
    """
    per_prompt = 1 if greedy else config.num_generations
    chunk = max(1, batch_rows // per_prompt)
    training = policy.training
    policy.eval()
    policy.tower.prepare(prompts, keep)
    out: list[tuple[Completion, ...]] = []
    for start in range(0, len(prompts), chunk):
        out += _sample_chunk(policy, prompts[start : start + chunk], seeds[start : start + chunk], config, per_prompt, greedy, see)
    policy.train(training)
    return out


def _sample_chunk(
    policy: Policy, prompts: Sequence[Prompt], seeds: Sequence[int], config: RolloutConfig, per_prompt: int, greedy: bool,
    see: See | None,
) -> list[tuple[Completion, ...]]:  # fmt: skip
    """Return the completions of prompts that are sampled together.

    The host looks at the device once in `LOOK` tokens, to remove the rows that have ended; what a row has after its end is never read.
    """
    device, longest = next(policy.parameters()).device, config.max_completion_length
    uniform = None if greedy else _uniforms(seeds, per_prompt, longest).to(device)
    barred, ends = policy.forbidden.nonzero()[:, 0].to(device), torch.tensor(policy.ends, device=device)
    policy.cache_kind = kind = policy.cache_kind or choose(policy, prompts, device)
    with attending(policy, kind):
        rows = rows_behind(policy, prefill(policy, prompts, device), per_prompt, kind)
        index_R = torch.arange(len(rows.logits_RV), device=device)
        ended_R = torch.zeros_like(index_R, dtype=torch.bool)
        ids = torch.full((len(index_R), longest), policy.pad, device=device)
        logprobs = torch.zeros((len(index_R), longest), device=device)
        for t in range(longest):
            if uniform is None:
                token_R = _masked(rows.logits_RV, barred).argmax(-1)
            else:
                token_R, logprobs[index_R, t] = _draw(rows.logits_RV, barred, uniform[index_R, t], config)
            ids[index_R, t] = token_R
            if see is not None:
                rows_now = zip(index_R.tolist(), token_R.tolist(), ended_R.tolist(), strict=True)
                see({row: token for row, token, over in rows_now if not over})
            ended_R |= (token_R[:, None] == ends).any(-1)
            if t + 1 == longest or (see is not None and ended_R.all()):
                break
            if (t + 1) % LOOK == 0:
                alive = [row for row, ended in enumerate(ended_R.tolist()) if not ended]
                if not alive:
                    break
                if len(alive) <= FULL * len(index_R):
                    rows.keep(alive)
                    chosen = torch.tensor(alive, device=device)
                    token_R, index_R, ended_R = token_R[chosen], index_R[chosen], ended_R[chosen]
            rows.advance(token_R)
    return _collect(policy, ids.tolist(), None if greedy else logprobs.tolist(), per_prompt)


def _uniforms(seeds: Sequence[int], per_prompt: int, longest: int) -> torch.Tensor:
    """Return uniform numbers [prompts x K, T], with one generator per prompt."""
    return torch.cat([torch.rand(per_prompt, longest, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def _draw(
    logits_RV: torch.Tensor, barred: torch.Tensor, uniform_R: torch.Tensor, config: RolloutConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return tokens drawn by inverse transform, and their log-probabilities; the logits are changed.

    Of all results as large as the vocabulary there are three: the logits, their softmax and its sums.
    """
    scores_RV = logits_RV if config.temperature == 1 else logits_RV.float().div_(config.temperature)
    unread_R = scores_RV.index_select(1, barred).float().logsumexp(-1)
    chance_RV = _masked(scores_RV, barred).softmax(-1, dtype=torch.float32)
    sums_RV = _truncated(chance_RV, config).cumsum(-1)
    total_R = sums_RV[:, -1]
    target_R = torch.minimum(uniform_R * total_R, total_R.nextafter(torch.zeros_like(total_R)))  # below the total, whatever is rounded
    token_R1 = torch.searchsorted(sums_RV, target_R[:, None], right=True)
    score_R, chance_R = (values.gather(1, token_R1)[:, 0].float() for values in (scores_RV, chance_RV))
    return token_R1[:, 0], score_R - torch.logaddexp(score_R - chance_R.log(), unread_R)


def _masked(scores_RV: torch.Tensor, barred: torch.Tensor) -> torch.Tensor:
    """Return the scores, in place, without these tokens."""
    return scores_RV.index_fill_(1, barred, -torch.inf)


def _truncated(chance_RV: torch.Tensor, config: RolloutConfig) -> torch.Tensor:
    """Return the probabilities with 0 for tokens that top-k and nucleus truncation leave out, as in transformers."""
    if config.top_k:
        least = chance_RV.topk(min(config.top_k, chance_RV.shape[1])).values[:, -1:]
        chance_RV = chance_RV.masked_fill(chance_RV < least, 0)
    if config.top_p < 1:
        ordered, order = chance_RV.sort(descending=True)
        sums = ordered.cumsum(-1)
        beyond = sums - ordered >= config.top_p * sums[:, -1:]
        chance_RV = chance_RV.masked_fill(torch.zeros_like(beyond).scatter(1, order, beyond), 0)
    return chance_RV


def _collect(
    policy: Policy, ids: Sequence[Sequence[int]], logprobs: Sequence[Sequence[float]] | None, per_prompt: int
) -> list[tuple[Completion, ...]]:
    """Return the completions, each cut off behind its end token, in groups of a prompt."""
    flat, ends = [], set(policy.ends)
    for k, row in enumerate(ids):
        end = next((t for t, token in enumerate(row) if token in ends), None)
        tokens = tuple(row if end is None else row[: end + 1])
        known = tuple(logprobs[k][: len(tokens)]) if logprobs else ()
        flat.append(Completion(text=policy.decode(tokens).strip(), token_ids=tokens, logprobs=known, finished=end is not None))
    return [tuple(flat[k : k + per_prompt]) for k in range(0, len(flat), per_prompt)]
