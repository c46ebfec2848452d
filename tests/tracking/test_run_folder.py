"""The run folder: written strictly, read tolerantly, and free of gaps and repeats after a resume."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from dyme.config import Config, RunConfig
from dyme.errors import RunError
from dyme.tasks import charts
from dyme.tracking import run_folder as record
from dyme.tracking.run_folder import RunFolder, image_name
from dyme.types import Branch, Completion, Group, Route, Sample, StepRecord, Verdict


@dataclass(frozen=True)
class Plain:
    key: str
    size: tuple[int, int] = (8, 8)

    def load(self) -> Image.Image:
        return Image.new("RGB", self.size, "white")


def group(sample: Sample, *correct: bool) -> Group:
    return Group(
        sample=sample,
        completions=tuple(Completion(text=f"so Answer: {c}", token_ids=(5, 6, 7)) for c in correct),
        verdicts=tuple(Verdict(parsed=True, correct=c, answer=str(c), thinking="so", rewards={"accuracy": c}, reward=c) for c in correct),
    )


def step_record(step: int, **metrics: float) -> StepRecord:
    return StepRecord(step=step, prompts=4 * step, epoch=step / 10, seconds=1.5, metrics=metrics)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", Config(run=RunConfig(seed=7)), {"hardware": "a CPU"})


def test_create_and_open(run: RunFolder) -> None:
    assert RunFolder.open(run.path).config() == Config(run=RunConfig(seed=7))
    versions = run.versions()
    assert versions["hardware"] == "a CPU"
    assert versions["python"] and versions["platform"] and versions["torch"] and versions["command"] == sys.argv
    assert not list(run.path.glob(".*")), "no temporary file is left"


def test_an_empty_folder_is_fine_a_used_one_is_not(tmp_path: Path, run: RunFolder) -> None:
    (tmp_path / "empty").mkdir()
    RunFolder.create(tmp_path / "empty", Config())
    before = (run.path / "config.json").read_bytes()
    with pytest.raises(RunError, match="already holds files; choose another --run.output, or continue a run with --resume"):
        RunFolder.create(run.path, Config())
    assert (run.path / "config.json").read_bytes() == before


def test_a_file_in_the_way_is_a_run_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="no folder can be made in"):
        RunFolder.create(tmp_path / "file" / "run", Config())


def test_open_refuses_other_folders(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a run folder"):
        RunFolder.open(tmp_path)


def test_steps_round_trip_with_strict_json(run: RunFolder) -> None:
    run.log_step(step_record(1, loss=math.nan, ratio=math.inf, reward=0.5))
    run.log_step(step_record(2, loss=0.25))
    first = (run.path / "metrics.jsonl").read_text().splitlines()[0]
    assert json.loads(first, parse_constant=pytest.fail)["metrics"] == {"loss": None, "ratio": None, "reward": 0.5}
    steps = run.steps()
    assert math.isnan(steps[0].metrics["loss"]) and steps[0].metrics["reward"] == 0.5
    assert steps[1] == step_record(2, loss=0.25)


def test_rollout_rows_hold_what_the_brief_names(run: RunFolder) -> None:
    sample = charts.samples("train", 1, traces="high")[0]
    route = Route(mode="explore", branches=(Branch(term="policy", completion=1, advantage=-0.5),), reason="1 of 2 right")
    run.log_rollouts(3, [group(sample, True, False)], [route])
    (row,) = run.rollouts()
    assert (row["step"], row["id"], row["question"], row["answer"], row["kind"]) == (
        3, sample.id, sample.question, sample.answer, sample.kind,
    )  # fmt: skip
    assert row["images"] == [sample.images[0].key] and row["rationale"] == sample.rationale
    assert row["facts"] == [[fact.subject, fact.value] for fact in sample.facts]
    assert (row["mode"], row["reason"]) == ("explore", "1 of 2 right")
    right, wrong = row["completions"]
    assert (right["text"], right["tokens"], right["parsed"], right["correct"]) == ("so Answer: True", 3, True, True)
    assert right["rewards"] == {"accuracy": True} and right["advantage"] is None and wrong["advantage"] == -0.5


def test_a_memorized_target_gives_no_completion_an_advantage(run: RunFolder) -> None:
    sample = Sample(id="s", question="?", answer="1")
    run.log_rollouts(1, [group(sample, False)], [Route(mode="memorize", branches=(Branch(term="imitate"),))])
    assert next(run.rollouts())["completions"][0]["advantage"] is None


def test_groups_and_routes_must_match(run: RunFolder) -> None:
    with pytest.raises(ValueError, match="zip"):
        run.log_rollouts(1, [group(Sample(id="s", question="?", answer="1"))], [])


def test_any_text_survives(run: RunFolder) -> None:
    text = "line\nline\u2028\u2029\x00\ud800 </script> é"
    sample = Sample(id="s", question=text, answer=text, images=(Plain(key=text),))
    run.log_rollouts(1, [group(sample)], [Route(mode="skip")])
    run.log_event("warning", text=text)
    assert next(run.rollouts())["question"] == text
    (event,) = run.events()
    assert event["text"] == text and event["kind"] == "warning" and event["time"]


def test_evaluations(run: RunFolder) -> None:
    result = {"metrics": {"think_accuracy": {"value": 0.5, "low": 0.4, "high": math.nan, "n": 10}}}
    run.log_evaluation(6, "test", result)
    (row,) = run.evaluations()
    assert (row["step"], row["name"], row["metrics"]["think_accuracy"]["high"]) == (6, "test", None)


def test_an_image_is_stored_once_and_small(run: RunFolder) -> None:
    wide = Plain(key="wide", size=(1000, 10))
    name = run.store_image(wide)
    assert name == image_name("wide") and name.startswith("images/")
    with Image.open(run.path / name) as picture:
        assert picture.size[0] == record.IMAGE_EDGE and picture.format == "PNG"
    stamp = (run.path / name).stat().st_mtime_ns
    assert run.store_image(wide) == name and (run.path / name).stat().st_mtime_ns == stamp


def test_images_stay_few_and_spread_over_the_run(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "IMAGE_LIMIT", 12)
    monkeypatch.setattr(record, "_IMAGES_PER_STEP", 2)
    for step in range(1, 41):
        if step == 25:  # resume
            run = RunFolder.open(run.path)
        samples = [Sample(id=f"{step}.{k}", question="?", answer="1", images=(Plain(key=f"{step}.{k}"),)) for k in range(3)]
        run.log_rollouts(step, [group(s) for s in samples], [Route(mode="skip")] * 3)
        assert len(list((run.path / "images").iterdir())) <= 12
    shown = sorted({row["step"] for row in run.rollouts() if (run.path / image_name(row["images"][0])).exists()})
    assert shown[0] == 1 and shown[-1] > 30 and 3 <= len(shown) <= 6
    assert len({b - a for a, b in zip(shown, shown[1:], strict=False)}) == 1, "evenly spaced"


def test_readers_pass_over_a_half_written_last_line(run: RunFolder) -> None:
    run.log_step(step_record(1))
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "pro')
    assert [r.step for r in run.steps()] == [1]


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(run: RunFolder) -> None:
    run.log_event("one")
    with (run.path / "events.jsonl").open("a") as file:
        file.write("broken\n")
    run.log_event("three")
    with pytest.raises(RunError, match="events.jsonl, line 2"):
        run.events()


def test_truncate_leaves_neither_gaps_nor_repeats(run: RunFolder) -> None:
    sample = Sample(id="s", question="?", answer="1")

    def train(first: int, last: int) -> None:
        for step in range(first, last + 1):
            run.log_rollouts(step, [group(sample), group(sample)], [Route(mode="skip")] * 2)
            run.log_step(step_record(step))
            if step % 2 == 0:
                run.log_evaluation(step, "validation", {"metrics": {}})

    train(1, 7)
    run.log_event("stopped")
    for name in ("metrics.jsonl", "rollouts.jsonl", "events.jsonl"):
        with (run.path / name).open("a") as file:
            file.write('{"step": 3, "half')
    run = RunFolder.open(run.path)
    run.truncate(4)
    assert [e["kind"] for e in run.events()] == ["stopped"]
    train(5, 8)
    run.log_event("done")
    assert [r.step for r in run.steps()] == list(range(1, 9))
    assert [row["step"] for row in run.rollouts()] == [s for s in range(1, 9) for _ in range(2)]
    assert [e["step"] for e in run.evaluations()] == [2, 4, 6, 8]
    assert [e["kind"] for e in run.events()] == ["stopped", "done"]


def test_only_complete_checkpoints_count(run: RunFolder) -> None:
    assert run.latest_checkpoint() is None
    for step in (50, 100, 150):
        run.checkpoint_dir(step).mkdir(parents=True)
    run.mark_complete(50)
    run.mark_complete(100)
    assert run.checkpoint_dir(100).name == "step-000100"
    assert run.latest_checkpoint() == (100, run.checkpoint_dir(100))


def test_a_reader_that_meets_an_unknown_setting_still_shows_it(run: RunFolder) -> None:
    tree = run.settings()
    tree["run"]["from_the_future"] = 1
    (run.path / "config.json").write_text(json.dumps(tree))
    assert run.settings()["run"]["from_the_future"] == 1
    with pytest.raises(ValueError, match="from_the_future"):
        run.config()


def test_record_and_report_import_no_torch() -> None:
    code = "import sys, dyme.report.page, dyme.comparison.findings; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
