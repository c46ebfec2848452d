"""Divided weights with more models and settings than tests/training/test_sharded.py has, and the launchers that start several processes.

`make test-shard`; some five minutes of a core.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sharded
from runs import ENVIRONMENT, lines, recipe
from vllm_server import VLLMServer

from dyme.tracking.run_folder import RunFolder

ROWS = [{"id": str(k), "question": f"What is {k} + 1?", "answer": str(k + 1), "rationale": f"{k} and 1 make {k + 1}."} for k in range(8)]
SMALL = ["--train.prompts_per_step=4", "--train.max_prompts=8", "--rollout.num_generations=3", "--rollout.max_completion_length=12"]
TWO = [name for name, case in sharded.CASES.items() if case.train.get("shard") != "node"]
RUN = "--run.output=run"
CPU = ENVIRONMENT | {"ACCELERATE_USE_CPU": "true"}


@pytest.fixture(scope="module")
def found(checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[dict[str, Any]]]:
    out = tmp_path_factory.mktemp("divided")
    models = sharded.models(checkpoints, out / "models", sharded.CASES)
    return models, out, sharded.launched(models, out, TWO, 2, 2)


@pytest.mark.parametrize("name", TWO)
def test_two_processes_that_divide_the_weights_equal_one(name: str, found: Any) -> None:
    sharded.agree(name, found[0], found[1], found[2])


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a recipe, and a folder for each of two computers."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    recipe(tmp_path / "recipe.toml", {"task": {"name": "jsonl", "train": "rows.jsonl"}})
    return tmp_path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def agents(place: Path, *words: str) -> list[tuple[int, str]]:
    """Start torchrun on two computers, each in a folder of its own; status and output of each."""
    options = f"--nnodes=2 --nproc-per-node=1 --rdzv-backend=c10d --rdzv-id=1 --rdzv-endpoint=127.0.0.1:{free_port()} -m dyme train".split()
    command = [sys.executable, "-m", "torch.distributed.run", *options, str(place / "recipe.toml"), *SMALL, *words]
    started = [
        subprocess.Popen(command, env=CPU, cwd=place / name, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for name in "ab"
    ]
    try:
        return [(process.wait(), output) for process in started for output in [process.communicate(timeout=300)[0]]]
    finally:
        for process in started:
            process.kill()


def done(place: Path, *words: str, **variables: str) -> tuple[int, str]:
    """Run a Python module in the folder: status and stderr."""
    command = [sys.executable, "-m", *words]
    found = subprocess.run(command, env=CPU | variables, cwd=place, capture_output=True, text=True, timeout=300)
    return found.returncode, found.stderr


def test_two_agents_with_a_shared_folder_equal_one_process(place: Path) -> None:
    shared, alone = place / "run", place / "alone"
    for status, output in agents(place, "--run.output", str(shared), "--train.shard=full"):
        assert status == 0, output
    status, error = done(place, "dyme", "train", "recipe.toml", *SMALL, "--run.output=alone")
    assert status == 0, error
    two, one = lines(shared / "rollouts.jsonl"), lines(alone / "rollouts.jsonl")
    assert [row["completions"] for row in two] == [row["completions"] for row in one] != []
    for mine, expected in zip(RunFolder(shared).steps(), RunFolder(alone).steps(), strict=True):
        assert mine.metrics["loss"] == pytest.approx(expected.metrics["loss"], rel=1e-3)
    assert (shared / "model/model.safetensors").exists()
    assert not any((*(place / "a").iterdir(), *(place / "b").iterdir()))


def test_two_agents_without_one_say_so_in_one_line_each(place: Path) -> None:
    for status, output in agents(place, RUN):
        said = [line for line in output.splitlines() if line.startswith("dyme:")]
        assert status != 0 and len(said) == 1, output
        assert said[0].startswith("dyme: --run.output run: process 1, on ") and "that all computers of the run share" in said[0]
    assert not any((*(place / "a").iterdir(), *(place / "b").iterdir()))


def test_accelerates_fsdp_is_train_shard_full(place: Path) -> None:
    options = ["--use_fsdp", "--fsdp_version=2", "--num_processes=2", "--num_machines=1", "--dynamo_backend=no", "--mixed_precision=no"]
    status, error = done(place, "accelerate.commands.launch", *options, "-m", "dyme", "train", "recipe.toml", *SMALL, RUN)
    assert status == 0, error
    run = RunFolder.open(place / "run")
    assert run.config().train.shard == "full" and (run.checkpoint_dir(2) / "state/shards/.metadata").exists()
    status, error = done(place, "dyme", "train", "--resume", "run")
    assert status == 2 and "its checkpoints need several: start them with torchrun" in error and error.count("\n") == 1


def test_divided_weights_reach_a_vllm_server(place: Path, checkpoints: Callable[[str], Path]) -> None:
    """A stand-in, whose log-probabilities the run compares with its own after each change of the weights; the embeddings are tied."""
    words = [
        "--method.name=grpo",
        "--train.shard=full",
        "--train.learning_rate=1e-2",
        "--rollout.engine=vllm",
        "--train.precision=fp32",
        RUN,
    ]
    with VLLMServer(checkpoints("llama")) as server:
        words += [f"--model.path={server.model}", f"--rollout.url={server.url}", "--run.eval_every=1", "--run.eval_size=2"]
        launch = ["torch.distributed.run", "--nproc-per-node=2", f"--master-port={free_port()}"]
        status, error = done(place, *launch, "-m", "dyme", "train", "recipe.toml", *SMALL, *words)
    assert status == 0, error
    metrics = [step.metrics for step in RunFolder.open(place / "run").steps()]
    assert len(metrics) == 2 and len(set(server.loaded)) >= 2
    assert all(one["sampling_gap_max"] < 1e-4 for one in metrics if "sampling_gap_max" in one)


def test_deepspeed_is_one_line(place: Path) -> None:
    status, error = done(place, "dyme", "train", "recipe.toml", *SMALL, RUN, ACCELERATE_USE_DEEPSPEED="true")
    assert status == 2 and error.count("\n") == 1
    assert error.startswith("dyme: DeepSpeed is not supported") and 'train.shard = "full"' in error
