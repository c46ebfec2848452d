"""The optimizer step: clipping, several updates per rollout, the reference model, saving and loading, what is decayed."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from routing import route
from tiny import gap, gradients_of, group, groups, prompts, row_logprobs, samples, step

from dyme.config import Config, MethodConfig, ModelConfig, ObjectiveConfig, RolloutConfig, TrainConfig
from dyme.model.policy import Policy
from dyme.model.tree import TreeBatch
from dyme.training import memory
from dyme.training.update import Updater, build_optimizer
from dyme.types import Branch, Group, Route

Load = Callable[[str], Policy]
REWARDS = [[1.9, 0.2, 1.1, 0.0], [0.5, 0.0, 0.9, 0.1], [3.0, 0.0, 0.1, 2.2]]


def config(objective: dict[str, Any] | None = None, method: dict[str, Any] | None = None, **train: Any) -> Config:
    return Config(
        objective=ObjectiveConfig(**objective or {}), method=MethodConfig(**method or {}), train=TrainConfig(**train),
        rollout=RolloutConfig(max_completion_length=9),
    )  # fmt: skip


def updater_of(policy: Policy, settings: Config) -> Updater:
    return Updater(copy.deepcopy(policy), settings, Accelerator(cpu=True))


def routed(of: list[Group], settings: Config) -> list[Route]:
    return [route(g, settings) for g in of]


def weights(updater: Updater) -> dict[str, torch.Tensor]:
    return {n: t.detach().clone() for n, t in updater.policy.named_parameters()}


def test_biases_and_norms_are_not_decayed(policies: Load) -> None:
    policy = policies("llava")
    decayed, free = build_optimizer([w for w in policy.parameters() if w.requires_grad], config(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)
    names = {id(p): n for n, p in policy.named_parameters()}
    assert all(p.requires_grad for p in decayed["params"] + free["params"])
    assert {names[id(p)] for p in free["params"]} == {n for n, p in policy.named_parameters() if p.requires_grad and p.ndim < 2}
    assert any("norm" in names[id(p)] for p in free["params"]) and any("bias" in names[id(p)] for p in free["params"])
    assert len(decayed["params"] + free["params"]) == sum(p.requires_grad for p in policy.parameters())


def test_the_norm_is_reported_and_the_step_is_clipped(policies: Load) -> None:
    """Plain descent, so that the weights show what was clipped."""
    policy = policies("llama")
    asked, answered = prompts(policy, 3), groups(policy, REWARDS)
    moved = {}
    for limit in (1e9, 0.01):
        settings = config(max_grad_norm=limit)
        updater = updater_of(policy, settings)
        updater.optimizer = updater.accelerator.prepare(torch.optim.SGD(updater.policy.parameters(), lr=99.0))
        before = weights(updater)
        done = step(updater, asked, answered, routed(answered, settings), lr=0.5)
        moved[limit] = math.sqrt(sum(float((t - before[n]).square().sum()) for n, t in weights(updater).items()))
        norm = math.sqrt(sum(float(g.square().sum()) for g in done.gradients.values()))
        assert done.metrics["grad_norm"] == pytest.approx(norm, rel=1e-4)
        assert moved[limit] == pytest.approx(0.5 * min(norm, limit), rel=1e-3), "the learning rate is the one given to the step"


def test_trained_tokens_are_those_of_live_branches(policies: Load) -> None:
    policy = policies("llama")
    asked, answered = prompts(policy, 3), groups(policy, [REWARDS[0], [1.0, 1.0], [0.0, 1.0]])
    settings = config()
    routes = routed(answered, settings)
    assert [r.mode for r in routes] == ["explore", "skip", "explore"]
    dead = replace(routes[2], branches=(replace(routes[2].branches[0], advantage=0.0), routes[2].branches[1]))
    read = len(asked[0].token_ids) + sum(len(c.token_ids) - 1 for c in answered[0].completions)
    read += len(asked[2].token_ids) + len(answered[2].completions[1].token_ids) - 1
    done = gradients_of(policy, settings, asked, answered, [routes[0], routes[1], dead])
    assert done.metrics["trained_tokens"] == read


def test_dead_branches_still_count_in_the_mean(policies: Load) -> None:
    """A completion with advantage 0 is not computed, and K stays K."""
    policy = policies("llama").train()
    asked, answered = prompts(policy, 1), groups(policy, [[1.0, 0.0, 0.5]])
    branches = tuple(Branch(term="policy", completion=k, advantage=a) for k, a in enumerate((1.0, -1.0, 0.0)))
    done = gradients_of(policy, config(), asked, answered, [Route(mode="explore", branches=branches)])
    rows = [row_logprobs(policy.model, asked[0], c.token_ids).mean() for c in answered[0].completions]
    ((rows[1] - rows[0]) / 3).backward()
    expected = {n: p.grad for n, p in policy.named_parameters() if p.grad is not None}
    assert gap(done.gradients, expected) < 1e-5
    policy.zero_grad()


def test_the_memorize_weight_scales_its_term(policies: Load) -> None:
    policy = policies("llama")
    asked, answered = prompts(policy, 2), groups(policy, [[0.0, 0.3], [0.0, 0.1]])
    one, eighth = (config(method={"settings": {"memorize_weight": w}}) for w in ("paper", "code"))
    whole, part = (gradients_of(policy, s, asked, answered, routed(answered, s)) for s in (one, eighth))
    assert gap({n: 8 * g for n, g in part.gradients.items()}, whole.gradients) < 1e-6
    assert part.metrics["loss"] == pytest.approx(whole.metrics["loss"] / 8)


def test_two_updates_per_rollout(policies: Load) -> None:
    """Against a loop on rows: the second pass measures its ratio from the policy before the first, and clips it."""
    policy = policies("llama")
    asked, answered = prompts(policy, 3), groups(policy, REWARDS)
    settings = config({"epsilon": 0.05}, num_iterations=2, max_tokens_per_batch=60, learning_rate=3e-3, max_grad_norm=1e9)
    updater = updater_of(policy, settings)
    routes = routed(answered, settings)
    done = step(updater, asked, answered, routes, lr=3e-3)

    plain = copy.deepcopy(policy).train()
    optimizer = build_optimizer([w for w in plain.parameters() if w.requires_grad], settings)
    old: list[torch.Tensor] = []
    clipped, losses = 0, list[float]()
    for _ in range(2):
        terms, rows = [], []
        for prompt, g, decided in zip(asked, answered, routes, strict=True):
            if decided.mode == "memorize":
                target = plain.target(f"{g.sample.rationale} Answer: {g.sample.answer}")
                terms.append(-row_logprobs(plain.model, prompt, target).mean() / 3)
                continue
            for c, b in zip(g.completions, decided.branches, strict=True):
                rows.append(row_logprobs(plain.model, prompt, c.token_ids))
                before = old[len(rows) - 1] if len(old) == 8 else rows[-1].detach()
                ratio = (rows[-1] - before).exp()
                clipped += int(((ratio - 1).abs() > 0.05).sum())
                terms.append(-torch.minimum(ratio * b.advantage, ratio.clamp(0.95, 1.05) * b.advantage).mean() / 12)
        old = old or [row.detach() for row in rows]
        value = torch.stack(terms).sum()
        losses.append(value.item())
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert [r.mode for r in routes] == ["explore", "memorize", "explore"] and clipped > 3
    assert losses[0] != pytest.approx(losses[1], rel=1e-2)
    assert done.metrics["loss"] == pytest.approx(sum(losses) / 2, rel=1e-4), "the mean over the passes"
    start = {n: t.detach() for n, t in policy.named_parameters()}
    moved = {n: t - start[n] for n, t in weights(updater).items()}
    assert gap(moved, {n: t - start[n] for n, t in plain.state_dict().items() if n in start}) < 1e-2
    single = updater_of(policy, replace(settings, train=replace(settings.train, num_iterations=1)))
    step(single, asked, answered, routes, lr=3e-3)
    assert gap({n: t - start[n] for n, t in weights(single).items()}, moved) > 0.1


def test_the_reference_is_the_model_at_the_start_of_a_stage_that_rolls_out(policies: Load) -> None:
    policy = policies("llama")
    asked, answered = prompts(policy, 3), groups(policy, REWARDS)
    settings = config({"beta": 0.5}, {"name": "grpo"}, learning_rate=1e-2)
    updater = updater_of(policy, settings)
    updater.begin_stage(rolls_out=False)
    assert updater.reference is None
    updater.begin_stage(rolls_out=True)
    assert updater.reference is not None and not any(p.requires_grad for p in updater.reference.weights.values())
    start = weights(updater)
    routes = routed(answered, settings)
    on_policy = step(updater, asked, answered, routes, lr=1e-2)
    assert on_policy.metrics["loss"] == pytest.approx(gradients_of(policy, config(), asked, answered, routes).metrics["loss"], abs=1e-5)
    assert all(torch.equal(p, start[n]) for n, p in updater.reference.weights.items()), "it stays where it was"
    before = copy.deepcopy(updater.policy)
    before.load_state_dict(start, strict=False)
    rows = []
    for prompt, g in zip(asked, answered, strict=True):
        for c in g.completions:
            own, then = (row_logprobs(m.model, prompt, c.token_ids) for m in (updater.policy, before))
            rows.append(((then - own).exp() - (then - own) - 1).mean())
    away = 0.5 * torch.stack(rows).mean().item()
    assert away > 1e-3
    later = step(updater, asked, answered, routes)
    without = gradients_of(updater.policy, config(), asked, answered, routes)
    assert later.metrics["loss"] - without.metrics["loss"] == pytest.approx(away, rel=1e-3)
    plain = updater_of(policy, config())
    plain.begin_stage(rolls_out=True)
    assert plain.reference is None, "none is kept without a KL term"


def test_a_stage_begins_with_a_fresh_optimizer(policies: Load) -> None:
    policy = policies("llama")
    asked, answered = prompts(policy, 3), groups(policy, REWARDS)
    settings = config()
    updater = updater_of(policy, settings)
    step(updater, asked, answered, routed(answered, settings), lr=1e-3)
    assert updater.optimizer.state_dict()["state"]
    updater.begin_stage(rolls_out=True)
    assert not updater.optimizer.state_dict()["state"]
    updater.policy.eval()
    fresh = updater_of(updater.policy, settings)
    for one in (updater, fresh):
        step(one, asked, answered, routed(answered, settings), lr=1e-3)
    assert all(torch.equal(t, weights(fresh)[n]) for n, t in weights(updater).items())
    assert updater.policy.training, "an update is in training mode, whatever came before"


@pytest.mark.parametrize("beta", [0.0, 0.2])
def test_saved_and_loaded_it_goes_on_bit_for_bit(beta: float, policies: Load, tmp_path: Path) -> None:
    policy = policies("idefics3")
    asked, answered = prompts(policy, 3), groups(policy, REWARDS)
    settings = config({"beta": beta})
    routes = routed(answered, settings)
    first = updater_of(policy, settings)
    first.begin_stage(rolls_out=True)
    step(first, asked, answered, routes, lr=1e-2)
    first.save(tmp_path / "state", tmp_path / "model")
    saved = weights(first)
    second = updater_of(policy, settings)
    second.load(tmp_path / "state")
    assert all(torch.equal(t, weights(first)[n]) for n, t in weights(second).items())
    assert (second.reference is not None) == bool(beta)
    done = [step(one, asked, answered, routes, lr=1e-2) for one in (first, second)]
    assert done[0].metrics == done[1].metrics
    assert all(torch.equal(t, weights(first)[n]) for n, t in weights(second).items())
    model = Policy.load(replace(Config().model, path=str(tmp_path / "model")))
    assert all(torch.equal(t, saved[n]) for n, t in model.named_parameters())
    assert not all(torch.equal(t, saved[n]) for n, t in weights(first).items()), "the comparisons must be able to fail"


def test_targets_come_from_the_sample_and_the_marker(policies: Load) -> None:
    policy = policies("llama")
    settings = replace(config(), task=replace(Config().task, marker="=>"))
    sample = samples(policy, 1)[0]
    route = Route(mode="memorize", branches=(Branch(term="imitate"),))
    done = gradients_of(policy, settings, prompts(policy, 1), [group(sample, [], [])], [route])
    expected = row_logprobs(policy.model, prompts(policy, 1)[0], policy.target(f"{sample.rationale} => {sample.answer}")).mean()
    assert done.metrics["loss"] == pytest.approx(-expected.item(), rel=1e-5)


def test_a_resumed_run_keeps_layout_and_micro_batches_whatever_memory_is_free(
    policies: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another size of micro-batches sums gradients in another order, and so ends in other bits."""
    policy = policies("idefics3")
    asked, answered = prompts(policy, 3), groups(policy, REWARDS)
    settings = config()
    routes = routed(answered, settings)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**32)
    first = updater_of(policy, settings)
    step(first, asked, answered, routes, lr=1e-2)
    first.save(tmp_path / "state", tmp_path / "model")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2**20)
    again, other = updater_of(policy, settings), updater_of(policy, settings)
    again.load(tmp_path / "state")
    (tmp_path / "state/chosen.json").unlink()
    other.load(tmp_path / "state")
    done = [step(one, asked, answered, routes, lr=1e-2) for one in (first, again, other)]
    assert first.budget == again.budget == 8192 and other.budget == 256
    assert first.layout == again.layout
    assert done[0].metrics == done[1].metrics
    assert all(torch.equal(t, weights(first)[n]) for n, t in weights(again).items())
    assert not all(torch.equal(t, weights(first)[n]) for n, t in weights(other).items()), "the comparison must be able to fail"


@pytest.mark.parametrize("frozen", [True, False])
def test_pixels_go_to_the_device_once_a_micro_batch_and_not_where_the_tower_has_answered(
    frozen: bool, policies: Load, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes of `vision` that each batch sends, in rows, the layout that repeats a prompt's pictures for each completion."""
    policy = copy.deepcopy(policies("llava"))
    policy.tower.module.requires_grad_(not frozen)  # type: ignore[union-attr]
    settings = replace(config(max_tokens_per_batch=200), model=ModelConfig(layout="rows"))
    asked, answered = prompts(policy, 3), groups(policy, REWARDS)
    updater = Updater(policy, settings, Accelerator(cpu=True))
    step(updater, asked, answered, routed(answered, settings))
    events: list[str | int] = []

    def sent(batch: Any, device: Any) -> Any:
        events.append(sum(v.untyped_storage().nbytes() for v in batch.vision.values()))
        return batch

    monkeypatch.setattr(TreeBatch, "to", sent)
    forward = policy.forward
    monkeypatch.setattr(policy, "forward", lambda *given: (events.append("forward"), forward(*given))[1])
    step(updater, asked, answered, routed(answered, settings))
    bytes_sent = [size for size in events if isinstance(size, int)]
    assert len(bytes_sent) >= 3 and events[1::2] == ["forward"] * len(bytes_sent), "one at a time"
    picture = asked[0].vision["pixel_values"].nbytes
    assert max(bytes_sent) <= 4 * 8 if frozen else min(bytes_sent) >= picture
