"""The examples of rewards, a verifier and a task of one's own, by `dyme train`, by `dyme compare` and from Python."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from llm_server import LLMServer
from runs import ROOT, lines, recipe, small

import dyme
from dyme import plugins
from dyme.cli.main import main
from dyme.report import page
from dyme.training import loop

EXAMPLES = ROOT / "examples"
SMALL = {
    "run": {"save_every": 1},
    "task": {"name": "clocks.py:TASK", "train_size": 8, "test_size": 2, "validation_size": 2},
    "reward": {"functions": ["brevity.py:brief", "judge.py:judge"], "weights": [0.5, 2.0], "concurrency": 4},
    "rollout": {"num_generations": 4, "max_completion_length": 24},
    "train": {"prompts_per_step": 2, "max_prompts": 4, "learning_rate": 1e-3},
}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LLMServer]:
    with LLMServer(facts={"grade": 7}) as one:
        monkeypatch.setenv("JUDGE_URL", one.url)
        yield one


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A recipe with the examples beside it, in a folder that is not the working directory."""
    folder = tmp_path / "own"
    folder.mkdir()
    for name in ("brevity.py", "judge.py", "clocks.py"):
        shutil.copyfile(EXAMPLES / name, folder / name)
    return recipe(folder / "clocks.toml", SMALL)


def weights(model: Path) -> str:
    return hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()


def test_examples_are_as_short_as_they_are_said_to_be() -> None:
    sizes = {name: len((EXAMPLES / name).read_text().splitlines()) for name in ("brevity.py", "clocks.py")}
    assert sizes["brevity.py"] <= 8 and sizes["clocks.py"] <= 40


def test_by_dyme_train_and_from_any_directory(own: Path, server: LLMServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["train", str(own), "--run.output", "run"]) == 0
    run = dyme.RunFolder.open(tmp_path / "here/run")
    for row in run.rollouts():
        for completion in row["completions"]:
            own_part = 0.5 * completion["rewards"]["brief"] + 2.0 * 0.7
            assert completion["rewards"]["judge"] == 0.7 and completion["rewards"].keys() >= {"accuracy", "format", "thinking"}
            shaped = sum(completion["rewards"][name] for name in ("accuracy", "format", "thinking"))
            assert completion["reward"] == pytest.approx(shaped + own_part)
    for step in run.steps():
        assert step.metrics["rewards/judge/mean"] == pytest.approx(0.7) and step.metrics["rewards/judge/failed"] == 0.0
        assert 0 <= step.metrics["rewards/brief/mean"] <= 1
    assert server.count == 4 * 4
    assert all(part["image_url"]["url"].startswith("data:image/png") for r in server.requests for part in r["messages"][0]["content"][1:])
    assert "brief" in Path("run/report.html").read_text(encoding="utf-8")
    held = json.loads(Path("run/config.json").read_text())
    assert held["task"]["name"] == f"{own.parent / 'clocks.py'}:TASK"

    monkeypatch.chdir(tmp_path)
    assert main(["eval", "here/run", "--samples=2", "--k=0", "--prompt=think", "--json", "figures.json"]) == 0
    assert json.loads(Path("figures.json").read_text())["metrics"]["think_accuracy"]["n"] == 2
    before = weights(tmp_path / "here/run/model")
    for name in ("model", "checkpoints/step-000002"):
        shutil.rmtree(tmp_path / "here/run" / name)
    loop.train(replace(run.config(), run=replace(run.config().run, output="here/run")), resume=True)
    assert weights(tmp_path / "here/run/model") == before, "resumed to the same bits"


@pytest.mark.usefixtures("forked_cells")
def test_by_dyme_compare_and_its_child_processes(own: Path, server: LLMServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(own.parent)
    words = ["--methods=grpo", "--seeds=0", "--budget=2prompts", "--task.test_size=1", f"--out={tmp_path / 'compare'}"]
    assert main(["compare", own.name, *words]) == 0
    [row] = [json.loads(file.read_text()) for file in (tmp_path / "compare/cells").glob("*.json")]
    [step] = lines(tmp_path / "compare/runs" / row["id"] / "metrics.jsonl")
    assert step["metrics"]["rewards/judge/mean"] == pytest.approx(0.7) and "rewards/brief/mean" in step["metrics"]
    assert row["prompts"] == 2 and server.count == 2 * 4


def test_from_python(server: LLMServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "write_page", lambda *_: None)  # which takes longer than all the rest
    find = {
        name: plugins.find(f"{EXAMPLES / file}.py:{name}", "rewards", "x") for name, file in {"brief": "brevity", "judge": "judge"}.items()
    }
    clocks: Any = plugins.find(f"{EXAMPLES}/clocks.py:TASK", "tasks", "x")
    config = small(tmp_path / "run", "task.name=jsonl", "train.max_prompts=4", "run.save_every=0", "reward.concurrency=2")
    config = dyme.Config(**{**vars(config), "reward": dyme.RewardConfig(weights=(0.5, 2.0))})
    rows = clocks.load(config.task, "train")[:8]
    quiet = dyme.Display.quiet()
    run = dyme.train(config, samples=rows, rewards=find, verifier=clocks.verifier, display=quiet)
    assert run.config().reward.own == {"brief": 0.5, "judge": 2.0} and run.config().task.verifier == "same_time"
    [step] = run.steps()
    assert step.metrics["rewards/judge/mean"] == pytest.approx(0.7)
    figures = dyme.evaluate(
        run, samples=clocks.load(config.task, "test")[:2], verifier=clocks.verifier, prompts=("direct",), k=0, display=quiet
    )
    assert figures["metrics"]["direct_accuracy"]["n"] == 2
    with pytest.raises(dyme.ConfigError, match="^task.verifier: 'same_time' is not known; .* or give the object itself in Python"):
        dyme.evaluate(run, samples=rows, display=quiet)
    with pytest.raises(dyme.ConfigError, match="'same_time' is not known"):
        dyme.train(run.config(), samples=rows, resume=True, display=quiet)


def test_a_reward_that_always_fails_ends_the_run_in_one_line(tmp_path: Path) -> None:
    def broken(completion: Any, sample: Any, verdict: Any) -> float:
        raise KeyError("no such thing")

    config = small(tmp_path / "run", "train.max_prompts=4")
    with pytest.raises(
        dyme.RunError, match=r"^reward broken failed each of 16 times in the first step: test_own_functions.py, line \d+: Key"
    ):
        dyme.train(config, rewards={"broken": broken}, display=dyme.Display.quiet())
    assert not (tmp_path / "run/metrics.jsonl").exists()
