"""One process of several that divide the weights, run by test_sharded.py: sharded.py CHECKPOINTS OUT CASE..., with torch.distributed's
variables; and the same work on one process, for comparison.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from forked import Child
from routing import route
from safetensors.torch import load_file
from tiny import gap, groups, samples
from torch.distributed.tensor import DTensor
from two_processes import REWARDS

from dyme.config import Config, ModelConfig, ObjectiveConfig, RolloutConfig, TrainConfig
from dyme.model import precision
from dyme.model.policy import Policy, Prompt
from dyme.rollout import hf
from dyme.training.precision.masters import local
from dyme.training.update import Updater
from dyme.types import Sample

STEPS, RATE = 2, 1e-3
ROLLOUT = RolloutConfig(num_generations=3, max_completion_length=7)


@dataclass(frozen=True)
class Case:
    """A model and its settings; `bare`: every second prompt has no picture, so that the second process of two has none."""

    family: str = "idefics3"
    model: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    beta: float = 0.0
    bare: bool = False

    @property
    def half(self) -> bool:
        """Half precision: prompts of other batches get other completions, so that it is held against whole weights on as many processes."""
        return self.train.get("precision") in ("bf16", "fp16")


CASES = {
    "frozen tower": Case(),
    "trained tower": Case(model={"freeze_vision": False}),
    "lora": Case(model={"lora_rank": 4}),
    "kl": Case(beta=0.1),
    "no pictures": Case(bare=True),
    "bf16": Case(train={"precision": "bf16"}),
    "by node": Case(beta=0.1, train={"shard": "node"}),
    "checkpointing": Case(train={"gradient_checkpointing": True}),
    "fp16": Case(train={"precision": "fp16"}),
    "lora in bf16": Case(model={"lora_rank": 4}, train={"precision": "bf16"}, beta=0.1),
    "kl in bf16": Case(train={"precision": "bf16"}, beta=0.1),
} | {family: Case(family) for family in ("qwen2", "llava_onevision", "internvl", "gemma3", "qwen2_5_vl", "qwen3_vl", "qwen3_5")}


def config_of(case: Case, checkpoints: Path) -> Config:
    return Config(
        model=ModelConfig(path=str(checkpoints / case.family), **case.model), rollout=ROLLOUT,
        objective=ObjectiveConfig(beta=case.beta),
        train=TrainConfig(**({"precision": "fp32", "max_tokens_per_batch": 250, "max_grad_norm": 0.05, "shard": "full"} | case.train)),
    )  # fmt: skip


def fresh(config: Config, accelerator: Accelerator) -> Updater:
    """An updater on the checkpoint; an adapter begins with weights that change something."""

    accelerator._optimizers.clear()  # of the updater before, which it would save and load too
    policy = Policy.load(config.model, precision.read(config))
    if config.model.lora_rank:
        generator = torch.Generator().manual_seed(1)
        for weight in policy.parameters():
            if weight.requires_grad:
                weight.data.normal_(0, 0.1, generator=generator)
    updater = Updater(policy, config, accelerator)
    updater.begin_stage(rolls_out=True)
    return updater


def asked(case: Case, policy: Policy) -> list[Prompt]:
    rows: list[Sample] = samples(policy, len(REWARDS))
    return [policy.encode(replace(s, images=()) if case.bare and k % 2 else s, "Think.") for k, s in enumerate(rows)]


def run(case: Case, checkpoints: Path, accelerator: Accelerator, out: Path) -> dict[str, Any]:
    """What the case gives on this process, as plain tensors: rollouts, gradients of the first step, weights after the last, and whether a
    run that is resumed after the first step ends in the same bits.
    """
    config, rank, world = config_of(case, checkpoints), accelerator.process_index, accelerator.num_processes
    notes: list[str] = []

    def share(items: Sequence[Any]) -> list[Any]:
        return list(items[rank::world])

    def rollouts(policy: Policy) -> list[Any]:
        seeds = [hf.seed_of(0, k) for k in range(len(REWARDS))]
        with policy.whole():
            return [[(one.token_ids, one.logprobs) for one in own] for own in hf.sample(policy, prompts, share(seeds), config.rollout)]

    def step(updater: Updater) -> dict[str, float]:
        return updater.step(prompts, own, [route(g, config) for g in own], RATE)

    updater = fresh(config, accelerator)
    if updater.placement.about:
        notes.append(updater.placement.about)
    policy, gradients = updater.policy, {}
    prompts, own = share(asked(case, policy)), share(groups(policy, REWARDS))
    before = rollouts(policy)
    clip = updater.placement.clip

    def watched(limit: float) -> torch.Tensor:
        if not gradients:
            gradients.update({n: plain(w.grad) for n, w in updater.masters.weights.items() if w.grad is not None})
        return clip(limit)

    updater.placement.clip = watched  # type: ignore[method-assign]
    metrics = [step(updater)]
    updater.save(out / "state", out / "model")
    metrics += [step(updater) for _ in range(STEPS - 1)]
    ended = weights_of(updater)
    assert updater.layout is not None
    resident = sum(local(w).nbytes for w in policy.parameters())
    found = {
        "before": before, "gradients": gradients, "metrics": metrics, "weights": ended, "after": rollouts(policy), "notes": notes,
        "layout": updater.layout.layout, "resident": resident, "whole": sum(w.nbytes for w in policy.parameters()),
    }  # fmt: skip
    updater.save(out / "last", out / "final")
    again = fresh(config, accelerator)
    again.load(out / "state")
    for _ in range(STEPS - 1):
        step(again)
    resumed = weights_of(again)
    return found | {"resumed": all(torch.equal(ended[n], resumed[n]) for n in ended)}


def weights_of(updater: Updater) -> dict[str, torch.Tensor]:
    return {name: plain(master) for name, master in updater.masters.weights.items()}


def plain(tensor: torch.Tensor) -> torch.Tensor:
    tensor = tensor.detach()
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).clone()


def models(checkpoints: Callable[[str], Path], place: Path, names: Iterable[str]) -> Path:
    """A folder with the checkpoints of the cases' families by name."""
    place.mkdir()
    for family in {CASES[name].family for name in names}:
        (place / family).symlink_to(checkpoints(family))
    return place


def launched(checkpoints: Path, out: Path, names: Sequence[str], count: int, local: int) -> list[dict[str, dict[str, Any]]]:
    """What the cases give on each of `count` processes, as if `local` of them were on each computer."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = os.environ | {
        "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(local), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, __file__, str(checkpoints), str(out), *names]
    ranks = [
        Child(command, env=shared | {"RANK": str(k), "LOCAL_RANK": str(k % local)}, stderr=subprocess.STDOUT) for k in range(count)
    ]  # fmt: skip
    try:
        for rank in ranks:
            said = rank.communicate(timeout=600)[0]
            assert rank.returncode == 0, said
    finally:
        for rank in ranks:
            rank.kill()
    return [{name: torch.load(out / f"{name}.{k}.pt", weights_only=False) for name in names} for k in range(count)]


def agree(name: str, checkpoints: Path, out: Path, found: Sequence[dict[str, dict[str, Any]]]) -> None:
    """Assert that a case gave on several processes what it gives on one, or in half precision on as many with whole weights."""
    case, world, place = CASES[name], len(found), out / ("whole" if CASES[name].half else "one") / name
    alone = None if case.half else run(case, checkpoints, Accelerator(cpu=True), place)
    for rank, own in enumerate(every[name] for every in found):
        one = alone or own["whole weights"]
        assert own["layout"] == one["layout"] and one["resumed"]
        assert own["gradients"].keys() == one["gradients"].keys()
        distance = gap(own["gradients"], one["gradients"])
        moved = max(float((own["weights"][key] - weight).abs().max()) for key, weight in one["weights"].items())
        share = own["resident"] / own["whole"]
        print(f"{name}, {own['layout']}, process {rank}: gradients {distance:.1e}, weights {moved:.1e}, {share:.2f} of the weights held")
        assert distance < 1e-6
        for figure in ("loss", "grad_norm", "trained_tokens"):
            assert own["metrics"][0][figure] == pytest.approx(one["metrics"][0][figure], rel=1e-5)
        if case.beta:
            assert own["metrics"][0]["kl"] == one["metrics"][0]["kl"] == 0, "the reference is the model of the start"
            assert own["metrics"][-1]["kl"] == pytest.approx(one["metrics"][-1]["kl"], rel=1e-3) != 0
        drifts = (
            case.train.get("precision") == "fp16"
        )  # the mean over processes doubles the scale of the loss: small gradients are rounded finer
        for at in ("before",) if drifts else ("before", "after"):
            expected = one[at][rank::world] if alone else one[at]
            assert [[ids for ids, _ in group] for group in own[at]] == [[ids for ids, _ in group] for group in expected]
        assert moved < (STEPS * RATE if drifts else 1e-5)
        assert own["resumed"], "a resumed run ends in other bits"
        assert own["resident"] < 0.9 * own["whole"] and "divided among" in own["notes"][0]
    file = "adapter_model.safetensors" if "lora_rank" in case.model else "model.safetensors"
    divided, expected = (load_file(folder / "final" / file) for folder in (out / name, place))
    assert {n: t.dtype for n, t in divided.items()} == {n: t.dtype for n, t in expected.items()}
    assert all(
        (divided[n].float() - t.float()).abs().max() <= 1e-5 + t.float().abs().max() * case.half * 2**-8 for n, t in expected.items()
    )
    Policy.load(replace(config_of(case, checkpoints).model, path=str(out / name / "final")))


def main(checkpoints: Path, out: Path, names: Sequence[str]) -> None:
    accelerator = Accelerator(cpu=True)
    for name in names:
        case = CASES[name]
        found = run(case, checkpoints, accelerator, out / name)
        if case.half:
            found["whole weights"] = run(
                replace(case, train={**case.train, "shard": "off"}), checkpoints, accelerator, out / "whole" / name
            )
        torch.save(found, out / f"{name}.{accelerator.process_index}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
