"""The objective by hand: each loss type, each normalization, clipping, the KL term, and sums over micro-batches."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from dyme.config import ObjectiveConfig
from dyme.model.tree import Limb, Prompt, Tree, TreeBatch, collate
from dyme.training.loss import Totals, add_up_gradient, count, loss, token_weight
from dyme.types import Branch, Route, Term

POLICY, IMITATE = Branch(term="policy", completion=0), Branch(term="imitate")


def batch(*limbs: tuple[Term, int, float, float]) -> TreeBatch:
    """One tree; limbs are (term, length, advantage, token weight)."""
    made = tuple(Limb(tokens=(1,) * n, term=term, advantage=a, token_weight=w) for term, n, a, w in limbs)
    return collate([Tree(trunk=Prompt(token_ids=(1,)), limbs=made)], pad=0)


def logprobs(*values: float) -> torch.Tensor:
    return torch.tensor(values, requires_grad=True)


def test_imitation_is_weighted_negative_log_likelihood() -> None:
    x = logprobs(-1.0, -2.0)
    value = loss(x, batch(("imitate", 2, 1.0, 0.5)), ObjectiveConfig(beta=0.3), torch.tensor([-9.0, -9.0]), torch.tensor([0.0, 0.0]))
    assert value.item() == pytest.approx(1.5), "neither old log-probabilities nor the KL term touch it"
    value.backward()
    assert x.grad is not None and x.grad.tolist() == [-0.5, -0.5]


def test_on_policy_the_ratio_is_one_with_its_gradient() -> None:
    x = logprobs(-1.0, -2.0, -3.0)
    value = loss(x, batch(("policy", 2, 3.0, 0.5), ("policy", 1, -2.0, 0.25)), ObjectiveConfig())
    assert value.item() == pytest.approx(-(0.5 * 3 * 2) + 0.25 * 2)
    value.backward()
    assert x.grad is not None and x.grad.tolist() == [-1.5, -1.5, 0.5]


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "slope"),
    [
        (1.5, 2.0, -2.0 * 1.2, 0.0),  # clipped from above
        (1.5, -2.0, 2.0 * 1.5, 2.0 * 1.5),
        (0.5, 2.0, -2.0 * 0.5, -2.0 * 0.5),
        (0.5, -2.0, 2.0 * 0.8, 0.0),  # clipped from below
        (1.1, 2.0, -2.0 * 1.1, -2.0 * 1.1),  # within
        (0.9, -2.0, 2.0 * 0.9, 2.0 * 0.9),
    ],
)
def test_clipping(ratio: float, advantage: float, expected: float, slope: float) -> None:
    x = logprobs(-1.0)
    value = loss(x, batch(("policy", 1, advantage, 1.0)), ObjectiveConfig(epsilon=0.2), torch.tensor([-1.0 - math.log(ratio)]))
    assert value.item() == pytest.approx(expected)
    value.backward()
    assert x.grad is not None and x.grad.item() == pytest.approx(slope)


def test_the_upper_clip_range_can_differ() -> None:
    old = torch.tensor([-1.0 - math.log(1.5)])
    up = batch(("policy", 1, 1.0, 1.0))
    assert loss(logprobs(-1.0), up, ObjectiveConfig(epsilon=0.2, epsilon_high=0.28), old).item() == pytest.approx(-1.28)
    assert loss(logprobs(-1.0), up, ObjectiveConfig(epsilon=0.2, epsilon_high=0.0), old).item() == pytest.approx(-1.0)
    down, old = batch(("policy", 1, -1.0, 1.0)), torch.tensor([-1.0 - math.log(0.5)])
    assert loss(logprobs(-1.0), down, ObjectiveConfig(epsilon=0.2, epsilon_high=0.28), old).item() == pytest.approx(0.8)


def test_kl_is_schulmans_k3_with_the_gradient_of_the_reverse_kl() -> None:
    """On-policy: value r - log r - 1 with r = exp(reference - own), gradient log(1 / r), the score's weight in the reverse KL."""
    x, own, reference = logprobs(-1.0), -1.0, -1.7
    value = loss(x, batch(("policy", 1, 0.0, 2.0)), ObjectiveConfig(beta=0.1), None, torch.tensor([reference]))
    assert value.item() == pytest.approx(2 * 0.1 * (math.exp(reference - own) - (reference - own) - 1))
    value.backward()
    assert x.grad is not None and x.grad.item() == pytest.approx(2 * 0.1 * (own - reference))


def test_kl_of_old_samples_is_weighted_by_the_unclipped_ratio() -> None:
    value = loss(logprobs(-1.0), batch(("policy", 1, 0.0, 1.0)), ObjectiveConfig(beta=0.1), torch.tensor([-2.0]), torch.tensor([-1.7]))
    assert value.item() == pytest.approx(0.1 * math.e * (math.exp(-0.7) + 0.7 - 1))


def test_kl_is_off_at_beta_zero() -> None:
    assert loss(logprobs(-1.0), batch(("policy", 1, 0.0, 1.0)), ObjectiveConfig(beta=0.0), None, torch.tensor([-3.0])).item() == 0


ROUTES = [
    Route(mode="explore", branches=tuple(replace(POLICY, completion=k) for k in range(2))),
    Route(mode="memorize", branches=(IMITATE,)),
    Route(mode="skip"),
    Route(mode="mixed", branches=(POLICY, IMITATE)),
]
LENGTHS = [[3, 5], [4], [], [2, 6]]
TOTALS = Totals(prompts=4, active=3, policy_prompts=2, imitate_prompts=2, policy_tokens=10, imitate_tokens=10)


def test_counts() -> None:
    assert count(ROUTES, LENGTHS) == TOTALS
    assert count([], []) == Totals()


@pytest.mark.parametrize(
    ("loss_type", "normalize", "policy", "imitate"),
    [
        ("grpo", "term", 1 / (5 * 2 * 2), 3 / (6 * 1 * 2)),
        ("grpo", "active", 1 / (5 * 2 * 3), 3 / (6 * 1 * 3)),
        ("grpo", "all", 1 / (5 * 2 * 4), 3 / (6 * 1 * 4)),
        ("dr_grpo", "term", 1 / (20 * 2 * 2), 3 / (20 * 1 * 2)),
        ("dr_grpo", "all", 1 / (20 * 2 * 4), 3 / (20 * 1 * 4)),
        ("dapo", "term", 1 / 10, 3 / 10),
        ("dapo", "active", 2 / (10 * 3), 3 * 2 / (10 * 3)),
        ("dapo", "all", 2 / (10 * 4), 3 * 2 / (10 * 4)),
    ],
)
def test_token_weights(loss_type: Any, normalize: Any, policy: float, imitate: float) -> None:
    config = ObjectiveConfig(loss_type=loss_type, normalize=normalize)
    assert token_weight(POLICY, 5, 2, TOTALS, config, 20) == pytest.approx(policy)
    assert token_weight(replace(IMITATE, weight=3.0), 6, 1, TOTALS, config, 20) == pytest.approx(imitate)


@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_a_terms_weights_sum_to_one(loss_type: Any) -> None:
    config = ObjectiveConfig(loss_type=loss_type, normalize="term")
    sums = {"policy": 0.0, "imitate": 0.0}
    for route, lengths in zip(ROUTES, LENGTHS, strict=True):
        for branch, n in zip(route.branches, lengths, strict=True):
            siblings = sum(b.term == branch.term for b in route.branches)
            sums[branch.term] += n * token_weight(branch, n, siblings, TOTALS, config, 20)
    assert sums == pytest.approx({"policy": 1.0, "imitate": 1.0})


def test_micro_batches_sum_to_the_batch() -> None:
    limbs: list[tuple[Term, int, float, float]] = [("policy", 3, 1.5, 0.1), ("imitate", 2, 1.0, 0.2), ("policy", 4, -0.5, 0.3)]
    generator = torch.Generator().manual_seed(0)
    x, old, reference = (-3 * torch.rand(3, 9, generator=generator)).unbind()
    config = ObjectiveConfig(beta=0.2)
    whole = loss(x, batch(*limbs), config, old, reference)
    ends = [(0, 3), (3, 5), (5, 9)]
    parts = [loss(x[a:b], batch(limb), config, old[a:b], reference[a:b]) for limb, (a, b) in zip(limbs, ends, strict=True)]
    assert float(sum(parts)) == pytest.approx(whole.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("memorized", "term", "everyone", "code"),
    [(1, 31.0, 1.0, 0.125), (8, 3.0, 1.0, 0.125), (16, 1.0, 1.0, 0.125), (25, 0.28, 1.0, 0.125), (31, 0.0323, 1.0, 0.125)],
)
def test_what_a_memorized_prompt_weighs_beside_an_explored_one(memorized: int, term: float, everyone: float, code: float) -> None:
    """Of 32 prompts, K = 8: under `all` and `active` what Eq. 8 or the reference code says, whatever the share; under `term` anything."""
    explore = Route(mode="explore", branches=tuple(Branch(term="policy", completion=k) for k in range(8)))
    routes = [Route(mode="memorize", branches=(IMITATE,))] * memorized + [explore] * (32 - memorized)
    totals = count(routes, [[5] * len(route.branches) for route in routes])

    def ratio(normalize: Any, weight: float) -> float:
        config = ObjectiveConfig(normalize=normalize)
        target = 5 * token_weight(replace(IMITATE, weight=weight), 5, 1, totals, config, 20)
        return target / sum(5 * token_weight(branch, 5, 8, totals, config, 20) for branch in explore.branches)

    assert ratio("term", 1.0) == pytest.approx(term, rel=2e-3)
    assert ratio("all", 1.0) == ratio("active", 1.0) == pytest.approx(everyone)
    assert ratio("all", 1 / 8) == pytest.approx(code)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_gradient_of_a_term_is_its_norm_at_the_logits(temperature: float) -> None:
    logits_NV = torch.randn(4, 7, generator=torch.Generator().manual_seed(0), requires_grad=True)
    own = batch(("policy", 2, 1.5, 0.5), ("policy", 1, -2.0, 0.25), ("imitate", 1, 1.0, 0.7))
    scale_N = torch.where(own.imitate_N, 1.0, temperature)
    logprob_N = (logits_NV / scale_N[:, None]).log_softmax(-1)[torch.arange(4), torch.tensor([3, 1, 0, 6])]
    sums_T = torch.zeros(2)
    add_up_gradient(sums_T, logprob_N, own.imitate_N, temperature)
    loss(logprob_N, own, ObjectiveConfig()).backward()
    assert logits_NV.grad is not None
    norm_N = logits_NV.grad.abs().sum(-1)
    assert sums_T.tolist() == pytest.approx([float(norm_N[~own.imitate_N].sum()), float(norm_N[own.imitate_N].sum())], rel=1e-5)
