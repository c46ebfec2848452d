"""The methods in examples/, as a user has them: by `dyme train`, by `dyme compare`, from Python; against plain code; resumed bit by bit."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import ROOT, SMALL, recipe, small
from tiny import gap, gradients_of, grads, groups, prompts, row_logprobs

from dyme import plugins
from dyme.cli.main import main
from dyme.config import Config, MethodConfig, RolloutConfig
from dyme.methods import Method, asking
from dyme.model.policy import Policy
from dyme.publishing import card
from dyme.rollout import hf
from dyme.targets import target_text
from dyme.tracking.run_folder import RunFolder
from dyme.training.loop import train

EXAMPLES = ROOT / "examples"


def example(name: str) -> Method[Any]:
    found: Method[Any] = plugins.find(f"{EXAMPLES / name}.py:METHOD", "methods", "test")
    return found


def test_the_example_is_as_short_as_it_is_said_to_be() -> None:
    assert len((EXAMPLES / "focal.py").read_text(encoding="utf-8").splitlines()) <= 45


@pytest.mark.parametrize("factor", [True, False])
def test_the_gradients_are_those_of_plain_code(factor: bool, policies: Callable[[str], Policy]) -> None:
    """GRPO + weight x focal loss on rows, whatever the completions were: a mixed group, one all wrong, one without variance."""
    policy, method, rewards = policies("idefics3").train(), example("focal"), [[1.5, 0.0], [0.0, 0.3], [0.5, 0.5]]
    config = Config(method=MethodConfig(name="focal", settings={"focal": factor}), rollout=RolloutConfig(temperature=0.8))
    asked, answered = prompts(policy, 3), groups(policy, rewards)
    stage, context = method.plan(config)[0], method.context(config, progress=0.25)
    routes = [asking.settle_route(method, stage, asking.ask(method, stage, g, context), g, context, 0.0, 0.0) for g in answered]
    assert [r.mode for r in routes] == ["mixed"] * 3
    ours = gradients_of(policy, config, asked, answered, routes)

    explored, imitated = [], []
    for prompt, group, row in zip(asked, answered, rewards, strict=True):
        r = torch.tensor(row)
        advantage = (r - r.mean()) / (r.std(correction=0) + 1e-4)
        for completion, a in zip(group.completions, advantage, strict=True):
            logprob = row_logprobs(policy.model, prompt, completion.token_ids, 0.8)
            explored.append(-(torch.exp(logprob - logprob.detach()) * a).mean())
        target = row_logprobs(policy.model, prompt, policy.target(target_text(group.sample, "Answer:")))
        imitated.append(-(target * (1 - target.detach().exp()) ** 2 if factor else target).mean())
    value = torch.stack(explored).mean() + 0.4 * torch.stack(imitated).mean()
    value.backward()  # type: ignore[no-untyped-call]
    assert ours.metrics["loss"] == pytest.approx(value.item(), abs=1e-6)
    assert gap(ours.gradients, grads(policy)) < 1e-5


@pytest.mark.parametrize("name", ["focal", "patient"])
def test_a_run_from_python_goes_on_bit_by_bit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after the second step of three, with what the method remembers."""
    method, own = example(name), hf.sample
    words = ["task.train_size=6", "run.save_every=0"]  # prompts come again
    whole = train(small(tmp_path / "whole", *words), method=method)
    calls = iter([False, True, False])

    def interrupted(*args: Any, **known: Any) -> Any:
        if next(calls):
            signal.raise_signal(signal.SIGINT)
        return own(*args, **known)

    monkeypatch.setattr(hf, "sample", interrupted)
    part = small(tmp_path / "part", *words)
    assert train(part, method=method) == tmp_path / "part/checkpoints/step-000002/model"
    final = train(part, method=method, resume=True)
    assert (final / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert (tmp_path / "part/rollouts.jsonl").read_bytes() == (tmp_path / "whole/rollouts.jsonl").read_bytes()
    kept = [json.loads((tmp_path / run / "checkpoints/step-000003/method.json").read_text(encoding="utf-8")) for run in ("whole", "part")]
    assert kept[0] == kept[1] and (name != "patient" or kept[0])
    run = RunFolder.open(tmp_path / "whole")
    assert run.config().method.name == name and run.versions()["method"]["source"] == method.source
    text = card.write(run, whole).read_text(encoding="utf-8")
    assert f"by the method `{name}`" in text and str(EXAMPLES) not in text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder: the example beside a recipe that names it, with a setting of its own."""
    folder = tmp_path_factory.mktemp("user")
    shutil.copy(EXAMPLES / "focal.py", folder)
    small_run = SMALL | {
        "train": {"prompts_per_step": 4, "max_prompts": 4},
        "task": {"train_size": 8, "test_size": 1, "validation_size": 1},
    }
    recipe(folder / "recipe.toml", small_run | {"method": {"name": "focal.py:METHOD", "start": 0.8}})
    return folder


def test_by_the_command_line_from_another_directory(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(folder / "recipe.toml"), "--run.output=run", "--method.end", "0.2"]) == 0
    run = RunFolder.open("run")
    assert run.config().method.settings == {"start": 0.8, "end": 0.2, "focal": True}
    assert {row["mode"] for row in run.rollouts()} == {"mixed"} and {row["reason"] for row in run.rollouts()} == {"imitated at 0.80"}
    assert "<title>focal on charts" in (tmp_path / "run/report.html").read_text(encoding="utf-8")
    (folder / "focal.py").rename(folder / "gone.py")
    monkeypatch.setattr("sys.modules", {k: v for k, v in __import__("sys").modules.items() if not k.startswith("_dyme_plugin_focal")})
    try:
        assert main(["eval", "run", "--samples=1", "--k=0"]) == 0, "a model is evaluated without its method"
        assert main(["train", "--resume", "run"]) == 2, "and not trained on"
    finally:
        (folder / "gone.py").rename(folder / "focal.py")


@pytest.mark.usefixtures("forked_cells")
def test_by_a_comparison_with_settings_of_its_own(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    written = "focal.py:METHOD+method.focal=false"
    out = tmp_path / "out"
    assert main(["compare", "recipe.toml", "--methods", written, "--seeds=0", "--out", str(out)]) == 0
    [cell] = [json.loads(file.read_text(encoding="utf-8")) for file in (out / "cells").glob("*.json")]
    assert cell["arm"] == written
    method = RunFolder.open(out / "runs" / cell["id"]).config().method
    assert (method.settings["focal"], method.settings["start"]) == (False, 0.8), "the recipe's settings of the same method hold too"
    assert "focal.py:METHOD" in (out / "study.md").read_text(encoding="utf-8")


def test_a_fault_shows_before_a_comparison_trains(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.py").write_text(
        (folder / "focal.py").read_text(encoding="utf-8").replace("range(len(group.completions))", "range(9)"), encoding="utf-8"
    )
    words = ["compare", str(folder / "recipe.toml"), "--methods", f"{tmp_path / 'bad.py'}:METHOD", "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "has a branch for completion 4, and the group has 4, counted from 0" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
