"""Evaluation while training changes nothing else, keeps the best model, ends a run that no longer gains, and resumes to the same bits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runs import lines, small, snapshot

from dyme.config import Config
from dyme.errors import ConfigError, DataError, RunError
from dyme.publishing import card
from dyme.tasks import charts
from dyme.tracking.recorder import Recorder
from dyme.tracking.run_folder import RunFolder
from dyme.training import checkpoint, loop, validate

STEPS = 4
TINY = (
    "task.train_size=8", "task.validation_size=10", "train.prompts_per_step=2", f"train.max_prompts={2 * STEPS}", "run.eval_every=1",
    "run.eval_size=6", "rollout.num_generations=2", "rollout.max_completion_length=6",
)  # fmt: skip
GAINS = {1: 0.25, 2: 0.5, 3: 0.5, 4: 0.25}


def script(monkeypatch: pytest.MonkeyPatch, values: Mapping[int, float]) -> list[int]:
    """Have evaluations find these accuracies after the steps; the list gets each step."""
    asked: list[int] = []
    plain = validate.evaluate

    def evaluate(policy: Any, samples: Any, config: Config, *given: Any, **named: Any) -> dict[str, Any]:
        step = len(lines(Path(config.run.output) / "metrics.jsonl"))
        asked.append(step)
        found = plain(policy, samples, config, *given, **named)
        for name in ("think_accuracy", "format_rate"):
            found["metrics"][name]["value"] = values[step]
        return found

    monkeypatch.setattr(validate, "evaluate", evaluate)
    return asked


def evaluations(folder: Path) -> list[dict[str, Any]]:
    return lines(folder / "evaluations.jsonl")


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoints/*"))


def timeless(folder: Path) -> list[dict[str, Any]]:
    rows = lines(folder / "metrics.jsonl")
    return [row | {"seconds": 0, "metrics": {k: v for k, v in row["metrics"].items() if not k.startswith("seconds")}} for row in rows]


def assert_same(one: Path, other: Path) -> None:
    """The same weights, metrics, rollouts, evaluations and best checkpoint, bit by bit."""
    assert timeless(one) == timeless(other)
    for name in ("rollouts.jsonl", "evaluations.jsonl", "best.json"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert snapshot(one / "model") == snapshot(other / "model")
    assert checkpoints(one) == checkpoints(other)
    best = json.loads((one / "best.json").read_text())
    assert snapshot(one / best["model"]) == snapshot(other / best["model"])


def test_evaluations_ask_the_same_items_and_change_nothing(tmp_path: Path) -> None:
    """Dropout draws from the generator of the process: it would show what an evaluation leaves behind."""
    words = (*TINY, "model.lora_rank=2", "model.lora_dropout=0.5", "model.vision_cache=memory", "train.max_prompts=6")
    for name, every in (("with", 1), ("without", 0)):
        loop.train(small(tmp_path / name, *words, f"run.eval_every={every}"))
    assert timeless(tmp_path / "with") == timeless(tmp_path / "without")
    adapters = [snapshot(tmp_path / name / "model")["adapter_model.safetensors"] for name in ("with", "without")]
    assert adapters[0] == adapters[1]
    found = evaluations(tmp_path / "with")
    assert [(row["step"], row["name"]) for row in found] == [(1, "eval"), (2, "eval"), (3, "eval")]
    assert not (tmp_path / "without/evaluations.jsonl").exists()
    assert {row["metrics"]["think_accuracy"]["n"] for row in found} == {6}
    asked = [[example["id"] for example in row["examples"]] for row in found]
    assert asked[0] == asked[1] == asked[2] and len(set(asked[0])) == 6
    assert asked[0] != [sample.id for sample in charts.samples("validation", 10)][:6], "a part, not the head"


def test_the_best_model_becomes_the_final_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, GAINS)
    folder = tmp_path / "run"
    loop.train(small(folder, *TINY, "run.keep_best=model", "run.best_metric=format_rate"))
    assert snapshot(folder / "model")["model.safetensors"] == snapshot(folder / "checkpoints/step-000002/model")["model.safetensors"]
    assert RunFolder(folder).model_step() == 2
    RunFolder(folder).log_evaluation(2, "test", evaluations(folder)[0])
    text = card.write(RunFolder(folder), folder / "model").read_text()
    assert "These are the weights after step 2 of 4." in text and "| test |" in text


def test_a_run_without_a_gain_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = script(monkeypatch, {1: 0.75, 2: 0.5, 3: 0.75})
    config = small(tmp_path / "run", *TINY, "run.patience=2")
    assert loop.train(config) == tmp_path / "run/model"
    assert asked == [1, 2, 3] and len(lines(tmp_path / "run/metrics.jsonl")) == 3
    assert "the run ends after step 3: no evaluation since that of step 1 was better" in lines(tmp_path / "run/events.jsonl")[-1]["message"]
    assert loop.train(config, resume=True) == tmp_path / "run/model" and asked == [1, 2, 3], "it has ended"


class Killed(BaseException):
    """The end of the process, as far as the run folder can tell."""


def evaluated(step: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Killed after an evaluation was recorded, before its checkpoint."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        plain = RunFolder.log_evaluation

        def record(self: RunFolder, at: int, *given: Any) -> None:
            plain(self, at, *given)
            if at == step:
                raise Killed

        monkeypatch.setattr(RunFolder, "log_evaluation", record)

    return patch


def saved(step: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Killed after a checkpoint was complete, before best.json names it."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        plain = checkpoint.name_best

        def keep(run: RunFolder, best: Any) -> None:
            if best and best["step"] == step:
                raise Killed
            plain(run, best)

        monkeypatch.setattr(checkpoint, "name_best", keep)

    return patch


def stepped(step: int) -> Callable[[pytest.MonkeyPatch], None]:
    """Killed after a step was recorded, before its evaluation."""

    def patch(monkeypatch: pytest.MonkeyPatch) -> None:
        plain = Recorder.step

        def recorded(self: Recorder, record: Any, *given: Any) -> None:
            plain(self, record, *given)
            if record.step == step:
                raise Killed

        monkeypatch.setattr(Recorder, "step", recorded)

    return patch


def test_a_run_that_is_killed_around_evaluations_ends_as_if_it_was_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best checkpoint is that of step 2, which save_every would not write and the last one would push out."""
    script(monkeypatch, GAINS)
    words = (*TINY, "run.keep_best=checkpoint", "run.save_every=3", "run.keep_checkpoints=1")
    assert loop.train(small(whole := tmp_path / "whole", *words)) == whole / "model"
    assert checkpoints(whole) == ["step-000002", "step-000004"], "the first of equals, and the last"
    best = {"step": 2, "metric": "think_accuracy", "value": 0.5, "model": "checkpoints/step-000002/model"}
    assert json.loads((whole / "best.json").read_text()) == best
    assert snapshot(whole / "model")["model.safetensors"] == snapshot(whole / "checkpoints/step-000004/model")["model.safetensors"]
    assert RunFolder(whole).model_step() == STEPS
    config = small(tmp_path / "killed", *words)
    for resume, kill in enumerate([evaluated(2), saved(2), stepped(3), evaluated(4)]):
        with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
            kill(patched)
            loop.train(config, resume=bool(resume))
    assert loop.train(config, resume=True) == tmp_path / "killed/model"
    assert_same(tmp_path / "killed", whole)


def test_an_evaluation_that_an_interrupt_left_out_is_made_on_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = script(monkeypatch, GAINS)
    config, folder = small(tmp_path / "run", *TINY, "run.keep_best=checkpoint"), tmp_path / "run"
    data = {"samples": charts.samples("train", 8), "validation": (held := charts.samples("validation", 6))}
    plain = Recorder.step
    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "step", lambda self, *given: (plain(self, *given), given[0].step == 1 and os.kill(os.getpid(), 2)))
        assert loop.train(config, **data) == folder / "checkpoints/step-000002/model"  # type: ignore[arg-type]
    assert asked == [1], "the signal came after step 1 had been counted, and step 2 is saved at once"
    with pytest.raises(RunError, match="began with other validation samples"):
        loop.train(config, samples=data["samples"], validation=[replace(held[0], answer="none"), *held[1:]], resume=True)
    loop.train(config, **data, resume=True)  # type: ignore[arg-type]
    assert asked == [1, 2, 3, 4] and [row["step"] for row in evaluations(folder)] == asked
    assert json.loads((folder / "best.json").read_text())["step"] == 2


def test_what_evaluations_need_is_told_before_training(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run.eval_every needs validation samples"):
        loop.train(small(tmp_path / "run", *TINY), samples=charts.samples("train", 4))
    for word in ("run.keep_best=model", "run.patience=2"):
        with pytest.raises(ConfigError, match="set run.eval_every"):
            loop.train(small(tmp_path / "run", word))
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": "a", "question": "What is 1 + 1?", "answer": "2"}) + "\n")
    with pytest.raises(DataError, match="validation"):
        loop.train(small(tmp_path / "run", *TINY, "task.name=jsonl", f"task.train={tmp_path / 'rows.jsonl'}"))
    assert not (tmp_path / "run/config.json").exists()
