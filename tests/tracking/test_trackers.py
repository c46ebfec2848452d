"""Trackers: passed what is recorded, in order; one that fails in any way is left out, counted and told, and nothing else notices."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from accelerate import tracking
from runs import ROOT, lines, recipe, small

from dyme.cli.main import main
from dyme.config import Config, RunConfig
from dyme.errors import ConfigError
from dyme.tracking import services, trackers
from dyme.tracking.run_folder import RunFolder
from dyme.tracking.trackers import Reports, Tracker
from dyme.training import loop
from dyme.types import Group, Route, Sample, StepRecord

EXAMPLE = f"{ROOT / 'examples/tracker.py'}:TextFile"
TINY = (
    "task.train_size=8", "task.validation_size=4", "task.test_size=2", "train.prompts_per_step=2", "train.max_prompts=4",
    "rollout.num_generations=2", "rollout.max_completion_length=6", "run.eval_every=1", "run.eval_size=2",
)  # fmt: skip
RESULT = {"metrics": {"think_accuracy": {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4}}}
GROUP, ROUTE = Group(sample=Sample(id="a", question="q", answer="1")), Route(mode="skip")


def record(step: int) -> StepRecord:
    return StepRecord(step=step, prompts=step, epoch=0.5, seconds=1.0, metrics={"loss": 0.25})


class Book(Tracker):
    """Writes down what it is called with."""

    def __init__(self, calls: list[tuple[Any, ...]] | None = None) -> None:
        self.calls: list[tuple[Any, ...]] = [] if calls is None else calls

    def start(self, config: Config, run: RunFolder) -> None:
        self.calls.append(("start", threading.current_thread() is not threading.main_thread()))

    def log_step(self, record: StepRecord) -> None:
        self.calls.append(("step", record.step))

    def log_evaluation(self, step: int, name: str, result: Mapping[str, Any]) -> None:
        self.calls.append(("evaluation", step, name, result["metrics"]["think_accuracy"]["value"]))

    def log_samples(self, step: int, groups: Any, routes: Any) -> None:
        self.calls.append(("samples", step, [group.sample.id for group in groups], len(routes)))

    def finish(self) -> None:
        self.calls.append(("finish",))


class Faulty(Book):
    """Raises in one method."""

    def __init__(self, method: str, error: type[BaseException] = ValueError) -> None:
        super().__init__()

        def fail(*given: Any) -> None:
            raise error("no room\nand more")

        setattr(self, method, fail)


class Slow(Book):
    """Never comes back from one method."""

    def __init__(self, method: str) -> None:
        super().__init__()
        setattr(self, method, lambda *given: threading.Event().wait(30))


class Unmade(Book):
    """Cannot even be made."""

    def __init__(self) -> None:
        raise RuntimeError("not today")


def reported(tmp_path: Path, given: Mapping[str, Any], steps: int = 3) -> tuple[list[str], RunFolder, Reports]:
    """What users are told of trackers during a run of some steps."""
    told: list[str] = []
    folder = RunFolder.create(tmp_path / "run", config := Config(run=RunConfig(report_samples_every=2)))
    with Reports(lambda: given) as reports:
        reports.start(config, folder, told.append)
        for step in range(1, steps + 1):
            reports.log_step(record(step), [GROUP] * 9, [ROUTE] * 9)
        reports.log_evaluation(steps, "test", RESULT)
    return told, folder, reports


def test_a_tracker_gets_everything_in_order(tmp_path: Path) -> None:
    book = Book()
    told, folder, reports = reported(tmp_path, {"book": book})
    assert book.calls == [
        ("start", True), ("step", 1), ("samples", 1, ["a"] * 4, 4), ("step", 2), ("step", 3), ("samples", 3, ["a"] * 4, 4),
        ("evaluation", 3, "test", 0.5), ("finish",),
    ]  # fmt: skip
    assert (told, folder.events(), reports.figures()) == ([], [], {})


def test_trackers_that_fail_are_left_out_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is told once, by an event and a line, and counted."""
    monkeypatch.setattr(trackers, "START_SECONDS", 0.5)
    monkeypatch.setattr(trackers, "FINISH_SECONDS", 0.5)
    good, ends = Book(), Faulty("log_step", SystemExit)
    given = {
        "never starts": Faulty("start"), "cannot be made": Unmade, "good": good, "hangs at the start": Slow("start"),
        "ends the process": ends, "fails on samples": Faulty("log_samples"), "fails on evaluations": Faulty("log_evaluation"),
        "hangs at the end": Slow("finish"), "wrong arguments": type("Wrong", (Book,), {"log_step": lambda self: None}),
    }  # fmt: skip
    told, folder, reports = reported(tmp_path, given)
    assert len(good.calls) == 8 and good.calls[-1] == ("finish",)
    assert ends.calls == [("start", True)], "nothing after its error"
    events = {row["tracker"]: (row["kind"], row["call"], row["error"]) for row in folder.events()}
    assert len(folder.events()) == len(told) == reports.failed == 8
    assert reports.figures() == {"trackers_failed": 8.0}
    assert events["never starts"] == ("tracker_failed", "start", "ValueError: no room")
    assert events["cannot be made"] == ("tracker_failed", "start", "RuntimeError: not today")
    assert events["hangs at the start"][2] == events["hangs at the end"][2] == "it takes longer than 0 seconds"
    assert events["ends the process"] == ("tracker_failed", "log_step", "SystemExit: no room")
    assert events["fails on samples"][1] == "log_samples" and events["fails on evaluations"][1] == "log_evaluation"
    assert "missing" in events["wrong arguments"][2] or "takes 1 positional argument" in events["wrong arguments"][2]
    assert told[0].startswith("tracker never starts failed (start: ValueError: no room)") and "continues without it" in told[0]


def test_a_tracker_that_falls_behind_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "MOST_WAITING", 5)
    monkeypatch.setattr(trackers, "FINISH_SECONDS", 0.5)
    book = Book()
    told, _, _ = reported(tmp_path, {"slow": Slow("log_step"), "good": book}, steps=1)
    assert told == ["tracker slow failed (log_step: it takes longer than 0 seconds); the run continues without it"]
    reports = Reports(lambda: {"slow": Slow("log_step")})
    reports.start(Config(), RunFolder(tmp_path / "run"), told.append)
    for step in range(9):
        reports.log_step(record(step), [], [])
    assert "calls behind" in told[-1] and reports.failed == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tensorbord", "did you mean 'tensorboard'?"),
        ("mlflow", "mlflow is not installed; pip install mlflow"),
        ("comet_ml", "pip install comet-ml"),
        ("nowhere.py:Tracker", "no such file"),
        (f"{__file__}:RESULT", "has no start()"),
        (f"{__file__}:Nothing", "has no 'Nothing'"),
    ],
)
def test_names_that_cannot_be_had_are_one_line_before_any_work(name: str, said: str, tmp_path: Path, capsys: Any) -> None:
    written = recipe(tmp_path / "recipe.toml", {"run": {"output": str(tmp_path / "run"), "report_to": ["tensorboard"]}})
    for words in (["train", str(written)], ["compare", str(written), "--out", str(tmp_path / "out")]):
        assert main([*words, "--run.report_to", name]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and said in error, error
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.toml"]


def test_a_folder_of_a_packages_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "aim").mkdir()  # as W&B makes one where it runs
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="aim is not installed"):
        trackers.check(Config(run=RunConfig(report_to=("aim",))))


def test_none_is_no_tracker_and_only_the_main_process_reports(monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(run=RunConfig(report_to=("none",)))
    trackers.check(config)
    assert services.trackers_of(config) == {}
    config = Config(run=RunConfig(report_to=("tensorboard", EXAMPLE, "tensorboard")))
    assert list(services.trackers_of(config)) == ["tensorboard", EXAMPLE]
    monkeypatch.setenv("RANK", "1")
    assert services.trackers_of(config) == services.trackers_of(config, [Book()]) == {}


def test_what_else_accelerate_knows_gets_figures_and_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Other(tracking.GeneralTracker):
        name, requires_logging_directory, tracker = "mlflow", True, None

        def __init__(self, project: str, folder: str) -> None:
            super().__init__()
            made.extend([project, folder])

        def start(self) -> None:
            made.append("start")

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            made.append(values)

        def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
            made.append((values, step))

        def finish(self) -> None:
            made.append("finish")

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "mlflow", Other)
    told, folder, _ = reported(tmp_path, {"mlflow": services.Service("mlflow")}, steps=1)
    assert told == [] and made[:3] == ["dyme", str(folder.path), "start"] and made[-1] == "finish"
    assert made[3]["method.name"] == "dyme" and made[3]["run.report_to"] == "()" and made[3]["train.learning_rate"] == 8e-5
    assert made[4] == ({"train/epoch": 0.5, "train/prompts": 1, "train/seconds": 1.0, "train/loss": 0.25}, 1)
    assert made[5] == ({"test/think_accuracy": 0.5, "test/think_accuracy_low": 0.25, "test/think_accuracy_high": 0.75}, 1)


@pytest.mark.usefixtures("forked_cells")
def test_a_tracker_of_ones_own_by_train_compare_and_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example, beside a recipe and in Python; a tracker that fails in a real run changes nothing and is counted in its metrics."""
    assert len((ROOT / "examples/tracker.py").read_text().splitlines()) <= 25
    (tmp_path / "tracker.py").write_text((ROOT / "examples/tracker.py").read_text())
    words = [f"--{word}" for word in TINY]
    written = recipe(tmp_path / "recipe.toml", {"run": {"report_to": ["tracker.py:TextFile"]}})
    monkeypatch.chdir(tmp_path.parent)
    assert main(["train", str(written), "--run.output", str(tmp_path / "run"), *words]) == 0
    found = (tmp_path / "run/tracker.txt").read_text().splitlines()
    assert found[0] == "dyme after 0 steps" and found[1].startswith("step 1: reward ")
    assert [line.partition(":")[0] for line in found if "after step" in line] == [
        "eval after step 1",
        "eval after step 2",
        "test after step 2",
    ]
    assert sum("1 pictures" in line for line in found) == 2
    out = tmp_path / "out"
    assert main(["compare", str(written), "--methods", "sft", "--seeds", "0", "--out", str(out), *words, "--run.eval_every=0"]) == 0
    [told] = out.glob("runs/*/tracker.txt")
    assert "test after step 2" in told.read_text() and "sft after 0 steps" in told.read_text()
    book = Book()
    loop.train(small(tmp_path / "python", *TINY, "run.report_to=wandb"), trackers=[Faulty("start"), book])
    assert book.calls[-1] == ("finish",) and len([call for call in book.calls if call[0] == "step"]) == 2
    rows = lines(tmp_path / "python/metrics.jsonl")
    assert [row["metrics"]["trackers_failed"] for row in rows] == [1.0, 1.0]
    assert "wandb" not in sys.modules or not (tmp_path / "python/wandb").exists(), "what is given takes the place of what is named"
