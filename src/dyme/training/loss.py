"""The objective: a clipped surrogate for explored completions and negative log-likelihood for memorized targets.

Both are one sum over the tokens of a tree's limbs (paper, Eqs. 4-5 and 8: imitation is the policy gradient of one sample
with advantage 1). All averaging sits in a token weight that is fixed before the step from counts over the whole batch and
all processes, so micro-batches and processes add up exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dyme.config import ObjectiveConfig
from dyme.model.tree import TreeBatch
from dyme.types import Branch, Route, Term


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Counts over the whole step and all processes that the averages divide by."""

    prompts: float = 0
    active: float = 0
    policy_prompts: float = 0
    imitate_prompts: float = 0
    policy_tokens: float = 0
    imitate_tokens: float = 0


def count(routes: Sequence[Route], lengths: Sequence[Sequence[int]]) -> Totals:
    """Count one process's prompts and tokens; `lengths[i][j]` is the length of branch j of route i in tokens."""
    tokens: dict[Term, int] = {"policy": 0, "imitate": 0}
    prompts: dict[Term, int] = {"policy": 0, "imitate": 0}
    for route, sizes in zip(routes, lengths, strict=True):
        for term in prompts:
            own = [n for b, n in zip(route.branches, sizes, strict=True) if b.term == term]
            prompts[term] += bool(own)
            tokens[term] += sum(n for b, n in zip(route.branches, sizes, strict=True) if b.term == term and b.weight != 0)
    return Totals(
        prompts=len(routes), active=sum(r.mode != "skip" for r in routes),
        policy_prompts=prompts["policy"], imitate_prompts=prompts["imitate"],
        policy_tokens=tokens["policy"], imitate_tokens=tokens["imitate"],
    )  # fmt: skip


def token_weight(branch: Branch, length: int, siblings: int, totals: Totals, config: ObjectiveConfig, max_length: int) -> float:
    """Return the weight of each of a branch's `length` tokens in the loss; `siblings` branches of its prompt share the term.

    grpo: token mean, then mean over siblings and prompts. dr_grpo: the constant `max_length` replaces the length. dapo: mean
    over the term's tokens. `normalize` names the prompts that a term is averaged over.
    """
    own = totals.policy_prompts if branch.term == "policy" else totals.imitate_prompts
    prompts = {"term": own, "active": totals.active, "all": totals.prompts}[config.normalize]
    if config.loss_type == "dapo":
        tokens = totals.policy_tokens if branch.term == "policy" else totals.imitate_tokens
        return branch.weight * own / (tokens * prompts)
    return branch.weight / ((max_length if config.loss_type == "dr_grpo" else length) * siblings * prompts)


def add_up_gradient(sums_T: torch.Tensor, logprob_N: torch.Tensor, imitate_N: torch.Tensor, temperature: float = 1.0) -> None:
    """During the backward pass of the loss, add the size of its gradient to `sums_T` by term: [explored tokens', memorized tokens'].

    A token's size is the L1 norm at its logits, |dloss / dlog p| x 2 (1 - p), as log p of token y has the gradient [j = y] - p_j there;
    explored tokens are scored at the sampling `temperature`, which divides it.
    """
    unsure_N = 2 * (1 - logprob_N.detach().exp()) / torch.where(imitate_N, 1.0, temperature)

    def add(gradient_N: torch.Tensor) -> None:
        pull_N = gradient_N.abs() * unsure_N
        memorized = (pull_N * imitate_N).sum()
        sums_T.add_(torch.stack([pull_N.sum() - memorized, memorized]))

    logprob_N.register_hook(add)  # type: ignore[no-untyped-call]


def correction(logprob_N: torch.Tensor, sampled_N: torch.Tensor, limit: float) -> torch.Tensor:
    """Return the importance weights [N] of tokens that a server sampled by other arithmetic, at most `limit` (0: 1 each), without gradient.

    Truncated importance sampling by token: p / q, p under the model, q under the server; 1 where q is unknown (nan).
    """
    if not limit:
        return torch.ones_like(logprob_N)
    return (logprob_N.detach() - sampled_N).clamp(max=math.log(limit)).exp().nan_to_num(nan=1.0)


def mismatch(logprob_N: torch.Tensor, sampled_N: torch.Tensor, limit: float) -> torch.Tensor:
    """Return [4]: the sum of the distances of log-probabilities under the model and under the server that sampled, the number of tokens
    with both, that of weights which the limit cut, and the largest distance.
    """
    gap = (logprob_N.detach() - sampled_N)[~sampled_N.isnan()]
    cut = (gap > math.log(limit)).sum() if limit else torch.zeros((), device=gap.device)
    most = gap.abs().max() if len(gap) else torch.zeros((), device=gap.device)
    return torch.stack([gap.abs().sum(), torch.tensor(float(len(gap)), device=gap.device), cut.float(), most])


def divergence(logprob_N: torch.Tensor, reference_logprob_N: torch.Tensor, imitate_N: torch.Tensor) -> torch.Tensor:
    """Return [2]: the sum of Schulman's k3 estimate of the KL divergence to the reference model over explored tokens, and their number."""
    gap = (reference_logprob_N - logprob_N).masked_fill(imitate_N, 0)  # where the estimate is 0
    return torch.stack([(torch.exp(gap) - gap - 1).sum(), (~imitate_N).sum().float()])


def loss(
    logprob_N: torch.Tensor,
    batch: TreeBatch,
    config: ObjectiveConfig,
    old_logprob_N: torch.Tensor | None = None,
    reference_logprob_N: torch.Tensor | None = None,
    correction_N: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the scalar loss of a batch: sum over tokens of weight x (clipped surrogate + beta KL, or NLL).

    `old_logprob_N` are log-probabilities under the sampling policy (None: on-policy, ratio 1 with its gradient); `reference_logprob_N`
    are those under the reference model, for Schulman's k3 estimate of the KL divergence. As in TRL, it is multiplied by the ratio,
    which makes its gradient that of the reverse KL (DeepSeek-V3.2, arXiv 2512.02556); on-policy its value is that of GRPO.
    `correction_N` are importance weights of the explored tokens' surrogate (`correction`).
    A branch's shape changes the surrogate or the NLL, not the KL term.
    """
    old = logprob_N.detach() if old_logprob_N is None else old_logprob_N
    ratio = torch.exp(torch.where(batch.imitate_N, torch.zeros_like(logprob_N), logprob_N - old))
    high = config.epsilon if config.epsilon_high is None else config.epsilon_high
    clipped = ratio.clamp(1 - config.epsilon, 1 + high)
    explored = -torch.minimum(ratio * batch.advantage_N, clipped * batch.advantage_N)
    if correction_N is not None:
        explored = explored * correction_N
    value = shaped(torch.where(batch.imitate_N, -logprob_N, explored), logprob_N, batch)
    if config.beta and reference_logprob_N is not None:
        gap = torch.where(batch.imitate_N, torch.zeros_like(logprob_N), reference_logprob_N - logprob_N)  # imitated tokens have no KL term
        value = value + config.beta * ratio * (torch.exp(gap) - gap - 1)
    return (batch.weight_N * value).sum()


def shaped(value_N: torch.Tensor, logprob_N: torch.Tensor, batch: TreeBatch) -> torch.Tensor:
    """Return the tokens' losses, changed by their branch's shape if it has one."""
    for k, shape in enumerate(batch.shapes):
        own_N = batch.shape_N == k
        chance = (logprob_N if shape.through else logprob_N.detach())[own_N].exp()
        lost = -batch.advantage_N[own_N] if shape.through else value_N[own_N]
        value_N = value_N.masked_scatter(own_N, lost * shape.of(chance))
    return value_N
