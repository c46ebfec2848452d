"""Studies: the order of their cells, what is chosen, kept and done again; and one as it really runs, killed and continued."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparison_designs import TINY, Fake, design, figures, tree
from runs import ROOT, run, snapshot, start

from dyme.cli.main import main
from dyme.cli.training.study import table
from dyme.comparison.cells import Cell, Cells, Job, identity, write_job
from dyme.comparison.study import Study, run_study
from dyme.errors import DymeError
from dyme.recipe import build
from dyme.tracking.run_folder import RunFolder
from dyme.types import StepRecord

BEST = {"sft": 1e-3, "dyme": 3e-4}


def quiet(line: str) -> None: ...


def told(out: Path, name: str) -> Any:
    return json.loads((out / name).read_text(encoding="utf-8"))


def score(cell: Cell) -> float:
    """Validation prefers the rates of BEST and the code's weight; the test split prefers others, to tempt."""
    right = cell.config.train.learning_rate == BEST[cell.config.method.name]
    if cell.stage == "trial":
        return 0.6 * right + 0.1 * (cell.settings.get("method.memorize_weight") == "code")
    return 0.1 if right else 0.9


# Order and choice


def test_trials_come_first_then_whole_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch, lambda cell: 0.5 if cell.stage == "base" else score(cell))
    run_study(design(tmp_path), "dyme study s.toml", quiet)
    trials = [cell for cell in fake.started if cell.stage == "trial"]
    tests = [cell for cell in fake.started if cell.stage == "test"]
    assert {cell.config.run.seed for cell in trials} == {100, 101} and {cell.split for cell in trials} == {"validation"}
    assert [cell.stage for cell in fake.started] == ["trial"] * len(trials) + ["base"] + ["test"] * 6
    assert [(cell.arm, cell.config.run.seed) for cell in tests] == [(arm, seed) for seed in (1, 2) for arm in ("dyme", "sft", "control")]
    for cell in tests:
        weight = {"memorize_weight": "code"} if cell.arm != "sft" else {}
        more = {"all_correct": "explore"} if cell.arm == "control" else {}
        assert cell.config.method.settings == {**weight, **more}, "the control takes what its arm chose"
        assert cell.config.train.learning_rate == BEST[cell.config.method.name] and cell.split == "test"
    assert len({cell.id for cell in fake.started}) == len(fake.started), "nothing is run twice"


def test_what_was_chosen_is_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Fake(monkeypatch, lambda cell: 0.5 if cell.stage == "base" else score(cell))
    run_study(design(tmp_path), "dyme study s.toml", quiet)
    chosen, plan = told(tmp_path, "choices.json"), told(tmp_path, "plan.json")
    assert chosen["dyme"]["winner"] == {"train.learning_rate": 3e-4, "method.memorize_weight": "code"}
    assert [(t["budget"], t["round"], t["seed"]) for t in chosen["dyme"]["trials"]][7:10] == [
        ("8prompts", 1, 101), ("24prompts", 2, 100), ("24prompts", 2, 100),
    ]  # fmt: skip
    assert len(chosen["dyme"]["survivors"][0]) == 2 and "control" not in chosen
    assert chosen["sft"]["opened"] == [{"setting": "train.learning_rate", "value": 3.33e-3}], "1e-3 won, at the edge"
    assert plan["arms"]["control"] == {
        "method": "dyme", "label": "", "tuned": True, "tuned_as": "dyme",
        "settings": {"method.all_correct": "explore", "train.learning_rate": 3e-4, "method.memorize_weight": "code"},
    }  # fmt: skip
    ids = plan["blocks"]["primary"]["cells"][""]
    assert set(ids) == {"dyme", "sft", "control"} and set(ids["sft"]) == {"1", "2"}
    assert all((tmp_path / "cells" / f"{name}.json").exists() for own in ids.values() for name in own.values())
    assert (plan["budget"], plan["command"], plan["tuning"]["seeds"]) == ("24prompts", "dyme study s.toml", [100, 101])


def test_a_grid_waits_for_the_rate_that_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = {
        "two": {"method": "two_stage", "grid": {"method.sft_share": [0.25, 0.5]}, "takes": {"method.sft_learning_rate": "sft"}},
        "sft": {"grid": {"train.learning_rate": [3e-4, 1e-3]}},
    }
    fake = Fake(monkeypatch, lambda cell: cell.config.train.learning_rate == 1e-3)
    content = tree(arms=arms, blocks={"b": {"arms": ["two"], "seeds": [1]}}, tuning={"seeds": [100], "open_edges": 1})
    run_study(design(tmp_path, content), "", quiet)
    assert [cell.arm for cell in fake.started] == ["sft"] * 3 + ["two"] * 3 + ["base", "two"], "each with its opened edge"
    assert {cell.config.method.settings["sft_learning_rate"] for cell in fake.started if cell.arm == "two"} == {1e-3}


def test_jobs_are_busy_with_trials_of_other_arms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch)
    run_study(design(tmp_path, jobs=3), "", quiet)
    assert fake.most == 3
    opened = next(k for k, cell in enumerate(fake.started) if cell.settings.get("train.learning_rate") == 9e-5)
    assert "dyme" in {cell.arm for cell in fake.started[:opened]}, "the first arm's last trials come after the second's first"


def test_only_some_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch)
    run_study(design(tmp_path), "", quiet, only=["tuning"])
    assert {cell.stage for cell in fake.started} == {"trial"}
    plan = told(tmp_path, "plan.json")
    assert plan["arms"]["sft"]["tuned"] and plan["blocks"]["primary"]["cells"][""]["sft"]["1"], "cells that are not done have their ids"


def test_an_edge_is_refused_where_none_may_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch, lambda cell: cell.config.train.learning_rate)
    content = tree(tuning={"seeds": [100], "open_edges": 0})
    with pytest.raises(DymeError, match=r"s.toml: \[arms.sft\] grid: train.learning_rate 0.001 won at the edge of its values; add one"):
        run_study(design(tmp_path, content), "", quiet)
    assert {cell.stage for cell in fake.started} == {"trial", "base"}, "no arm was settled"
    arms = {"two_stage": {"grid": {"method.sft_share": [0.4, 0.8]}}}
    content |= {"arms": arms, "blocks": {"b": {"arms": ["two_stage"], "seeds": [1]}}}
    Fake(monkeypatch, lambda cell: cell.config.method.settings.get("sft_share", 0))
    run_study(design(tmp_path / "bound", content), "", quiet)
    assert told(tmp_path / "bound", "choices.json")["two_stage"]["edges"][0]["why"] == "1.6 is out of bounds", "there is none beyond"


def test_the_time_that_is_left_is_told_from_cells_that_are_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Fake(monkeypatch)
    own = design(tmp_path, jobs=2)
    before, line = table(Study(own), [])
    assert ["tuning", "", "dyme", "8", "0", "unknown"] in before and "time is unknown until one like them is done" in line
    run_study(own, "", quiet, only=["tuning"])
    rows, line = table(Study(own), [])
    assert ["primary", "", "sft", "2", "0", "2 min"] in rows, "a minute for each training in full, as its trials took"
    assert ["primary", "", "base", "1", "0", "unknown"] in rows and "of 1 cells the time is unknown" in line
    assert [row[4] for row in rows if row[0] == "tuning"] == [row[3] for row in rows if row[0] == "tuning"]


# Kept and done again


def test_done_cells_are_kept_and_equal_ones_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake, notes = Fake(monkeypatch), []  # type: ignore[var-annotated]
    run_study(design(tmp_path), "", quiet)
    before, count = snapshot(tmp_path / "cells"), len(fake.started)
    run_study(design(tmp_path), "", quiet)
    assert (snapshot(tmp_path / "cells"), len(fake.started)) == (before, count)
    blocks = tree()["blocks"] | {"again": {"arms": ["sft"], "seeds": [2, 3], "conditions": {"same": {"task.misread": 0.5}, "": {}}}}
    run_study(design(tmp_path, tree(blocks=blocks)), "", notes.append)
    assert [(c.condition, c.stage, c.config.run.seed) for c in fake.started[count:]] == [
        ("same", "base", 0), ("same", "test", 2), ("same", "test", 3), ("", "test", 3),
    ]  # fmt: skip
    run_study(design(tmp_path, tree(study={"recipe": "charts-dyme", "budget": "16prompts"})), "", notes.append)
    assert any("cell files belong to other settings than the study's now" in line for line in notes)


def test_cells_of_another_folder_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch)
    run_study(design(tmp_path / "there"), "", quiet)
    count = len(fake.started)
    content = tree(study=tree()["study"] | {"cells": str(tmp_path / "there/cells")})
    run_study(design(tmp_path / "here", content), "", quiet)
    assert len(fake.started) == count
    assert snapshot(tmp_path / "here/cells").keys() == snapshot(tmp_path / "there/cells").keys()


def test_a_failed_cell_is_run_once_more_then_named_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[str] = []

    def fails(cell: Cell) -> int:
        tries.append(cell.id)
        once = cell.arm == "dyme" and cell.config.run.seed == 1 and tries.count(cell.id) == 1
        return 2 * (once or (cell.arm == "sft" and cell.config.run.seed == 1))

    fake = Fake(monkeypatch, fails=fails)
    with pytest.raises(DymeError, match=r"sft / seed 1 failed \(status 2\) again: dyme: no space left; see .*\.log; the same command"):
        run_study(design(tmp_path), "", quiet)
    assert len(fake.reruns) == 2 and "dyme / seed 1 failed (status 2); it is run once more" in fake.reruns[0]
    assert [cell.config.run.seed for cell in fake.started][-3:] == [2, 2, 2]


def test_many_failures_end_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch, fails=lambda cell: 1)
    with pytest.raises(DymeError, match="4 cells failed one after another, so the others are not begun"):
        run_study(design(tmp_path), "", quiet)
    assert len(fake.started) == 8


# Cells


def cell(tmp_path: Path, *words: str) -> Cell:
    own = design(tmp_path, overrides=words)
    return Study(own).test_cell("dyme", "", {}, 1, {})


def test_an_id_knows_what_matters_and_nothing_else(tmp_path: Path) -> None:
    plain = cell(tmp_path)
    for word in ("run.save_every=7", "run.output=elsewhere", "run.report_to=tensorboard", "method.all_correct=skip"):
        assert cell(tmp_path, f"--{word}").id == plain.id, word
    for word in ("train.weight_decay=0.5", "run.seed=5", "method.memorize_weight=0.5", "rollout.top_p=0.5", "task.traces=high"):
        assert (cell(tmp_path, f"--{word}").id == plain.id) == (word == "run.seed=5"), word
    assert plain.id == replace(plain, arm="another", condition="x").id, "names do not matter"
    assert plain.id != replace(plain, stage="trial").id


def test_traces_matter_to_methods_that_read_them_alone(tmp_path: Path) -> None:
    def name(*words: str) -> str:
        return json.dumps(identity(build({}, [f"--{word}" for word in words]), "test", "test"))

    assert name("method.name=grpo", "task.traces=high") == name("method.name=grpo", "task.misread=0.5")
    assert name("method.name=sft", "task.traces=high") != name("method.name=sft")
    rewarded = ["method.name=grpo", "reward.thinking_against=reference"]
    assert name(*rewarded, "task.traces=high") != name(*rewarded)


def test_a_file_of_other_settings_is_no_cell(tmp_path: Path) -> None:
    own = cell(tmp_path)
    (tmp_path / "cells").mkdir()
    file, cells = tmp_path / "cells" / f"{own.id}.json", Cells([tmp_path / "cells"])
    for content, found in (
        ("{", False), ("[]", False), (json.dumps({"metrics": figures(0.5)}), False),
        (json.dumps({"metrics": figures(0.5), "config": own.identity | {"train": own.identity["train"] | {"weight_decay": 0.3}}}), False),
        (json.dumps({"metrics": figures(0.5), "config": own.identity | {"later": {"setting": 1}}}), True),
    ):  # fmt: skip
        file.write_text(content, encoding="utf-8")
        assert (cells.get(own) is not None) == found, content


def test_a_cell_file_holds_the_course_of_its_run(tmp_path: Path) -> None:
    job = Job(json.loads(write_job(cell(tmp_path), tmp_path, "dyme study x", rerun="it failed").read_text(encoding="utf-8")))
    run = RunFolder.create(job.run, job.config)
    counts = {"completions": 16.0, "sampled_tokens": 100.0, "trained_tokens": 50.0}
    for step in (1, 2):
        metrics = counts | {"accuracy": step / 4, "share_memorize": step / 2, "share_explore": 0.0}
        run.log_step(StepRecord(step=step, prompts=4 * step, epoch=1.0, seconds=2.0 * step, metrics=metrics))
    (job.run / "model").mkdir()
    (job.run / "model/model.safetensors").write_bytes(b"0")
    assert job.begun() and not job.done()
    job.write({"metrics": figures(0.5), "by_kind": {}}, [], {"wall_seconds": 9.0})
    row = json.loads(job.file.read_text(encoding="utf-8"))
    assert row["curve"] == [[4, 16, 100, 50, 0.25], [8, 32, 200, 100, 0.5]]
    assert (row["completions"], row["sampled_tokens"], row["seconds"], row["rerun"]) == (32, 200, 4.0, "it failed")
    assert row["shares"] == {"memorize": 0.75, "explore": 0.0, "skip": 0.0, "mixed": 0.0}
    assert job.done() and sorted(file.name for file in job.run.iterdir()) == ["config.json", "metrics.jsonl", "versions.json"]


# The real thing, small


def toml(file: Path, out: Path) -> Path:
    settings = "\n".join(f'"{key}" = {value}' for key, value in TINY.items())
    file.write_text(
        f'[study]\nrecipe = "charts-dyme"\nout = "{out}"\nbudget = "8prompts"\njobs = 2\n[settings]\n{settings}\n"run.save_every" = 1\n'
        '[arms.sft]\ngrid = { "train.lr_scheduler_type" = ["linear", "constant"] }\n[tuning]\nseeds = [100]\n'
        '[blocks.one]\nquestion = "Does it work?"\narms = ["sft"]\nseeds = [1]\n',
        encoding="utf-8",
    )
    return file


def outcome(out: Path) -> dict[str, Any]:
    """What a finished study left that does not depend on the time it took."""
    cells = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in sorted((out / "cells").glob("*.json"))}
    kept = ("metrics", "items", "curve", "shares", "settings", "config", "stage")
    return {name: {key: cell[key] for key in kept} for name, cell in cells.items()} | {"choices": told(out, "choices.json")}


@pytest.mark.usefixtures("forked_cells")
def test_a_study_from_end_to_end_killed_and_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    whole, killed = toml(tmp_path / "whole.toml", tmp_path / "whole"), toml(tmp_path / "killed.toml", tmp_path / "killed")
    assert main(["study", str(whole)]) == 0
    found = outcome(tmp_path / "whole")
    assert len(found) == 5, "two trials, the base, a test; and the choices"
    base = next(cell for cell in found.values() if cell.get("stage") == "base")
    assert "pass_at_8" in base["metrics"] and set(base["items"]) == {"think", "direct"}
    test = next(cell for cell in found.values() if cell.get("stage") == "test")
    assert len(test["items"]["think"]) == 2 and len(test["curve"]) == 2
    assert not list((tmp_path / "whole/runs").rglob("*.safetensors")), "weights are scratch"
    section = (ROOT / "docs/schema.md").read_text(encoding="utf-8").partition("## Files of a study")[2]
    for file in (tmp_path / "whole/cells").iterdir():
        held = json.loads(file.read_text(encoding="utf-8"))
        assert [key for key in held if not re.search(rf"`{key}[`.\[]", section)] == [], "a field that docs/schema.md does not have"
    assert sum(file.stat().st_size for file in (tmp_path / "whole").rglob("*") if file.is_file()) < 500_000

    shutil.copytree(tmp_path / "whole/cells", tmp_path / "killed/cells")
    for name, cell in found.items():
        if cell.get("stage") == "test":
            (tmp_path / f"killed/cells/{name}.json").unlink()
    process = start("study", killed)
    wait_for(lambda: bool(list((tmp_path / "killed/runs").glob("*/metrics.jsonl"))))
    assert "another process" in run("study", killed)[2], "two on one folder: the second is refused"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not alive(str(tmp_path / "killed")))
    assert main(["study", str(killed)]) == 0
    assert outcome(tmp_path / "killed") == found
    before = snapshot(tmp_path / "killed/cells")
    assert main(["study", str(killed), "--report"]) == 0 and main(["study", str(killed), "--check"]) == 0
    assert snapshot(tmp_path / "killed/cells") == before


def wait_for(ready: Any, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until
        time.sleep(0.05)


def alive(word: str) -> list[int]:
    """Processes other than this whose command line names `word`."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            found += [int(place.name)] if word.encode() in (place / "cmdline").read_bytes() and int(place.name) != os.getpid() else []
        except OSError:
            continue
    return found


def test_a_study_that_is_stopped_says_how_to_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dyme.comparison.processes.time.sleep", stop)
    monkeypatch.setattr("dyme.comparison.processes.subprocess.Popen", lambda *_, **__: Ended())
    assert main(["study", str(toml(tmp_path / "s.toml", tmp_path / "out"))]) == 130
    assert "the same command continues from here" in capsys.readouterr().out
    assert Ended.terminated and (tmp_path / "out/plan.json").exists()


class Ended:
    """A process that never ends by itself."""

    terminated = False

    def terminate(self) -> None:
        Ended.terminated = True

    def wait(self) -> None: ...
