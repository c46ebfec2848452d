"""TensorBoard's event files and the folder of an offline W&B run, read back: figures, evaluations, samples with pictures, settings.

trackio has an environment of its own (tests/real/trackio_run.py), since it wants an older pillow than the newest.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
import wandb_file
from runs import lines, small
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dyme.api import train
from dyme.tracking.display import Display
from dyme.tracking.services import Kept
from dyme.training import loop

WORDS = (
    "task.train_size=8", "task.validation_size=4", "task.test_size=2", "train.prompts_per_step=2", "train.max_prompts=8",
    "rollout.num_generations=2", "rollout.max_completion_length=6", "run.eval_every=2", "run.eval_size=2", "run.save_every=2",
    "run.report_to=tensorboard,wandb", "run.report_samples_every=2", "run.project=charts", "run.run_name=small one",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was reported to both, went back to step 2 as after a kill, and went on to its end."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("WANDB_MODE", "offline")
        patched.setenv("WANDB_SILENT", "true")
        patched.setenv("WANDB_DATA_DIR", str(tmp_path_factory.mktemp("staged")))
        config = small(tmp_path_factory.mktemp("services") / "run", *WORDS)
        loop.train(config)
        folder = Path(config.run.output)
        for gone in ("model", "checkpoints/step-000004"):
            shutil.rmtree(folder / gone)
        train(config, resume=True, display=Display.quiet())
    assert [row["kind"] for row in lines(folder / "events.jsonl") if row["kind"] != "note"] == []
    return folder


def test_tensorboard_event_files_hold_the_run(folder: Path) -> None:
    found = EventAccumulator(str(folder / "tensorboard"), size_guidance={"images": 0, "tensors": 0}).Reload()
    rows, evaluations = lines(folder / "metrics.jsonl"), lines(folder / "evaluations.jsonl")
    for name in ("loss", "reward", "share_memorize"):
        scalars = found.Scalars(f"train/{name}")
        assert [event.step for event in scalars] == [1, 2, 3, 4], "what came anew has taken the place of what was"
        assert [event.value for event in scalars] == pytest.approx([row["metrics"][name] for row in rows])
    for name, steps in (("eval", [2, 4]), ("test", [4])):
        own = [row for row in evaluations if row["name"] == name]
        for metric, key in (("think_accuracy", "value"), ("think_accuracy_low", "low"), ("direct_accuracy_high", "high")):
            scalars = found.Scalars(f"{name}/{metric}")
            assert [event.step for event in scalars] == steps == [row["step"] for row in own]
            figures = [row["metrics"][metric.replace("_low", "").replace("_high", "")][key] for row in own]
            assert [event.value for event in scalars] == pytest.approx(figures)
    images = found.Images("samples/picture 1")
    assert [event.step for event in images] == [1, 3] and images[0].encoded_image_string.startswith(b"\x89PNG")
    text = found.Tensors("samples/text_summary")[0].tensor_proto.string_val[0].decode()
    rollout = lines(folder / "rollouts.jsonl")[0]
    assert rollout["id"] in text and rollout["question"] in text and text.count("\n") == 1 + 2 * 2
    assert '"project": "charts"' in found.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()


def test_an_offline_wandb_folder_holds_the_run(folder: Path) -> None:
    parts = sorted(folder.glob("wandb/offline-run-*"))
    files = [next(part.glob("run-*.wandb")) for part in parts]
    kept = Kept(folder / "trackers/wandb.json", {})
    for file in files:
        identity, project, name, settings = wandb_file.run(file)
        assert (identity, project, name) == (kept.run["id"], "charts", "small one")
        assert settings["run"]["report_to"] == ["tensorboard", "wandb"] and settings["method"]["name"] == "dyme"
    rows = [row for file in files for row in wandb_file.history(file)]
    trained = [row for row in rows if "train/loss" in row]
    assert [row["_step"] for row in trained] == [1, 2, 3, 4], "none is reported twice"
    assert [row["train/loss"] for row in trained] == pytest.approx([row["metrics"]["loss"] for row in lines(folder / "metrics.jsonl")])
    curve = [(row["_step"], row["eval/think_accuracy"]) for row in rows if "eval/think_accuracy" in row]
    evaluations = lines(folder / "evaluations.jsonl")
    assert curve == [(row["step"], row["metrics"]["think_accuracy"]["value"]) for row in evaluations if row["name"] == "eval"]
    assert [row["test/direct_accuracy_low"] for row in rows if "test/direct_accuracy_low" in row] != []
    tables = [json.loads(file.read_text()) for part in parts for file in sorted(part.glob("files/media/table/*.json"))]
    assert len(tables) == 2 and tables[0]["columns"][:3] == ["picture", "id", "question"] and len(tables[0]["data"]) == 4
    assert {row[0] for row in tables[0]["data"]} == {"Image"}, "the pixels are in the table's artifact, and in the files of the run:"
    assert len(list(folder.glob("wandb/offline-run-*/files/media/images/samples/*.png"))) == 4


def test_a_run_that_is_open_already_is_used_and_left_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(project="mine", dir=str(tmp_path)) as mine:
        config = small(
            tmp_path / "run", *WORDS, "run.report_to=wandb", "run.eval_every=0", "train.max_prompts=2", "run.report_samples_every=0"
        )
        loop.train(config)
        assert wandb.run is mine
        mine.log({"after": 1.0})
    file = next(tmp_path.glob("wandb/offline-run-*/run-*.wandb"))
    deadline = time.monotonic() + 10
    while not (rows := wandb_file.history(file)) and time.monotonic() < deadline:  # W&B's own process writes it
        time.sleep(0.1)
    assert any("train/loss" in row for row in rows) and rows[-1]["after"] == 1.0
