"""A local trackio run, read back: `make test-trackio`, in an environment of its own, since trackio wants a pillow below the newest."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest
from runs import lines, small

from dyme.api import train
from dyme.tracking.display import Display

WORDS = (
    "task.train_size=8", "task.validation_size=4", "task.test_size=2", "train.prompts_per_step=2", "train.max_prompts=8",
    "rollout.num_generations=2", "rollout.max_completion_length=6", "run.eval_every=2", "run.eval_size=2", "run.save_every=2",
    "run.report_to=trackio", "run.report_samples_every=2", "run.project=charts", "run.run_name=small one",
)  # fmt: skip


def test_a_local_trackio_run_holds_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics, evaluations, samples with pictures and settings; the run went back to step 2 as after a kill, and no step is there twice."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    config, folder = small(tmp_path / "run", *WORDS), tmp_path / "run"
    train(config, display=Display.quiet())
    for gone in ("model", "checkpoints/step-000004"):
        shutil.rmtree(folder / gone)
    train(config, resume=True, display=Display.quiet())
    assert [row["kind"] for row in lines(folder / "events.jsonl") if row["kind"] != "note"] == []
    import trackio

    runs = trackio.Api().runs("charts")
    assert [run.name for run in runs] == ["small one"]
    assert runs[0].config["method"]["name"] == "dyme"
    with sqlite3.connect(tmp_path / "trackio/charts.db") as data:
        rows = [(step, json.loads(text)) for step, text in data.execute("SELECT step, metrics FROM metrics ORDER BY id")]
    trained = [(step, values["train/loss"]) for step, values in rows if "train/loss" in values]
    assert trained == [(row["step"], pytest.approx(row["metrics"]["loss"])) for row in lines(folder / "metrics.jsonl")]
    curve = [(step, values["eval/think_accuracy"]) for step, values in rows if "eval/think_accuracy" in values]
    own = [row for row in lines(folder / "evaluations.jsonl") if row["name"] == "eval"]
    assert curve == [(row["step"], row["metrics"]["think_accuracy"]["value"]) for row in own]
    assert any("test/think_accuracy" in values for _, values in rows)
    tables = [values["samples"] for _, values in rows if "samples" in values]
    assert len(tables) == 2 and tables[0]["_type"] == "trackio.table" and tables[0]["_value"][0]["picture"]["_type"] == "trackio.image"
    assert len(list((tmp_path / "trackio/media").rglob("*.png"))) == 4
