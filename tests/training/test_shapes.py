"""What a token counts by its probability: CHORD's factor and LUFFY's value against plain rows, however the branches are laid out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import gap, gradients_of, grads, groups, prompts, row_logprobs

from dyme.config import Config, ModelConfig, ObjectiveConfig, RolloutConfig, TrainConfig
from dyme.model.policy import Policy
from dyme.targets import target_text
from dyme.types import Branch, Route, Shape

Load = Callable[[str], Policy]
PHI = Shape(of=lambda p: p * (1 - p))
LUFFY = Shape(of=lambda p: p / (p + 0.1), through=True)
REWARDS = [[1.5, 0.0], [0.0, 0.3], [2.0, 0.5]]
BRANCHES = (
    Branch(term="policy", completion=0, advantage=0.7, weight=0.9),
    Branch(term="policy", completion=1, advantage=-0.4, shape=Shape(of=lambda p: 1 - p)),
    Branch(term="policy", advantage=1.3, shape=LUFFY),
    Branch(term="imitate", weight=0.1, shape=PHI),
    Branch(term="imitate", weight=0.2),
)


def config(budget: int = 10**6, layout: Any = "auto") -> Config:
    return Config(
        model=ModelConfig(layout=layout), objective=ObjectiveConfig(), rollout=RolloutConfig(temperature=0.8),
        train=TrainConfig(max_tokens_per_batch=budget),
    )  # fmt: skip


@pytest.mark.parametrize("family", ["idefics3", "llama"])
def test_shapes_are_those_of_plain_rows(family: str, policies: Load) -> None:
    """By hand: phi is a factor without a gradient of its own; LUFFY's value has its gradient, and no ratio."""
    policy = policies(family).train()
    asked, answered = prompts(policy, 3), groups(policy, REWARDS)
    routes = [Route(mode="mixed", branches=BRANCHES)] * 3
    ours = [
        gradients_of(policy, config(budget, layout), asked, answered, routes)
        for budget, layout in ((10**6, "tree"), (1, "tree"), (10**6, "rows"), (1, "rows"))
    ]
    value = torch.zeros(())
    for prompt, group in zip(asked, answered, strict=True):
        first, second = (row_logprobs(policy.model, prompt, c.token_ids, 0.8) for c in group.completions)
        tokens = policy.target(target_text(group.sample, "Answer:"))
        explored, imitated = (row_logprobs(policy.model, prompt, tokens, t) for t in (0.8, 1.0))
        chance, p = explored.exp(), imitated.detach().exp()
        policy_term = (
            -0.9 * 0.7 * torch.exp(first - first.detach()).mean()
            + 0.4 * (torch.exp(second - second.detach()) * (1 - second.detach().exp())).mean()
            - 1.3 * (chance / (chance + 0.1)).mean()
        ) / 3
        imitate_term = (0.1 * (-imitated * p * (1 - p)).mean() - 0.2 * imitated.mean()) / 2
        value = value + (policy_term + imitate_term) / 3
    value.backward()  # type: ignore[no-untyped-call]
    expected = grads(policy)
    for one in ours:
        assert one.metrics["loss"] == pytest.approx(value.item(), abs=1e-6)
        assert gap(one.gradients, expected) < 1e-5


def test_a_shape_without_a_finite_value_elsewhere_harms_no_other_branch(policies: Load) -> None:
    """1 / (p - p) on one branch's tokens alone is that branch's fault; the step is then skipped, not trained on."""
    policy = policies("llama")
    branches = (BRANCHES[0], Branch(term="imitate", shape=Shape(of=lambda p: p / (p - p))))
    done = gradients_of(policy, config(), prompts(policy, 1), groups(policy, REWARDS[:1]), [Route(mode="mixed", branches=branches)])
    assert done.metrics["steps_skipped_nonfinite"] == 1
    policy.zero_grad()
