"""The frozen tower: once per set of images, shared by rollout and update, kept within bounds, never stale, gradients as without."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from families import SEEING, TREES
from routing import route
from tiny import awkward, gap, grads, groups, prompts, samples, trees

from dyme.config import Config, ModelConfig, ObjectiveConfig, RolloutConfig, TrainConfig
from dyme.model.policy import Policy
from dyme.model.tree import Prompt, collate
from dyme.model.vision import Shelf
from dyme.rollout import hf
from dyme.training.update import Updater

Load = Callable[[str], Policy]
CONFIG = Config(
    rollout=RolloutConfig(num_generations=2, max_completion_length=3), train=TrainConfig(max_tokens_per_batch=4096),
    objective=ObjectiveConfig(beta=0.1),
)  # fmt: skip


def fresh(policies: Load, family: str = "llava_onevision") -> Policy:
    """A policy of its own, with nothing kept."""
    out = copy.deepcopy(policies(family))
    out.tower.step, out.tower.encoded, out.tower.unlike = {}, 0, 0
    return out


@contextmanager
def counted(policy: Policy) -> Iterator[list[int]]:
    """Images (or tiles, or patches) of each call that the tower's own code computes."""
    module, calls = policy.tower.module, list[int]()
    plain = type(module).forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(len(args[0] if args else kwargs["pixel_values"]))
        return plain(self, *args, **kwargs)

    type(module).forward = forward  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        type(module).forward = plain  # type: ignore[method-assign]


def round_trip(policy: Policy, updater: Updater, asked: list[Prompt]) -> None:
    """A rollout and an update for these prompts."""
    hf.sample(policy, asked, [1] * len(asked), CONFIG.rollout)
    answered = groups(policy, [[1.0, 0.0, 2.0]] * len(asked))
    routes = [route(g, CONFIG, "grpo") for g in answered]
    updater.step(asked, answered, routes, lr=1e-3)


@pytest.mark.parametrize("family", ["llava_onevision", "qwen3_vl", "lfm2_vl"])
def test_each_set_of_images_is_encoded_once_a_step(family: str, policies: Load) -> None:
    """Three prompts with two pictures: rollout, first-batch check, update and the reference model of the KL term share two calls."""
    policy = fresh(policies, family)
    updater = Updater(policy, CONFIG, Accelerator(cpu=True))
    updater.begin_stage(rolls_out=True)
    first, second = samples(policy, 2)
    asked = [policy.encode(s, "Think.") for s in (first, second, replace(first, question="How wide?"))]
    assert asked[0].images == asked[2].images != asked[1].images and asked[0].token_ids != asked[2].token_ids
    with counted(policy) as calls:
        round_trip(policy, updater, asked)
    assert len(calls) == policy.tower.encoded == 2 and policy.tower.unlike == 0


@pytest.mark.parametrize("cache", ["off", "memory", "disk"])
def test_a_second_epoch_costs_nothing_with_a_cache(cache: Any, checkpoints: Callable[[str], Path]) -> None:
    policy = Policy.load(ModelConfig(path=str(checkpoints("llava_onevision")), vision_cache=cache))
    updater, (one, two) = Updater(policy, CONFIG, Accelerator(cpu=True)), prompts(policy, 2)
    with counted(policy) as calls:
        for asked in (one, two, one, two):
            round_trip(policy, updater, [asked])
    assert len(calls) == policy.tower.encoded == (4 if cache == "off" else 2)
    if cache == "disk":
        assert policy.tower.shelf is not None and policy.tower.shelf.folder is not None
        assert {f.stem for f in policy.tower.shelf.folder.iterdir()} == {one.images, two.images}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("family", SEEING)
def test_shared_outputs_change_nothing(family: str, cached: bool, policies: Load, tmp_path: Path) -> None:
    """Log-probabilities and gradients, of the projector above all; `cached`: as read back from disk."""
    policy = fresh(policies, family)
    kind = "tree" if family in TREES else "reference"
    batch = collate(trees(policy, awkward(policy)), policy.pad, kind, policy.answer_types)
    with counted(policy) as calls:
        plain = policy(batch)
        assert len(calls) == 1
        plain.sum().backward()
        expected = grads(policy)
        policy.tower.shelf = Shelf(2**24, tmp_path) if cached else None
        for _ in range(2 if cached else 1):
            policy.tower.step.clear()
            policy.tower.prepare(awkward(policy))
        calls.clear()
        thin = collate(trees(policy, policy.tower.thin(awkward(policy))), policy.pad, kind, policy.answer_types)
        assert {k: v.shape for k, v in thin.vision.items()} == {k: v.shape for k, v in batch.vision.items()}
        assert thin.vision["pixel_values"].untyped_storage().nbytes() <= batch.vision["pixel_values"].nbytes / 16
        shared = policy(thin)
        assert calls == []
    torch.testing.assert_close(shared, plain, atol=1e-5, rtol=0)
    shared.sum().backward()
    ours = grads(policy)
    assert gap(ours, expected) < 1e-5
    for name in expected:
        if "connector" in name or "projector" in name:
            assert ours[name].any() and (ours[name] - expected[name]).norm() <= 1e-4 * expected[name].norm() + 1e-6, name


def test_a_trainable_tower_is_always_run(checkpoints: Callable[[str], Path]) -> None:
    policy = Policy.load(ModelConfig(path=str(checkpoints("llava")), freeze_vision=False, vision_cache="memory"))
    updater, asked = Updater(policy, CONFIG, Accelerator(cpu=True)), prompts(policy, 1)
    batch = collate(trees(policy, asked), policy.pad)
    before = policy(batch).detach()
    round_trip(policy, updater, asked)
    assert policy.tower.encoded == 0 and policy.tower.step == {} and not policy.tower.frozen
    with counted(policy) as calls:
        assert not torch.equal(policy(batch), before)
    assert len(calls) == 1


def test_a_tower_that_begins_to_train_is_not_served_from_before(policies: Load) -> None:
    policy = fresh(policies)
    asked = prompts(policy, 2)
    policy.tower.prepare(asked)
    policy.tower.module.requires_grad_(True)  # type: ignore[union-attr]
    with counted(policy) as calls:
        policy(collate(trees(policy, asked), policy.pad))
        policy.tower.prepare(asked)
        policy.freeze_vision()
        policy(collate(trees(policy, asked), policy.pad))
    assert len(calls) == 2, "what was kept is forgotten"


def test_pixels_stay_where_the_tower_is_to_run(policies: Load) -> None:
    policy = fresh(policies)
    asked = prompts(policy, 2)
    assert policy.tower.thin(asked) == asked, "nothing is known yet"
    policy.tower.prepare(asked)
    assert all(thin.vision["pixel_values"].untyped_storage().nbytes() <= 64 for thin in policy.tower.thin(asked))
    assert policy.tower.thin([*asked, prompts(policy, 3)[2]])[0] is asked[0], "one is not known"
    policy.tower.module.requires_grad_(True)  # type: ignore[union-attr]
    assert policy.tower.thin(asked) == asked, "it trains"


def test_outputs_of_unlike_shapes_are_computed_together(policies: Load) -> None:
    """As LFM2-VL's processor may leave them: patches padded to each picture's own number."""
    policy = fresh(policies, "lfm2_vl")
    wide, small = prompts(policy, 4)[3], prompts(policy, 1)[0]
    cut = {k: v[:, : int(small.vision["pixel_attention_mask"].sum())] if v.shape[1] > 2 else v for k, v in small.vision.items()}
    small = replace(small, vision=cut, images="cut")
    batch = collate(trees(policy, [wide, small]), policy.pad, "rows")
    plain = policy(batch)
    policy.tower.prepare([wide, small])
    with counted(policy) as calls:
        again = policy(batch)
    assert policy.tower.unlike == 1 and len(calls) == 1
    assert torch.equal(again, plain)


def test_a_copy_has_a_model_of_its_own(policies: Load) -> None:
    """As the reference model of the KL term is made; what the frozen tower said is shared."""
    policy = fresh(policies)
    batch = collate(trees(policy, prompts(policy, 2)), policy.pad)
    policy.tower.prepare(prompts(policy, 2))
    other = copy.deepcopy(policy)
    assert other.tower.module is not policy.tower.module and other.tower.model is other.model
    assert other.tower.step is policy.tower.step
    with counted(policy) as calls:
        before = policy(batch).detach()
        assert torch.equal(other(batch), before) and calls == []
        with torch.no_grad():
            for weight in other.parameters():
                if weight.requires_grad:
                    weight += 0.05
        assert torch.equal(policy(batch), before) and not torch.equal(other(batch), before)
        policy.tower.prepare([])
        assert torch.equal(policy(batch), before) and len(calls) == 1
        with torch.no_grad():
            other.tower.module.get_parameter("post_layernorm.weight").zero_()  # type: ignore[union-attr]
        assert torch.equal(policy(batch), before), "each tower runs on its own weights"


# keeping


def outputs(value: float) -> dict[str, torch.Tensor]:
    """100 bytes."""
    return {"last_hidden_state": torch.full((25,), value)}


@pytest.mark.parametrize("disk", [False, True])
def test_the_least_recently_used_leave_first(disk: bool, tmp_path: Path) -> None:
    shelf = Shelf(350, tmp_path if disk else None)
    for k, name in enumerate("abc"):
        shelf.put(name, outputs(float(k)))
    assert shelf.get("a")["last_hidden_state"][0] == 0
    shelf.put("d", outputs(3.0))
    assert shelf.get("b") is None and shelf.size == 300 <= shelf.limit
    assert {name: float(shelf.get(name)["last_hidden_state"][0]) for name in "acd"} == {"a": 0, "c": 2, "d": 3}
    shelf.put("big", {"last_hidden_state": torch.zeros(100)})
    assert shelf.get("big") is None and set(shelf.held) == {"a", "c", "d"}, "what never fits drives nothing out"
    shelf.put("a", outputs(9.0))
    assert shelf.get("a")["last_hidden_state"][0] == 0 and shelf.size == 300
    if disk:
        assert {f.stem for f in tmp_path.iterdir()} == {"a", "c", "d"}


def test_nests_come_back_from_disk_as_they_were(tmp_path: Path) -> None:
    shelf, value = Shelf(2**20, tmp_path), {"hidden_states": (None, torch.ones(2)), "deepstack_features": (torch.zeros(1), torch.ones(1))}
    shelf.put("a", value)
    again = shelf.get("a")
    assert again["hidden_states"][0] is None and torch.equal(again["hidden_states"][1], torch.ones(2))
    assert isinstance(again["deepstack_features"], tuple) and shelf.size == 16


def test_a_model_without_a_tower_has_nothing_to_prepare(policies: Load) -> None:
    assert policies("llama").tower.module is None and not policies("llama").tower.frozen
    policies("llama").tower.prepare(prompts(policies("llama"), 1))
    assert policies("llama").tower.encoded == 0
