"""Weights that are divided among processes: gradients, rollouts, weights and resumed runs are those of one process.

`make test-shard` runs more models and settings, and real launchers.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sharded
import torch
import two_nodes
from accelerate import Accelerator

from dyme.config import Config, TrainConfig
from dyme.errors import ConfigError
from dyme.model.policy import Policy
from dyme.system import launch
from dyme.training import memory, preflight
from dyme.training.placement import sharded as divided
from dyme.training.setup import Host
from dyme.training.update import Updater

Load = Callable[[str], Policy]
TWO = ["trained tower", "no pictures", "lora", "kl in bf16"]
needs_fsdp = pytest.mark.skipif(not two_nodes.DIVIDES, reason="needs torch 2.13")


@pytest.fixture(scope="module")
def found(checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[dict[str, Any]]]:
    out = tmp_path_factory.mktemp("divided")
    place = sharded.models(checkpoints, out / "models", TWO)
    return place, out, sharded.launched(place, out, TWO, 2, 2)


@needs_fsdp
@pytest.mark.parametrize("name", TWO)
def test_two_processes_that_divide_the_weights_equal_one(name: str, found: Any) -> None:
    sharded.agree(name, *found)


@needs_fsdp
def test_two_computers_with_a_copy_each_equal_one_process(found: Any, tmp_path: Path) -> None:
    """Two processes on each, which divide the weights between them."""
    four = sharded.launched(found[0], tmp_path, ["by node"], 4, 2)
    sharded.agree("by node", found[0], tmp_path, four)
    assert "divided among 2 of 4 processes (train.shard = node)" in four[0]["by node"]["notes"][0]


# One process


def test_what_launchers_ask_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate's FSDP is `train.shard = "full"`, and accelerate and transformers do not see it; the others are refused."""
    for name in ("ACCELERATE_USE_FSDP", "DYME_USE_FSDP", "ACCELERATE_USE_DEEPSPEED", "ACCELERATE_USE_MEGATRON_LM"):
        monkeypatch.setenv(name, "false")
    assert not launch.asks_to_shard()
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert launch.asks_to_shard() and "ACCELERATE_USE_FSDP" not in os.environ
    assert launch.asks_to_shard(), "also for a second run of the process"
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(ConfigError, match=r'^DeepSpeed is not supported; .* set train\.shard = "full"'):
        launch.asks_to_shard()


def test_one_process_divides_nothing_and_says_so(policies: Load) -> None:
    notes: list[str] = []
    config = Config(train=TrainConfig(shard="full", precision="fp32"))
    updater = Updater(copy.deepcopy(policies("llama")), config, Accelerator(cpu=True), notes.append)
    assert notes == ["train.shard = full has no effect on one process, which has all weights; start several with torchrun"]
    with updater.policy.whole():
        assert updater.placement.finite()


def test_memory_is_that_of_a_part(policies: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights, gradients and moments are divided; while it samples, a process has the weights whole besides."""
    policy: Any = policies("llama")
    four: Any = SimpleNamespace(num_processes=4, device=torch.device("meta"))  # where the weights are not yet
    plain, divided = Config(train=TrainConfig(precision="fp32")), Config(train=TrainConfig(precision="fp32", shard="full"))
    size = 4 * sum(weight.numel() for weight in policy.parameters())

    def fits(config: Config, copies: float) -> None:
        monkeypatch.setattr(memory, "free_bytes", lambda device: int(copies * size))
        preflight.check_weights(policy, config, four)

    fits(plain, 4.1)
    with pytest.raises(ConfigError, match=r'what helps: model.lora_rank = 16 .*; train\.shard = "full"$'):
        fits(plain, 3.9)
    fits(divided, 2.1)
    with pytest.raises(ConfigError, match="what helps: model.lora_rank = 16"):
        fits(divided, 1.9)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert [preflight.parts_of(Config(train=TrainConfig(shard=by)), four) for by in ("off", "full", "node")] == [1, 4, 2]


def test_what_cannot_be_divided_is_one_line(policies: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    class Trainer(Host):
        divides = False

    preflight.check_host(Trainer(), Config())
    with pytest.raises(ConfigError, match=r"train\.shard = full .* Trainer keeps the whole model on each"):
        preflight.check_host(Trainer(), Config(train=TrainConfig(shard="full")))
    policy = policies("llama")
    with monkeypatch.context() as patched, pytest.raises(ConfigError, match="divides a model by its decoder's layers, and LlamaFor"):
        patched.setattr(divided, "FSDPModule", SimpleNamespace(set_reduce_scatter_unused_params=None))
        patched.setattr(type(policy.model), "get_decoder", lambda self: torch.nn.Linear(1, 1))
        divided.check(policy)
    monkeypatch.setattr(divided, "FSDPModule", object)
    with pytest.raises(ConfigError, match=r"train\.shard needs torch 2\.13 or newer"):
        divided.check(policy)


def test_sizes_in_words() -> None:
    assert [divided.in_words(size) for size in (1, 2**20, 3 * 2**29)] == ["1 MiB", "1 MiB", "1.5 GiB"]
