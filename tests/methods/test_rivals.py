"""Rivals: their routes and figures by hand, and the gradients of a step against plain rows with autograd."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from tiny import gap, gradients_of, grads, groups, prompts, row_logprobs

from dyme.config import Config
from dyme.methods import METHODS, asking
from dyme.model.policy import Policy
from dyme.recipe import build
from dyme.targets import target_text
from dyme.types import Completion, Group, Route, Sample, Verdict

EXACT = {"objective": {"advantage_eps": 0.0}}


def group(right: int, count: int = 8) -> Group:
    """A group with binary rewards, the first `right` of them 1."""
    verdicts = tuple(Verdict(parsed=True, correct=k < right, answer="", thinking="", reward=float(k < right)) for k in range(count))
    completions = (Completion(text="", token_ids=(1,)),) * count
    return Group(sample=Sample(id="a", question="?", answer="1"), completions=completions, verdicts=verdicts)


def settled(name: str, *of: Group, progress: float = 0.0, target: float = 1.0, base: Any = EXACT, **own: Any) -> list[Route]:
    """A method's routes for a step's groups under its own defaults, the target's reward being `target`."""
    return routed(name, build({**base, "method": {"name": name, **own}}), of, progress, target)


def routed(name: str, config: Config, of: Sequence[Group], progress: float, target: float) -> list[Route]:
    method = METHODS[name]
    stage = method.plan(config)[0]
    context = method.context(config, progress=progress, batch=tuple(g.verdicts for g in of))
    found = []
    for place, one in enumerate(of):
        known = replace(context, place=place)
        found.append(asking.settle_route(method, stage, asking.ask(method, stage, one, known), one, known, 0.0, target))
    return found


def advantages(route: Route) -> list[float]:
    return [b.advantage for b in route.branches if b.advantage is not None]


# Figures


@pytest.mark.parametrize(("pool", "best", "rest", "rows"), [("append", 2.83, -0.354, 8), ("replace", 2.65, -0.378, 7)])
def test_s_grpos_figures(pool: str, best: float, rest: float, rows: int) -> None:
    """All wrong of 8: the target's advantage and that of each wrong row; some right: GRPO; a target that is not right moves nothing."""
    wrong, some = settled("s_grpo", group(0), group(3), pool=pool)
    assert wrong.mode == "mixed" and advantages(wrong) == pytest.approx([rest] * rows + [best], abs=5e-3)
    assert wrong.branches[-1].completion is None and wrong.branches[-1].term == "policy"
    assert some == settled("grpo", group(3))[0] and some.mode == "explore"
    assert settled("s_grpo", group(0), target=0.0, pool=pool)[0].mode == "skip"


def test_chords_schedule() -> None:
    """By hand: up to the peak, half-way down a cosine, at the valley; without a warm-up from 0.9 to 0.05 by two thirds of the run."""
    known = {"peak": 0.9, "valley": 0.1, "warmup": 0.2, "decay": 0.4}
    down = 0.1 + 0.8 * (1 + math.cos(0.75 * math.pi)) / 2
    for own, points in (
        (known, {0.0: 0.0, 0.1: 0.45, 0.2: 0.9, 0.4: 0.5, 0.5: down, 0.6: 0.1, 1.0: 0.1}),
        ({}, {0.0: 0.9, 1 / 3: 0.475, 2 / 3: 0.05, 0.9: 0.05, 1.0: 0.05}),
    ):
        for progress, mu in points.items():
            for right in (0, 1, 2) if mu else (1,):
                (route,) = settled("chord", group(right, 2), progress=progress, **own)
                assert [b.weight for b in route.branches] == pytest.approx([1 - mu, 1 - mu, mu]) and route.mode == "mixed"


# Gradients


@dataclass
class Rows:
    """Log-probabilities of a prompt's answers on plain rows: completions and target as they are explored, target as it is imitated."""

    explored: list[torch.Tensor]
    target: torch.Tensor
    imitated: torch.Tensor
    rewards: torch.Tensor


def push(logprob: torch.Tensor, advantage: Any, length: float | None = None) -> torch.Tensor:
    """The loss of an explored row: its mean over tokens, or its sum over a constant length."""
    value = -torch.exp(logprob - logprob.detach()) * advantage
    return value.mean() if length is None else value.sum() / length


def grpo(rewards: torch.Tensor) -> torch.Tensor:
    return (rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-4)


def explored(rows: Rows) -> torch.Tensor:
    return torch.stack([push(row, a) for row, a in zip(rows.explored, grpo(rows.rewards), strict=True)]).mean()


def soft(rows: Rows) -> torch.Tensor:
    """tau 1, weight 0.5: (1 - s/3) of it beside the policy term, which all-wrong and all-right groups lack."""
    right = int((rows.rewards >= 1).sum())
    return -0.5 * (1 - right / 3) * rows.imitated.mean() + (explored(rows) if right in (1, 2) else 0.0)


def pooled(rows: Rows, replacing: bool) -> torch.Tensor:
    """S-GRPO: the target's reward is 2."""
    if (rows.rewards >= 1).any():
        return explored(rows)
    keep = 2 if replacing else 3
    scores = grpo(torch.cat([rows.rewards[:keep], torch.tensor([2.0])]))
    return torch.stack([push(row, a) for row, a in zip([*rows.explored[:keep], rows.target], scores, strict=True)]).mean()


def chord(rows: Rows, phi: bool) -> torch.Tensor:
    mu, p = 0.05 + 0.85 * (1 + math.cos(math.pi * 0.25 * 1.5)) / 2, rows.imitated.detach().exp()
    return (1 - mu) * explored(rows) - mu * (rows.imitated * (p * (1 - p) if phi else 1.0)).mean()


REFERENCES: list[tuple[str, dict[str, Any], Callable[[Rows], torch.Tensor]]] = [
    ("dyme", {"tau": 1.0, "memorize_weight": 0.5}, soft),
    ("s_grpo", {"pool": "append"}, lambda rows: pooled(rows, False)),
    ("s_grpo", {"pool": "replace"}, lambda rows: pooled(rows, True)),
    ("chord", {"phi": False}, lambda rows: chord(rows, False)),
    ("chord", {"phi": True}, lambda rows: chord(rows, True)),
]
REWARDS = [[1.5, 0.0, 0.2], [0.0, 0.3, 0.0], [2.0, 1.5, 1.0]]
"""Mixed, all wrong, all right; correct from 1 on."""


@pytest.mark.parametrize(("name", "own", "reference"), REFERENCES, ids=[f"{n}-{'-'.join(map(str, o.values()))}" for n, o, _ in REFERENCES])
def test_gradients_are_those_of_plain_rows(name: str, own: Any, reference: Any, policies: Callable[[str], Policy]) -> None:
    """The mean over all prompts of what the paper's formula says of each."""
    policy = policies("llama").train()
    config = build({"method": {"name": name, **own}, "rollout": {"num_generations": 3, "temperature": 0.8, "max_completion_length": 9}})
    asked, answered = prompts(policy, 3), groups(policy, REWARDS)
    ours = gradients_of(policy, config, asked, answered, routed(name, config, answered, 0.25, 2.0))
    losses = []
    for prompt, of, rewards in zip(asked, answered, REWARDS, strict=True):
        target = policy.target(target_text(of.sample, "Answer:"))
        rows = [row_logprobs(policy.model, prompt, tokens, 0.8) for tokens in (*(c.token_ids for c in of.completions), target)]
        losses.append(reference(Rows(rows[:-1], rows[-1], row_logprobs(policy.model, prompt, target), torch.tensor(rewards))))
    value = torch.stack(losses).mean()
    value.backward()  # type: ignore[no-untyped-call]
    assert ours.metrics["loss"] == pytest.approx(value.item(), abs=1e-6)
    assert gap(ours.gradients, grads(policy)) < 1e-5
