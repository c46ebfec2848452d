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
from dyme.methods.state import MethodState
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
        found.append(asking.settle_route(method, stage, asking.ask(method, stage, one, known), one, known, target=judged(target)))
    return found


def judged(reward: float) -> Verdict:
    """What the verifier says of a target: its thinking earned 0.25 of the reward."""
    return Verdict(parsed=True, correct=True, answer="", thinking="", reward=reward, rewards={"thinking": 0.25})


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


def test_hpts_gate() -> None:
    """At most as many correct as the gate: the target alone; else GRPO without a deviation; soft: both, whatever was correct."""
    for gate, modes in ((0, "memorize explore explore explore skip"), (2, "memorize memorize memorize explore skip")):
        routes = settled("hpt", *map(group, (0, 1, 2, 3, 8)), gate=gate, sft_weight=0.3)
        assert [r.mode for r in routes] == modes.split()
        assert [b.weight for b in routes[0].branches] == [0.3] and advantages(routes[3]) == [0.625] * 3 + [-0.375] * 5
    assert settled("hpt", group(8), gate=8)[0].mode == "memorize"
    for right, route in zip((0, 3, 8), settled("hpt", *map(group, (0, 3, 8)), soft=True), strict=True):
        assert route.mode == "mixed" and len(route.branches) == 9 and route.branches[-1].weight == 1.0
        assert advantages(route) == pytest.approx([1 - right / 8] * right + [-right / 8] * (8 - right))
    objective = build({"method": {"name": "hpt"}}).objective
    assert (objective.normalize, objective.loss_type, objective.scale_rewards, objective.beta) == ("term", "dr_grpo", "none", 0)


def test_hpt_with_gate_0_is_dyme_under_term() -> None:
    of = [group(right) for right in (0, 1, 5, 8)]
    dyme = settled("dyme", *of, base={"objective": {"normalize": "term", "scale_rewards": "none"}}, all_correct="explore")
    assert settled("hpt", *of) == dyme


def test_luffys_figures() -> None:
    """7 completions, binary rewards: by the code's baseline 1 - s/7 for the target, 0 for the completions of an all-wrong group."""
    for right in range(8):
        (code,) = settled("luffy", group(right, 7), baseline="code")
        (paper,) = settled("luffy", group(right, 7))
        own = [1 - right / 7] * right + [-right / 7] * (7 - right)
        if right == 7:
            assert code.mode == paper.mode == "skip"
            continue
        assert advantages(code) == pytest.approx([*own, 1 - right / 7]) and code.mode == "mixed"
        assert advantages(paper) == pytest.approx([a - (1 - right / 7) / 8 for a in (*own, 1 - right / 7)])
    config = build({"method": {"name": "luffy"}})
    assert (config.rollout.num_generations, config.objective.loss_type, config.objective.scale_rewards) == (7, "dr_grpo", "none")
    shapes = [route.branches[-1].shape for route in settled("luffy", group(1, 7), group(2, 7))]
    assert shapes[0] is shapes[1] and shapes[0] and shapes[0].of(0.4) == pytest.approx(0.8), "one shape for a whole step"
    assert settled("luffy", group(1, 7), gamma=None)[0].branches[-1].shape is None


def test_visurfs_figures() -> None:
    """All wrong: S-GRPO's; something right: no advantage for the target, whatever its reward; its thinking earns nothing."""
    wrong, some, right = settled("visurf", group(0), group(3), group(8), target=1.25)
    assert advantages(wrong) == pytest.approx([-0.354] * 8 + [2.83], abs=5e-3)
    std = math.sqrt((3 * 0.625**2 + 5 * 0.375**2) / 9)
    assert advantages(some) == pytest.approx([0.625 / std] * 3 + [-0.375 / std] * 5 + [0.0]) and some.mode == "mixed"
    assert right.mode == "skip" and settled("visurf", group(0), target=0.25)[0].mode == "skip"


def rewarded(*completions: tuple[float, float, float]) -> Group:
    """A group by accuracy, format and thinking reward."""
    of, names = group(0, len(completions)), ("accuracy", "format", "thinking")
    parts = [dict(zip(names, own, strict=True)) for own in completions]
    verdicts = [replace(v, correct=p["accuracy"] == 1, rewards=p, reward=sum(p.values())) for v, p in zip(of.verdicts, parts, strict=True)]
    return replace(of, verdicts=tuple(verdicts))


def test_threshold() -> None:
    """paper: one decision a step, by its mean reward (here 1.5); code: each prompt by the mean of its best completion's three rewards."""
    poor, good, rich = rewarded((0, 0, 0), (0, 1, 0.5)), rewarded((1, 1, 0.8), (0, 1, 0.2)), rewarded((0, 1, 0.5), (1, 1, 0.5))
    step = (poor, good, replace(rich, verdicts=tuple(replace(v, reward=1.5) for v in rich.verdicts)))
    for limit, mode in ((0.9, "explore"), (1.5, "memorize"), (2.0, "memorize")):
        routes = settled("threshold", *step, threshold=limit)
        assert {r.mode for r in routes} <= {mode, "skip"} and routes[1].mode == mode
    assert [r.mode for r in settled("threshold", poor, good, rich, rule="code")] == ["memorize", "explore", "memorize"]


def test_annealed() -> None:
    """0.5 (1 + cos(pi t)) / K for the target, the last completion out, the others' advantages those of all K."""
    for progress, factor in {0.0: 1.0, 1 / 3: 0.75, 0.5: 0.5, 2 / 3: 0.25, 1.0: 0.0}.items():
        (route,) = settled("annealed", group(2), progress=progress)
        assert [b.weight for b in route.branches] == pytest.approx([1.0] * 7 + [0.0, factor / 8])
        assert advantages(route) == advantages(settled("grpo", group(2))[0]) and route.mode == "mixed"
    assert settled("annealed", group(0), row_weight=0.4)[0].branches[-1].weight == 0.05


def test_budget() -> None:
    """Failures wait until there are 5: then they are memorized as one mean, those of the step and of earlier ones; nothing is explored."""
    method, config = METHODS["budget"], build({"method": {"name": "budget", "buffer_size": 5}})
    stage, mind = method.plan(config)[0], MethodState(method, config)
    step = [replace(group(right), sample=replace(group(0).sample, id=f"s{right}{k}")) for k, right in enumerate((0, 3, 0, 8))]
    for number, (modes, again, left) in enumerate(
        [
            (["explore", "explore", "explore", "skip"], [], ["s00", "s02"]),
            (["explore", "explore", "explore", "skip"], [], ["s00", "s02", "s00", "s02"]),
            (["memorize", "skip", "memorize", "skip"], ["s00", "s02", "s00", "s02"], []),
            (["explore", "explore", "explore", "skip"], [], ["s00", "s02"]),
        ]
    ):
        context = replace(mind.context(number + 1, 0.0), batch=tuple(g.verdicts for g in step))
        samples = asking.replayed(method, stage, context, {g.sample.id: g.sample for g in step})
        assert [s.id for s in samples] == again
        groups = [*step, *(Group(sample=s) for s in samples)]
        routes = [asking.ask(method, stage, g, replace(context, place=k if k < 4 else -1)) for k, g in enumerate(groups)]
        assert [r.mode for r in routes] == [*modes, *["memorize"] * len(again)]
        memorized = [r.branches[0].weight for r in routes if r.mode == "memorize"]
        assert memorized == pytest.approx([8 / 6] * len(memorized)), "the mean over 6 of 8 prompts, under normalize = all"
        mind.learn(list(zip(groups, routes, strict=True)), context)
        assert mind.state() == left


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


def hpt(rows: Rows, soft: bool) -> torch.Tensor:
    """Sums over 9 tokens, no deviation; each term is averaged over its own of three prompts: one memorized and two explored, or all."""
    flat = torch.stack([push(row, a, 9) for row, a in zip(rows.explored, rows.rewards - rows.rewards.mean(), strict=True)]).mean()
    imitated = -rows.imitated.sum() / 9
    return flat + imitated if soft else 3 * imitated if not (rows.rewards >= 1).any() else 1.5 * flat


def luffy(rows: Rows, code: bool, gamma: float | None) -> torch.Tensor:
    base = rows.rewards.mean() if code else torch.cat([rows.rewards, torch.tensor([2.0])]).mean()
    p = rows.target.exp()
    target = push(rows.target, 2.0 - base, 9) if gamma is None else -((2.0 - base) * p / (p + gamma)).sum() / 9
    return torch.stack([*(push(row, r - base, 9) for row, r in zip(rows.explored, rows.rewards, strict=True)), target]).mean()


def visurf(rows: Rows) -> torch.Tensor:
    """The target's reward is 2 with 0.25 for its thinking."""
    best = rows.rewards.mean() if (rows.rewards >= 1).any() else torch.tensor(1.75)
    scores = grpo(torch.cat([rows.rewards, best[None]]))
    return torch.stack([push(row, a) for row, a in zip([*rows.explored, rows.target], scores, strict=True)]).mean()


def annealed(rows: Rows) -> torch.Tensor:
    """At a quarter of the run; the last of three rows is the target."""
    kept = torch.stack([push(row, a) for row, a in zip(rows.explored[:2], grpo(rows.rewards)[:2], strict=True)])
    return (kept.sum() - 0.5 * (1 + math.cos(math.pi / 4)) * rows.imitated.mean()) / 3


REFERENCES: list[tuple[str, dict[str, Any], Callable[[Rows], torch.Tensor]]] = [
    ("dyme", {"tau": 1.0, "memorize_weight": 0.5}, soft),
    ("s_grpo", {"pool": "append"}, lambda rows: pooled(rows, False)),
    ("s_grpo", {"pool": "replace"}, lambda rows: pooled(rows, True)),
    ("chord", {"phi": False}, lambda rows: chord(rows, False)),
    ("chord", {"phi": True}, lambda rows: chord(rows, True)),
    ("hpt", {"soft": False}, lambda rows: hpt(rows, False)),
    ("hpt", {"soft": True}, lambda rows: hpt(rows, True)),
    ("luffy", {"baseline": "paper"}, lambda rows: luffy(rows, False, 0.1)),
    ("luffy", {"baseline": "code"}, lambda rows: luffy(rows, True, 0.1)),
    ("luffy", {"gamma": None}, lambda rows: luffy(rows, False, None)),
    ("visurf", {}, visurf),
    ("annealed", {}, annealed),
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
