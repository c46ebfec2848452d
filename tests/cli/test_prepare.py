"""`dyme prepare`: what it says, what it makes, and wrong use in one line."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import published
import pytest
from runs import ROOT, run

from dyme.cli.common import with_task
from dyme.cli.main import main
from dyme.config import TaskConfig
from dyme.recipe import build
from dyme.tracking.run_folder import RunFolder


def said(capsys: pytest.CaptureFixture[str], *words: object) -> list[str]:
    assert main(["prepare", *map(str, words)]) == 0
    return capsys.readouterr().out.splitlines()


def test_prepare_says_what_it_made_and_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = published.slake(tmp_path / "src"), tmp_path / "out"
    shown = said(capsys, "slake", "--from", source, "--out", out)
    table = {line[:22].strip(): line.split()[-1] for line in shown[1:8]}
    assert (table["train rows"], table["validation rows"], table["test rows"], table["images"]) == ("3", "1", "1", "3")
    text = "\n".join(shown)
    assert "open 2, text 1, yes_no 2" in text
    assert "- dropped 1 rows: the question is in language zh, not en; e.g. train.json, row 3: " in text
    assert "- dropped 1 rows: answer is empty; e.g. train.json, row 5: answer is empty" in text
    assert "already" not in text
    again = said(capsys, "slake", "--from", source, "--out", out)
    assert "already prepared, nothing was read again; remove the folder to do it again" in again
    assert [line for line in again if "already" not in line] == shown


def test_settings_and_a_default_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = published.aokvqa(tmp_path / "src")
    words = ["aokvqa", "--from", source, "--task.prepared", tmp_path / "data", "--task.form=choice", "--limit", 1]
    assert any("choice 2" in line for line in said(capsys, *words))
    (folder,) = (tmp_path / "data").iterdir()
    assert folder.name.startswith("aokvqa-")
    assert json.loads((folder / "train.jsonl").read_text(encoding="utf-8"))["answer"] == "B"


def test_the_next_command_works(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    shown = said(capsys, "slake", "--from", published.slake(tmp_path / "src"), "--out", tmp_path / "made here")
    assert shown[-1].startswith("next: dyme train charts-dyme --task.name slake --task.path ")
    words = shlex.split(shown[-1])[2:]
    monkeypatch.chdir(ROOT)
    quick = ["--train.max_prompts=2", "--train.prompts_per_step=2", "--rollout.num_generations=2", "--rollout.max_completion_length=8"]
    assert main([*words, *quick, "--run.output", str(tmp_path / "run")]) == 0
    (evaluation,) = RunFolder.open(tmp_path / "run").evaluations()
    assert evaluation["metrics"]["think_accuracy"]["n"] == 1
    test_only = said(capsys, "geometry", "--from", published.mathverse(tmp_path / "mathverse"), "--out", tmp_path / "test")
    assert test_only[-1] == f"next: dyme eval MODEL --task geometry --task.path {tmp_path / 'test'}"
    assert main([*shlex.split(test_only[-1].replace("MODEL", "embedded"))[2:], "--samples=1", "--rollout.max_completion_length=8"]) == 0


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["slak", "--from", "x"], ("unknown task 'slak'", "did you mean 'slake'")),
        (["charts", "--from", "x"], ("task charts draws its own data", "did you mean 'chartqa'")),
        (["slake"], ("--from",)),
        (["slake", "--from", "nowhere"], ("nowhere: does not exist", "expected train.json")),
        (["slake", "--from", "x", "--limit", "-1"], ("--limit must not be negative",)),
        (["slake", "--from", "x", "--limit", "many"], ("--limit", "many")),
        (["slake", "--from", "x", "--task.form=free"], ("'free' is not one of direct, choice",)),
        (["slake", "--form", "x"], ("--from",)),
    ],
)
def test_wrong_use(words: list[str], parts: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["prepare", *words]) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert all(part in text for part in parts), text


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    status, out, err = run("prepare", "gsm8k", "--from", published.gsm8k(tmp_path / "src"), "--out", tmp_path / "out", cwd=tmp_path)
    assert (status, err) == (0, "")
    assert "number 3" in out


def test_another_task_than_the_recipes_takes_none_of_its_data() -> None:
    config = build({"task": {"name": "jsonl", "train": "own.jsonl", "test": "own.jsonl", "marker": "So:"}})
    assert with_task(config, "jsonl", []) is config
    task = with_task(config, "gsm8k", ["--task.test", "gsm8k.jsonl"]).task
    assert (task.name, task.train, task.test, task.marker) == ("gsm8k", "", "gsm8k.jsonl", "So:")


def test_another_task_has_its_own_sizes_and_tolerance() -> None:
    words = {"test_size": 6, "tolerance": 0.05, "language": "zh", "form": "choice", "traces": "high", "seed": 3}
    asked = {"marker": "So:", "think_prompt": "Think, So:", "direct_prompt": "Say it.", "input": "facts", "prepared": "there"}
    llm = {"checker": "llm", "url": "http://localhost:1/v1", "model": "m"}
    config = build({"task": {"name": "charts"} | words | asked, "supervision": llm}, ["--supervision.checker=llm"])
    assert with_task(config, "gsm8k", ["--supervision.checker=llm"]).task == TaskConfig(name="gsm8k", **asked)
    given = ["--task.test_size", "9", "--task.tolerance=0.1", "--supervision.checker=llm"]
    assert with_task(config, "gsm8k", given).task == TaskConfig(name="gsm8k", test_size=9, tolerance=0.1, **asked)
    assert with_task(config, "gsm8k", given).supervision == config.supervision
