"""Rollouts by a server: the weights' way to it, the comparison after each change, and one line for each way in which it can be wrong.

The server here is a stand-in with a real model (`support/vllm_server.py`); `make test-vllm` meets the real one.
"""

from __future__ import annotations

import io
import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from families import checkpoint
from rich.console import Console
from runs import lines, run, small
from vllm_server import VLLMServer

from dyme.config import Config
from dyme.errors import ConfigError, DymeError, ModelError, RunError
from dyme.evaluation.items import Plan
from dyme.evaluation.run import run_evaluation
from dyme.rollout.vllm import served
from dyme.rollout.vllm.command import command
from dyme.rollout.vllm.server import Server, ServerGone
from dyme.tracking.display import Display
from dyme.training.loop import train
from dyme.training.loss import correction, mismatch
from dyme.types import Completion, Sample

ROWS = [Sample(id=str(k), question=f"What is {k} and {k}?", answer=str(2 * k), rationale=f"It is {k} + {k}.") for k in range(8)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoint("llama", tmp_path_factory.mktemp("vllm") / "model")


@pytest.fixture
def server(model: Path) -> Iterator[VLLMServer]:
    with VLLMServer(model) as running:
        yield running


def recipe(server: VLLMServer, output: Path, *words: str) -> Config:
    """Three steps of a text model whose rewards differ by chance."""
    return small(
        output, f"model.path={server.model}", "task.name=jsonl", "method.name=grpo", "train.learning_rate=1e-2", "train.precision=fp32",
        "reward.functions=tests/rollout/test_vllm.py:length", "rollout.engine=vllm", f"rollout.url={server.url}",
        "rollout.max_completion_length=8", "run.save_every=0", *words,
    )  # fmt: skip


def length(completion: Completion, sample: Sample, verdict: Any) -> float:
    """A reward that random weights can earn."""
    return len(completion.text) / 100


def test_a_run_samples_with_the_weights_of_each_step(server: VLLMServer, tmp_path: Path) -> None:
    train(recipe(server, tmp_path / "run", "rollout.num_generations=4"), samples=ROWS)
    rows = [row["metrics"] for row in lines(tmp_path / "run/metrics.jsonl")]
    assert len(rows) == 3 and len(server.loaded) == len(set(server.loaded)) == 3
    assert all(0 < row["sampling_gap"] <= row["sampling_gap_max"] < 1e-4 for row in rows)
    assert all(row["sampling_clipped"] == 0 and row["grad_norm"] > 0 for row in rows)
    asked = [body["sampling_params"] for body in server.asked]
    assert sum(one["n"] == 4 and one["max_tokens"] == 8 for one in asked) == 12, "one request a prompt"
    assert sum(one["n"] == served.PROBE["n"] and "logit_bias" not in one for one in asked) == 3, "one comparison a change of the weights"
    assert all(body["token_ids"][-1] != body["token_ids"][0] for body in server.asked)
    assert not Path(server.loaded[0]).exists(), "weights of a step go with the next"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"developing": False}, "start it again with VLLM_SERVER_DEV_MODE=1"),
        ({"mode": "processed_logprobs"}, "this recipe needs raw_logprobs; start it again with --logprobs-mode raw_logprobs"),
        ({"name": "another/model"}, "serves another/model, not 'policy'"),
        ({"takes_tokens": False}, "start it again with --enable-scale-out"),
        ({"reads": lambda ids: [*ids, ids[-1]]}, r"reads a prompt of \d+ tokens as \d+ others"),
        ({"deaf": True}, "does not compute what the model does: log-probabilities are apart by"),
    ],
    ids=["no dev mode", "mode", "name", "no tokens", "other tokens", "stale"],
)
def test_a_wrong_server_is_one_line(change: dict[str, Any], said: str, server: VLLMServer, tmp_path: Path) -> None:
    for name, value in change.items():
        setattr(server, name, value)
    with pytest.raises(DymeError, match=said) as caught:
        train(recipe(server, tmp_path / "run"), samples=ROWS)
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there(server: VLLMServer, tmp_path: Path) -> None:
    config = recipe(server, tmp_path / "run")
    server.stop()
    with pytest.raises(ServerGone, match=r"no vLLM server answers at http://127.0.0.1:\d+ .*; start it with: dyme serve RECIPE"):
        train(config, samples=ROWS)
    assert not (tmp_path / "run").exists(), "nothing begins"
    with pytest.raises(ConfigError, match="'127.0.0.1:80' is not the address of a server"):
        Server("127.0.0.1:80")


def dying(server: VLLMServer, at: int, then: Callable[[], object] = lambda: None) -> None:
    """Let the server end as request `at` for completions arrives."""

    def before(count: int) -> None:
        if count == at:
            threading.Thread(target=server.stop).start()
            then()
            raise ConnectionAbortedError

    server.before = before


def test_a_server_that_goes_saves_the_run_which_resumes(server: VLLMServer, model: Path, tmp_path: Path) -> None:
    dying(server, at=8)  # the second step's: each step has four prompts and a comparison
    with pytest.raises(RunError, match=r"no vLLM server answers.*; the run is saved; go on with: dyme train --resume"):
        train(recipe(server, tmp_path / "run"), samples=ROWS)
    assert [row["step"] for row in lines(tmp_path / "run/metrics.jsonl")] == [1]
    with VLLMServer(model, server.port) as again:
        train(recipe(server, tmp_path / "run"), samples=ROWS, resume=True)
    assert [row["step"] for row in lines(tmp_path / "run/metrics.jsonl")] == [1, 2, 3]
    assert len(again.loaded) == 2, "it got the weights of the checkpoint first"


def test_a_run_waits_for_a_server_that_is_started_again(server: VLLMServer, model: Path, tmp_path: Path) -> None:
    started: list[VLLMServer] = []

    def later() -> None:
        def start() -> None:
            time.sleep(0.3)
            started.append(VLLMServer(model, server.port).__enter__())

        threading.Thread(target=start).start()

    dying(server, at=8, then=later)
    output = io.StringIO()
    display = Display(Console(file=output, width=400))
    train(recipe(server, tmp_path / "run", "rollout.wait_seconds=60"), samples=ROWS, display=display)
    assert [row["step"] for row in lines(tmp_path / "run/metrics.jsonl")] == [1, 2, 3]
    assert server.loaded[-1] == started[0].loaded[0], "the weights of the step in which it went"
    assert "waiting up to 60 s for it" in output.getvalue() and "answers again and has the weights of this run" in output.getvalue()
    assert all(row["metrics"]["sampling_gap_max"] < 1e-4 for row in lines(tmp_path / "run/metrics.jsonl"))
    started[0].stop()


def test_an_evaluation_asks_the_same_server(server: VLLMServer, tmp_path: Path) -> None:
    config = recipe(server, tmp_path / "run")
    asked = run_evaluation(config, ROWS[:3], Plan(prompts=("think",), k=2))
    here = run_evaluation(replace(config, rollout=replace(config.rollout, engine="hf")), ROWS[:3], Plan(prompts=("think",), k=2))
    assert [item["completion"] for item in asked["examples"]] == [item["completion"] for item in here["examples"]]
    assert server.asked and len(server.loaded) == 1


def test_importance_weights_are_cut_above_and_one_where_nothing_is_known() -> None:
    own, said = torch.tensor([-1.0, -1.0, -1.0, -2.0]), torch.tensor([-1.0, -4.0, math.nan, -1.0])
    assert torch.allclose(correction(own, said, 2.0), torch.tensor([1.0, 2.0, 1.0, math.exp(-1)]))
    assert torch.equal(correction(own, said, 0.0), torch.ones(4))
    assert mismatch(own, said, 2.0).tolist() == [4.0, 3.0, 1.0, 3.0]
    assert mismatch(own, torch.full((4,), math.nan), 2.0).tolist() == [0.0, 0.0, 0.0, 0.0]


def test_the_command_that_starts_a_server(model: Path, tmp_path: Path) -> None:
    config = small(tmp_path, f"model.path={model}", "rollout.url=http://127.0.0.1:8471", "rollout.temperature=0.8", "model.lora_rank=10")
    variables, words = command(config, "python")
    pairs = dict(zip(words, words[1:], strict=False))
    assert variables == {"VLLM_SERVER_DEV_MODE": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
    assert (pairs["--model"], pairs["--host"], pairs["--port"], pairs["--max-lora-rank"]) == (str(model), "127.0.0.1", "8471", "16")
    assert pairs["--logprobs-mode"] == "processed_logprobs" and "--mm-processor-kwargs" not in words
    seeing = checkpoint("idefics3", tmp_path / "idefics3")
    _, words = command(small(tmp_path, f"model.path={seeing}", "model.image_longest_edge=32"), "python")
    told = dict(zip(words, words[1:], strict=False))["--mm-processor-kwargs"]
    assert told == '{"backend": "pil", "size": {"longest_edge": 32}}'
    with pytest.raises(ModelError, match="model.path is embedded, whose architecture vLLM does not know"):
        command(small(tmp_path), "python")


def test_serve_prints_a_line_that_a_shell_can_run(model: Path, tmp_path: Path) -> None:
    status, out, err = run("serve", "charts-dyme", f"--model.path={model}", "--args=--max-model-len 512", cwd=tmp_path)
    assert (status, err) == (0, "") and out.startswith("VLLM_SERVER_DEV_MODE=1 python -m vllm.entrypoints.openai.api_server --model ")
    assert out.endswith("--max-model-len 512\n") and out.count("\n") == 1
    status, _, err = run("serve", "charts-dyme", f"--model.path={model}", "--python=no/such/python", cwd=tmp_path)
    assert status == 2 and "--python no/such/python: no such program" in err
