"""What must not depend on how it is computed: plain GRPO, TRL, cross-entropy, micro-batches, processes, order, skipped groups."""

from __future__ import annotations

import copy
import math
import os
import random
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import two_processes
from accelerate import Accelerator
from families import FAMILIES, SEEING, TREES
from forked import Child
from routing import route
from tiny import Picture, Step, gap, gradients_of, grads, group, groups, inputs, prompts, row_logprobs, samples, step

from dyme.config import Config, MethodConfig, ObjectiveConfig, RolloutConfig, SupervisionConfig, TrainConfig
from dyme.methods.advantages import advantages, standard_deviation
from dyme.model.policy import Policy, Prompt
from dyme.model.tree import Limb, Tree, collate
from dyme.training.loss import count, loss, token_weight
from dyme.training.reference import Reference
from dyme.training.update import Updater
from dyme.types import Group, Route

Load = Callable[[str], Policy]
REWARDS = [[1.9, 0.2, 1.1, 0.0], [0.5, 0.5, 0.5, 0.5], [3.0, 0.0, 0.1, 2.2]]
"""The second group has no variance: it is skipped, and counts in plain GRPO's mean."""


def config(method: str = "grpo", *, all_correct: Any = "skip", temperature: float = 1.0, budget: int = 8192, **objective: Any) -> Config:
    return Config(
        method=MethodConfig(name=method, settings={"all_correct": all_correct} if method == "dyme" else {}),
        objective=ObjectiveConfig(**objective),
        rollout=RolloutConfig(temperature=temperature, max_completion_length=9, num_generations=4),
        train=TrainConfig(max_tokens_per_batch=budget),
    )


def routed(of: Sequence[Group], settings: Config) -> list[Route]:
    spread = standard_deviation([v.reward for g in of for v in g.verdicts], settings.objective.std)
    return [route(g, settings, batch_std=spread) for g in of]


def nudged(policy: Policy, size: float = 0.02) -> Policy:
    """A copy with other weights, so that the original can serve as its reference model."""
    out = copy.deepcopy(policy)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in out.parameters():
            if weight.requires_grad:
                weight += size * torch.randn(weight.shape, generator=generator)
    return out


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_always_explore_is_plain_grpo(family: str, temperature: float, policies: Load) -> None:
    """Against a few lines on rows: population deviation, no clipping at work, the mean over all completions of token means."""
    policy = policies(family).train()
    asked, answered = prompts(policy, 3), groups(policy, REWARDS)
    settings = config(temperature=temperature)
    ours = gradients_of(policy, settings, asked, answered, routed(answered, settings))

    terms = []
    for prompt, g, rewards in zip(asked, answered, REWARDS, strict=True):
        r = torch.tensor(rewards)
        advantage = (r - r.mean()) / (r.std(correction=0) + 1e-4)
        for completion, a in zip(g.completions, advantage, strict=True):
            logprob = row_logprobs(policy.model, prompt, completion.token_ids, temperature)
            terms.append(-(torch.exp(logprob - logprob.detach()) * a).mean())
    value = torch.stack(terms).mean()
    value.backward()
    assert ours.metrics["loss"] == pytest.approx(value.item(), abs=1e-6)
    assert gap(ours.gradients, grads(policy)) < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_always_memorize_is_cross_entropy(family: str, policies: Load) -> None:
    """Against torch's cross-entropy of the target's tokens, prompts masked out, per-sequence mean, then the mean over rows."""
    policy = policies(family).train()
    asked, rows = prompts(policy, 3), samples(policy, 3)
    settings = config("sft", temperature=0.5)
    empty = [Group(sample=row) for row in rows]
    ours = gradients_of(policy, settings, asked, empty, routed(empty, settings))

    terms = []
    for prompt, row in zip(asked, rows, strict=True):
        target = policy.target(f"{row.rationale} Answer: {row.answer}")
        labels = torch.tensor([-100] * (len(prompt.token_ids) - 1) + [*target])
        logits = policy.model(**inputs(policy.model, prompt, target)).logits[0, :-1]
        terms.append(torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100))
    value = torch.stack(terms).mean()
    value.backward()
    assert ours.metrics["loss"] == pytest.approx(value.item(), rel=1e-6)
    assert gap(ours.gradients, grads(policy)) < 1e-5


@pytest.mark.parametrize(("weight", "factor"), [("paper", 1.0), ("code", 1 / 4)])
def test_dyme_is_eq_8(weight: Any, factor: float, policies: Load) -> None:
    """On rows: the mean over all prompts of the step, of which a memorized and an explored one weigh alike; a skipped one adds nothing."""
    policy = policies("idefics3").train()
    asked, answered = prompts(policy, 4), groups(policy, [[0.9, 0.0], [1.5, 0.0], [0.0, 0.3], [2.0, 1.0]])
    settings = config("dyme")
    settings = replace(settings, method=replace(settings.method, settings={"memorize_weight": weight}))
    assert settings.objective.normalize == "all"
    routes = routed(answered, settings)
    assert [r.mode for r in routes] == ["memorize", "explore", "memorize", "skip"]
    ours = gradients_of(policy, settings, asked, answered, routes)
    losses = []
    for k in (0, 2):
        target = policy.target(f"{answered[k].sample.rationale} Answer: {answered[k].sample.answer}")
        losses.append(-factor * row_logprobs(policy.model, asked[k], target).mean())
    reward = torch.tensor([1.5, 0.0])
    advantage = (reward - reward.mean()) / (reward.std(correction=0) + 1e-4)
    rows = [row_logprobs(policy.model, asked[1], c.token_ids) for c in answered[1].completions]
    losses.append(-sum(a * row.mean() for a, row in zip(advantage, rows, strict=True)) / 2)
    (torch.stack(losses).sum() / 4).backward()
    assert gap(ours.gradients, grads(policy)) < 1e-5


def test_under_term_each_term_weighs_one(policies: Load) -> None:
    """On rows: each term's mean over its own prompts, one added to the other, as HPT has it."""
    policy = policies("idefics3").train()
    asked, answered = prompts(policy, 4), groups(policy, [[0.9, 0.0], [1.5, 0.0], [0.0, 0.3], [2.0, 1.0]])
    settings = config("dyme", normalize="term")
    routes = routed(answered, settings)
    assert [r.mode for r in routes] == ["memorize", "explore", "memorize", "skip"]
    ours = gradients_of(policy, settings, asked, answered, routes)
    memorized = [row_logprobs(policy.model, asked[k], policy.target(f"{g.sample.rationale} Answer: {g.sample.answer}")).mean()
                 for k, g in enumerate(answered) if k in (0, 2)]  # fmt: skip
    scores = [1 / (1 + 1e-4 / 0.75), -1 / (1 + 1e-4 / 0.75)]
    explored = [a * row_logprobs(policy.model, asked[1], c.token_ids).mean() for a, c in zip(scores, answered[1].completions, strict=True)]
    (-sum(memorized) / 2 - sum(explored) / 2).backward()  # type: ignore[union-attr]
    assert gap(ours.gradients, grads(policy)) < 1e-5


# TRL


def trl(policy: Policy, settings: Config, asked: Sequence[Prompt], answered: Sequence[Group], out: Path, old: Any = None) -> dict[str, Any]:
    """TRL's loss, gradients and advantages for these completions and rewards; its own code does everything after sampling."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    objective, model = settings.objective, copy.deepcopy(policy.model)
    rewards = [v.reward for g in answered for v in g.verdicts]
    args = GRPOConfig(
        output_dir=str(out), per_device_train_batch_size=len(rewards), num_generations=4, gradient_accumulation_steps=1,
        max_completion_length=settings.rollout.max_completion_length, temperature=settings.rollout.temperature, beta=objective.beta,
        loss_type=objective.loss_type, scale_rewards=objective.scale_rewards,
        epsilon=objective.epsilon, epsilon_high=objective.epsilon_high,
        gradient_checkpointing=False, use_cpu=True, bf16=False, report_to=[],
    )  # fmt: skip
    rows = [
        {"prompt": [{"role": "user", "content": f"{g.sample.question} Think."}]}
        | ({"images": [image.load() for image in g.sample.images]} if g.sample.images else {})
        for g in answered for _ in g.completions
    ]  # fmt: skip
    data = Dataset.from_list([{"prompt": row["prompt"]} for row in rows])
    trainer = GRPOTrainer(model, reward_funcs=lambda **_: [], args=args, train_dataset=data, processing_class=policy.processor)
    prompt_ids = [list(p.token_ids) for p, g in zip(asked, answered, strict=True) for _ in g.completions]
    completion_ids = [list(c.token_ids) for g in answered for c in g.completions]
    trainer._generate = lambda prompts: (prompt_ids, completion_ids, None, [""] * len(rows), None, {}, None, None)
    trainer._calculate_rewards = lambda *_: torch.tensor(rewards)[:, None]
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    inputs = trainer._generate_and_score_completions(rows)
    if old is not None:
        inputs["old_per_token_logps"] = old(inputs["completion_mask"])
    value = trainer.compute_loss(trainer.model, inputs)
    value.backward()
    gradients = {f"model.{n}": p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    kl = trainer._metrics["train"].get("kl", [0.0])[-1]
    return {"loss": value.item(), "gradients": gradients, "advantages": inputs["advantages"].tolist(), "kl": kl}


@pytest.mark.parametrize(
    ("loss_type", "beta", "scale"),
    [(loss_type, beta, "group") for loss_type in ("grpo", "dr_grpo", "dapo") for beta in (0.0, 0.1)]
    + [("grpo", 0.0, "batch"), ("grpo", 0.0, "none")],
)
def test_gradients_equal_trl(loss_type: Any, beta: float, scale: Any, policies: Load, tmp_path: Path) -> None:
    against_trl(policies("llama"), loss_type, beta, scale, 0.9, tmp_path)


def test_gradients_equal_trl_with_pictures(policies: Load, tmp_path: Path) -> None:
    against_trl(policies("idefics3"), "grpo", 0.1, "group", 1.0, tmp_path)


def against_trl(policy: Policy, loss_type: Any, beta: float, scale: Any, temperature: float, folder: Path) -> None:
    reference, policy = policy, nudged(policy)
    rewards = REWARDS if beta or loss_type != "dapo" else [REWARDS[0], REWARDS[2]]  # see test_dapo_divides_by_trained_tokens
    answered, asked = groups(policy, rewards), prompts(policy, len(rewards))
    settings = config(loss_type=loss_type, beta=beta, scale_rewards=scale, std="sample", temperature=temperature)
    theirs = trl(policy, settings, asked, answered, folder)
    routes = routed(answered, settings)
    spread = standard_deviation([r for row in rewards for r in row], "sample")
    ours = [a for row in rewards for a in advantages(row, settings.objective, spread)]
    assert ours == pytest.approx(theirs["advantages"], rel=1e-5, abs=1e-6)
    updater = Updater(policy, settings, Accelerator(cpu=True))
    updater.reference = Reference(Updater(reference, settings, Accelerator(cpu=True)).placement) if beta else None
    done = step(updater, asked, answered, routes)
    distance = gap(done.gradients, theirs["gradients"])
    print(f"{loss_type} beta {beta} scale {scale}: relative distance of the gradients {distance:.1e}")
    assert distance < 1e-5
    assert done.metrics["loss"] == pytest.approx(theirs["loss"], rel=1e-5, abs=1e-6)
    assert done.metrics.get("kl", 0.0) == pytest.approx(theirs["kl"], rel=1e-4, abs=1e-7)
    assert not beta or theirs["kl"] > 1e-4


def test_clipping_equals_trl(policies: Load, tmp_path: Path) -> None:
    """Old log-probabilities far enough off that both clip ranges are at work."""
    policy = policies("llama")
    rewards = [REWARDS[0], REWARDS[2]]
    answered, asked = groups(policy, rewards), prompts(policy, 2)
    settings = config(std="sample", epsilon=0.1, epsilon_high=0.3)
    lengths = [[len(c.token_ids) for c in g.completions] for g in answered]
    shift = 0.4 * torch.randn(sum(map(sum, lengths)), generator=torch.Generator().manual_seed(0))
    pairs = [(p, c.token_ids) for p, g in zip(asked, answered, strict=True) for c in g.completions]
    rows = torch.cat([row_logprobs(policy.model, prompt, ids) for prompt, ids in pairs]).detach()

    def old(mask: torch.Tensor) -> torch.Tensor:
        return torch.zeros(mask.shape).masked_scatter(mask.bool(), rows + shift)

    theirs = trl(policy, settings, asked, answered, tmp_path, old)
    routes = routed(answered, settings)
    totals = count(routes, lengths)
    limbs = [
        Limb(tokens=ids, term="policy", advantage=b.advantage, token_weight=token_weight(b, len(ids), 4, totals, settings.objective, 9))
        for (_, ids), b in zip(pairs, [b for r in routes for b in r.branches], strict=True)
    ]
    batch = collate([Tree(trunk=asked[k], limbs=tuple(limbs[4 * k : 4 * k + 4])) for k in range(2)], policy.pad)
    value = loss(policy(batch), batch, settings.objective, rows + shift)
    value.backward()
    assert value.item() == pytest.approx(theirs["loss"], rel=1e-5)
    assert gap(grads(policy), theirs["gradients"]) < 1e-5


def test_dapo_divides_by_trained_tokens(policies: Load) -> None:
    """A known difference: TRL's dapo also counts the tokens of groups without variance, which DAPO itself filters out."""
    policy = policies("llama")
    answered, asked = groups(policy, REWARDS), prompts(policy, 3)
    settings = config(loss_type="dapo", normalize="active")
    with_skipped = gradients_of(policy, settings, asked, answered, routed(answered, settings))
    live = [answered[0], answered[2]]
    without = gradients_of(policy, settings, [asked[0], asked[2]], live, routed(live, settings))
    assert gap(with_skipped.gradients, without.gradients) < 1e-6


# Micro-batches and processes


@pytest.mark.parametrize("family", ["idefics3", "llava_onevision"])
@pytest.mark.parametrize("loss_type", ["grpo", "dapo"])
def test_one_by_eight_is_eight_by_one(family: str, loss_type: Any, policies: Load) -> None:
    policy = policies(family)
    asked, answered = two_processes.work(policy)
    seen: list[Step] = []
    for budget in (1, 400, 10**6):
        settings = config("dyme", budget=budget, loss_type=loss_type, beta=0.1)
        updater = Updater(policy, settings, Accelerator(cpu=True))
        updater.begin_stage(rolls_out=True)
        sizes: list[int] = []
        counting = policy.register_forward_pre_hook(  # the first batch's check has no gradients
            lambda _, given, sizes=sizes: sizes.append(len(given[0].input_ids_BL)) if torch.is_grad_enabled() else None
        )
        seen.append(step(updater, asked, answered, routed(answered, settings)))
        counting.remove()
        assert {1: sizes == [1] * 8, 400: 1 < len(sizes) < 8, 10**6: sizes == [8]}[budget], sizes
    for other in seen[1:]:
        assert gap(other.gradients, seen[0].gradients) < 1e-5
        assert other.metrics == pytest.approx(seen[0].metrics, rel=1e-5)


def test_two_processes_equal_one(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    """Real processes over gloo: rollouts, gradients and weights of four on each are those of eight on one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = os.environ | {
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, two_processes.__file__, str(checkpoints("idefics3")), str(tmp_path)]
    ranks = [Child(command, env=shared | {"RANK": str(k), "LOCAL_RANK": str(k)}) for k in range(2)]
    try:
        alone = two_processes.run(checkpoints("idefics3"), Accelerator(cpu=True))
        assert [rank.wait(timeout=240) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    both = [torch.load(tmp_path / f"{k}.pt", weights_only=False) for k in range(2)]
    assert both[0]["completions"] | both[1]["completions"] == alone["completions"]
    assert both[0]["poisoned"] == both[1]["poisoned"] == {"skipped": 1.0, "guard": "nonfinite", "still": True}
    assert not alone["calls"] and both[0]["calls"] == both[1]["calls"]
    assert len(both[0]["calls"]) <= 5, "gradients are summed in one call"
    for name, expected in alone["steps"].items():
        for rank in both:
            found = rank["steps"][name]
            assert found["metrics"] == pytest.approx(expected["metrics"], rel=1e-5, abs=1e-7), name
            if name == "all skip":
                assert not expected["gradients"] and not found["gradients"]
                assert not any(t.any() for t in (*expected["moved"].values(), *found["moved"].values()))
                continue
            assert gap(found["gradients"], expected["gradients"]) < 1e-5, name
            assert gap(found["moved"], expected["moved"]) < 1e-3, name
        assert all(torch.equal(both[0]["steps"][name]["moved"][k], v) for k, v in both[1]["steps"][name]["moved"].items()), name


# Skips, order, pictures


def state(updater: Updater) -> dict[str, torch.Tensor]:
    """Every number that a step may change: weights, and the optimizer's moments and counts."""
    out = {n: t.clone() for n, t in updater.policy.state_dict().items()}
    for k, moments in updater.optimizer.state_dict()["state"].items():
        out |= {f"{k}.{n}": torch.as_tensor(v).clone() for n, v in moments.items()}
    return out


def test_skipped_groups_leave_everything_bit_identical(policies: Load) -> None:
    policy = copy.deepcopy(policies("idefics3"))
    settings = config("dyme")
    updater = Updater(policy, settings, Accelerator(cpu=True))
    asked, answered = prompts(policy, 3), groups(policy, REWARDS)
    done = step(updater, asked, answered, routed(answered, settings), lr=1e-2)
    assert done.metrics["grad_norm"] > 0
    before = state(updater)
    right = groups(policy, [[1.0, 2.0], [1.0, 1.0], [1.5, 1.0]])
    routes = routed(right, settings)
    assert {r.mode for r in routes} == {"skip"}
    assert step(updater, asked, right, routes, lr=1e-2).metrics == {"loss": 0.0, "grad_norm": 0.0, "trained_tokens": 0.0}
    after = state(updater)
    assert before.keys() == after.keys() and all(torch.equal(before[k], after[k]) for k in before)
    step(updater, asked, answered, routed(answered, settings), lr=1e-2)
    assert not all(torch.equal(t, after[k]) for k, t in state(updater).items()), "the comparison must be able to fail"


@pytest.mark.parametrize("family", FAMILIES)
def test_order_of_groups_is_irrelevant(family: str, policies: Load) -> None:
    policy = policies(family)
    asked, answered = two_processes.work(policy)
    settings = config("dyme")
    routes = routed(answered, settings)
    order = random.Random(3).sample(range(8), 8)
    one = gradients_of(policy, settings, asked, answered, routes)
    other = gradients_of(policy, settings, [asked[k] for k in order], [answered[k] for k in order], [routes[k] for k in order])
    assert gap(other.gradients, one.gradients) < 1e-5
    assert other.metrics == pytest.approx(one.metrics, rel=1e-5)


@pytest.mark.parametrize("family", SEEING)
def test_the_update_sees_the_picture(family: str, policies: Load) -> None:
    """No silent training on text alone: another picture of the same size, other log-probabilities, on every branch of its prompt."""
    policy = policies(family)
    rows = [replace(samples(policy, 1)[0], images=(Picture(seed, (34, 34)),)) for seed in (0, 1)]
    one, other = (policy.encode(row, "Think.") for row in rows)
    assert one.token_ids == other.token_ids
    limbs = tuple(Limb(tokens=c.token_ids, term="policy", advantage=1.0, token_weight=1.0) for c in groups(policy, REWARDS)[0].completions)

    def scores(*seen: Prompt) -> list[torch.Tensor]:
        trees = [Tree(trunk=p, limbs=limbs) for p in seen]
        with torch.no_grad():
            kind = "tree" if family in TREES else "reference"
            return list(policy(collate(trees, policy.pad, kind, policy.answer_types)).chunk(len(seen)))

    first, second = scores(one, other)
    assert ((first - second).abs() > 1e-3).float().mean() > 0.9
    swapped = scores(other, one)
    torch.testing.assert_close(swapped, [second, first], atol=1e-5, rtol=0)


def test_no_gradient_without_a_live_branch_even_beside_others(policies: Load) -> None:
    """A skipped prompt is not computed at all: its picture may be anything."""
    policy = policies("llava")
    asked, answered = prompts(policy, 3), groups(policy, REWARDS)
    settings = config()
    routes = routed(answered, settings)
    poisoned = replace(asked[1], vision={k: v * float("nan") for k, v in asked[1].vision.items()})
    clean = gradients_of(policy, settings, asked, answered, routes)
    beside = gradients_of(policy, settings, [asked[0], poisoned, asked[2]], answered, routes)
    assert all(torch.equal(beside.gradients[k], v) for k, v in clean.gradients.items())
    assert group(answered[0].sample, [], []).solved == 0


def test_a_step_sampled_early_is_weighed_against_what_sampled_it(policies: Load) -> None:
    """With overlap the ratio is taken against the completions' own log-probabilities, clipped; without, it is 1."""
    policy = policies("llama").train()
    asked, answered = prompts(policy, 1), groups(policy, [[1.5, 0.0]])
    [route] = routed(answered, config("grpo"))
    shift = 0.1
    own = [row_logprobs(policy.model, asked[0], c.token_ids).detach() for c in answered[0].completions]
    late = [replace(answered[0], completions=tuple(
        replace(c, logprobs=tuple((lp - shift).tolist())) for c, lp in zip(answered[0].completions, own, strict=True)
    ))]  # fmt: skip
    helped = SupervisionConfig(checker="llm", url="http://localhost", model="m")
    losses = {
        overlap: gradients_of(policy, replace(config("grpo"), supervision=replace(helped, overlap=overlap)), asked, late, [route]).metrics[
            "loss"
        ]
        for overlap in (False, True)
    }
    gains = [branch.advantage for branch in route.branches]
    assert losses[False] == pytest.approx(-sum(gains) / 2, abs=1e-5)
    assert losses[True] == pytest.approx(-sum(gains) / 2 * math.exp(shift), abs=1e-5)
    skewed = [replace(b, advantage=1.0) for b in route.branches]
    clipped = replace(config("grpo"), supervision=helped, objective=replace(config("grpo").objective, epsilon=0.05))
    assert gradients_of(policy, clipped, asked, late, [replace(route, branches=tuple(skewed))]).metrics["loss"] == pytest.approx(
        -1.05, abs=1e-5
    )
