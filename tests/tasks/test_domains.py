"""Every domain from its published data to figures, by the commands a user types: prepare, diagnose, train (30 steps of DyME), eval.

Real rows where the workplace has them, else rows written here in the published layouts; models of two families with random weights,
which learn nothing in 30 steps: what is tested is the way, not the end of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import published
import pytest
from runs import ROOT

from dyme.cli.main import main
from dyme.report import page
from dyme.tracking.run_folder import RunFolder

SAMPLES = ROOT.parent / "shared/data"
SEEING, READING = ("idefics3", "llava_onevision"), ("llama", "qwen2")
REAL = [
    (task, data, family)
    for task, data in (("chartqa", "chartqa"), ("vqa_rad", "vqa_rad"), ("geometry", "geometry3k"), ("tabmwp", "tabmwp"), ("gsm8k", "gsm8k"))
    for family in (READING if task == "gsm8k" else SEEING)
]
WRITTEN = [("slake", published.slake), ("aokvqa", published.aokvqa), ("geometry", published.geo170k)]
QUICK = ("--rollout.max_completion_length=4", "--rollout.num_generations=2", "--model.freeze_vision=true")


@pytest.fixture(autouse=True)
def pageless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have tests of their own."""
    monkeypatch.setattr(page, "write_page", lambda run, out=None: run / "report.html")


def call(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def the_whole_way(task: str, source: Path, model: Path, folder: Path, test: Path | None = None) -> dict[str, Any]:
    """Prepare, diagnose, train 30 steps of one prompt, evaluate; the figures of the last."""
    data = folder / "data"
    call("prepare", task, "--from", source, "--out", data, "--limit", 12)
    own = ("--task.name", task, "--task.path", data, *QUICK)
    call("diagnose", model, *own, "--split", "train", "--samples", 2, "--k", 2)
    run = folder / "run"
    words = ("--run.output", run, "--model.path", model, "--train.prompts_per_step=1", "--train.max_prompts=30", "--task.test_size=2")
    call("train", "charts-dyme", *own, *words)
    steps = RunFolder.open(run).steps()
    assert len(steps) == 30 and all(math.isfinite(step.metrics["loss"]) for step in steps)
    assert {step.metrics["share_memorize"] + step.metrics["share_explore"] + step.metrics["share_skip"] for step in steps} == {1.0}
    if test:
        call("prepare", task, "--from", test, "--out", folder / "test", "--limit", 12)
    split = "test" if test or (data / "test.jsonl").exists() else "validation"
    place = ("--task.path", folder / "test") if test else ()
    call("eval", run, *place, "--split", split, "--task.test_size=4", "--k", 0, "--json", folder / "figures.json")
    figures: dict[str, Any] = json.loads((folder / "figures.json").read_text(encoding="utf-8"))
    return figures


@pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"{SAMPLES} is not there: rows of the data sets are not shipped with the project")
@pytest.mark.parametrize(("task", "data", "family"), REAL)
def test_real_rows(task: str, data: str, family: str, tmp_path: Path, checkpoints: Callable[[str], Path]) -> None:
    test = SAMPLES / "mathverse" if data == "geometry3k" else None
    figures = the_whole_way(task, SAMPLES / data, checkpoints(family), tmp_path, test)
    assert figures["task"] == task and figures["metrics"]["think_accuracy"]["n"] == figures["metrics"]["direct_accuracy"]["n"] == 4


@pytest.mark.parametrize("family", SEEING)
@pytest.mark.parametrize(("task", "write"), WRITTEN)
def test_published_layouts(
    task: str, write: Callable[[Path], Path], family: str, tmp_path: Path, checkpoints: Callable[[str], Path]
) -> None:
    figures = the_whole_way(task, write(tmp_path / "published"), checkpoints(family), tmp_path)
    assert figures["task"] == task and figures["metrics"]["direct_accuracy"]["n"] > 0
