"""Comparisons: budgets, cells, rates chosen on the validation split alone, what is kept and what is done again."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runs import SMALL, recipe, small, snapshot

from dyme.cli.main import main
from dyme.cli.training import cell as cell_command
from dyme.comparison import cells
from dyme.comparison.cells import Cell
from dyme.comparison.plan import Study, parse_budget, traces_of
from dyme.comparison.statistics.pooled import summarize
from dyme.comparison.study import run_study
from dyme.errors import ConfigError, DymeError
from dyme.tracking.run_folder import RunFolder
from dyme.types import StepRecord


def plan(out: Path, *, methods: Sequence[str] = ("base", "sft", "dyme"), traces: Sequence[str] = ("low",), seeds: Sequence[int] = (0, 1),
         rates: Sequence[float] = (3e-4,), jobs: int = 1, words: Sequence[str] = ()) -> Study:  # fmt: skip
    config = small(out / "unused", *words)
    return Study(config=config, methods=tuple(methods), traces=tuple(traces), seeds=tuple(seeds), rates=tuple(rates), out=out, jobs=jobs)


def figure(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 50}


class Fake:
    """Stands in for the processes of cells: writes a finished run at once, with the accuracy that `score` gives."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, score: Any = lambda cell: 0.5, status: int = 0) -> None:
        self.started: list[Cell] = []
        self.alive = self.most = 0
        self.score, self.status = score, status
        monkeypatch.setattr(cells, "_start", self)
        monkeypatch.setattr(cells.time, "sleep", lambda seconds: None)

    def __call__(self, plan: Study, cell: Cell) -> Any:
        self.started.append(cell)
        self.alive += 1
        self.most = max(self.most, self.alive)
        folder = plan.out / cell.name
        (plan.out / f"{cell.name}.log").write_text("loading\ndyme: no space left\n", encoding="utf-8")
        run = RunFolder.open(folder) if (folder / "config.json").exists() else RunFolder.create(folder, cells.cell_config(plan, cell))
        if not run.steps() and cell.method != "base":
            run.log_step(StepRecord(step=1, prompts=4, epoch=1.0, seconds=2.0, metrics={"accuracy": 0.25}))
        if self.status == 0:
            run.log_evaluation(1, cell.split, {"metrics": {"think_accuracy": figure(self.score(cell))}})
        fake = self

        class Process:
            returncode = fake.status

            def poll(self) -> int:
                fake.alive -= 1
                return fake.status

            def terminate(self) -> None: ...

            def wait(self) -> None: ...

        return Process()


def quiet(line: str) -> None: ...


# Words


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("120s", {"max_seconds": 120.0}), ("1.5s", {"max_seconds": 1.5}), ("2000prompts", {"max_prompts": 2000}),
        (" 8prompts ", {"max_prompts": 8}), ("38400completions", {"max_completions": 38_400}), ("2000000tokens", {"max_tokens": 2_000_000}),
    ],
)  # fmt: skip
def test_budgets(text: str, given: dict[str, Any]) -> None:
    assert parse_budget(text) == {"max_prompts": 0, "max_completions": 0, "max_tokens": 0, "max_seconds": 0.0} | given


@pytest.mark.parametrize(
    "text",
    ["", "s", "120", "0s", "0prompts", "0.5prompts", "-5s", "2h", "1.2.3s", "²s", "prompts", "1e3prompts", "9completion", "1.5tokens"],
)
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(ConfigError, match="write 120s, 2000prompts, 16000completions or 500000tokens"):
        parse_budget(text)


def test_names_of_cells_tell_them_apart() -> None:
    cell = Cell(method="two_stage", traces="low", seed=1, learning_rate=1e-4, tuned=(("sft_learning_rate", 1e-3),))
    assert cell.name == "two_stage-low-lr0.0001-sft0.001-seed1"
    assert replace(cell, tuned=()).name == "two_stage-low-lr0.0001-seed1"
    assert replace(cell, split="validation").name == cell.name, "a training is evaluated on both splits"


def test_a_cell_changes_only_what_it_varies(tmp_path: Path) -> None:
    own = plan(tmp_path, words=["method.memorize_weight=0.5", "train.num_iterations=2"])
    config = cells.cell_config(own, Cell(method="sft", traces="high", seed=3, learning_rate=1e-3))
    assert (config.method.name, config.task.traces, config.run.seed, config.train.learning_rate) == ("sft", "high", 3, 1e-3)
    assert config.run.output == str(tmp_path / "sft-high-lr0.001-seed3")
    assert config.method.settings == {}, "the recipe's are another method's"
    assert cells.cell_config(own, Cell(method="dyme", traces="low", seed=0, learning_rate=1.0)).method.settings == {"memorize_weight": 0.5}
    back = replace(config, run=own.config.run, task=own.config.task, method=own.config.method, train=own.config.train)
    assert back == own.config


# Which cells there are


def test_cells_of_a_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch)
    methods = ("base", "sft", "grpo", "two_stage", "dyme")
    result = run_study(plan(tmp_path, methods=methods, traces=("low", "high")), quiet, "dyme compare x")
    ran = [(c.method, c.traces, c.seed) for c in fake.started]
    both = [(m, t, s) for m in ("sft", "two_stage", "dyme") for t in ("low", "high") for s in (0, 1)]
    assert sorted(ran) == sorted([("base", "any", 0), ("grpo", "any", 0), ("grpo", "any", 1), *both])
    assert {c.split for c in fake.started} == {"test"}
    assert [(row["method"], row["traces"]) for row in result["summary"]] == [
        ("base", "any"), ("sft", "low"), ("sft", "high"), ("grpo", "any"),
        ("two_stage", "low"), ("two_stage", "high"), ("dyme", "low"), ("dyme", "high"),
    ]  # fmt: skip
    assert json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8")) == json.loads(json.dumps(result))
    row = next(row for row in result["rows"] if row["method"] == "dyme")
    assert (row["prompts"], row["seconds"], row["curve"]) == (4, 2.0, [[4, 0.25]])


def test_grpo_reads_traces_where_they_earn_its_reward(tmp_path: Path) -> None:
    own = plan(tmp_path, traces=("low", "high"), words=["reward.thinking_against=reference"])
    assert traces_of(own, "grpo") == ("low", "high")
    assert traces_of(own, "base") == ("any",)


def test_a_method_with_settings_of_its_own_is_a_row_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Fake(monkeypatch)
    written = "dyme+method.memorize_weight=0.125+reward.thinking_against=reference"
    own = plan(tmp_path, methods=("dyme", written), seeds=(0,))
    result = run_study(own, quiet, "")
    assert [row["method"] for row in result["summary"]] == ["dyme", written]
    plain, changed = (RunFolder.open(tmp_path / row["run"]).config() for row in result["rows"])
    assert (changed.method.settings, changed.reward.thinking_against) == ({"memorize_weight": 0.125}, "reference")
    assert replace(changed, run=plain.run, method=plain.method, reward=plain.reward) == plain
    read = plan(tmp_path, traces=("low", "high"))
    assert traces_of(read, "grpo+reward.thinking_against=reference") == ("low", "high")
    assert traces_of(read, "grpo+reward.thinking_against=reference+reward.thinking_weight=0") == ("any",)
    with pytest.raises(ConfigError, match="memorize_weight"):
        plan(tmp_path, methods=("dyme+method.memorise_weight=1",)).check()


def test_the_grid_is_on_the_first_traces_and_serves_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch, lambda cell: cell.learning_rate)
    run_study(plan(tmp_path, methods=("dyme",), traces=("low", "high"), seeds=(0,), rates=(1e-4, 1e-3)), quiet, "")
    assert [(c.traces, c.learning_rate, c.split) for c in fake.started] == [
        ("low", 1e-4, "validation"), ("low", 1e-3, "validation"), ("low", 1e-3, "test"), ("high", 1e-3, "test"),
    ]  # fmt: skip


def test_no_more_than_the_jobs_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch)
    run_study(plan(tmp_path, jobs=2, seeds=(0, 1, 2)), quiet, "")
    assert fake.most == 2
    assert len(fake.started) == 7


# Learning rates


def test_rates_are_chosen_on_the_validation_split_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = {"sft": 1e-4, "dyme": 1e-3, "two_stage": 3e-4}

    def score(cell: Cell) -> float:
        if cell.split == "test":
            return 0.9 if cell.learning_rate != best.get(cell.method) else 0.1  # to tempt it
        return 0.8 if cell.learning_rate == best[cell.method] else 0.2

    fake = Fake(monkeypatch, score)
    own = plan(tmp_path, methods=("base", "two_stage", "sft", "dyme"), rates=(1e-4, 3e-4, 1e-3))
    result = run_study(own, quiet, "")
    grid = [c for c in fake.started if c.split == "validation"]
    assert {(c.method, c.learning_rate) for c in grid} == {(m, r) for m in best for r in own.rates}
    assert {c.seed for c in grid} == {0}
    tested = [c for c in fake.started if c.split == "test" and c.method != "base"]
    assert {(c.method, c.learning_rate) for c in tested} == set(best.items())
    assert max(fake.started.index(c) for c in grid) < min(fake.started.index(c) for c in tested)
    assert {c.tuned for c in fake.started if c.method == "two_stage"} == {(("sft_learning_rate", 1e-4),)}, "what SFT has chosen"
    assert result["learning_rates"]["dyme"] == [1e-3, {}]
    assert result["validation"] == {c.name: score(c) for c in grid}
    for cell in grid:
        names = [e["name"] for e in RunFolder.open(tmp_path / cell.name).evaluations()]
        assert names == (["validation", "test"] if cell.learning_rate == best[cell.method] else ["validation"])


def test_one_rate_needs_no_grid_and_keeps_the_recipes_sft_rate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch)
    words = ["method.name=two_stage", "method.sft_learning_rate=0.01"]
    run_study(plan(tmp_path, methods=("sft", "two_stage", "dyme"), words=words), quiet, "")
    own = (("sft_learning_rate", 0.01),)
    assert {(c.method, c.split, c.tuned) for c in fake.started} == {("sft", "test", own), ("two_stage", "test", own), ("dyme", "test", ())}


# What is kept, what is refused


def test_done_cells_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch)
    run_study(plan(tmp_path, seeds=(0,)), quiet, "")
    assert len(fake.started) == 3
    run_study(plan(tmp_path, seeds=(0, 1)), quiet, "")
    assert [(c.method, c.seed) for c in fake.started[3:]] == [("sft", 1), ("dyme", 1)]


@pytest.mark.parametrize("words", [["train.max_prompts=8"], ["rollout.temperature=0.5"], ["method.all_correct=explore"]])
def test_cells_of_other_settings_are_not_taken_for_these(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]) -> None:
    fake = Fake(monkeypatch)
    run_study(plan(tmp_path), quiet, "")
    before, count = snapshot(tmp_path), len(fake.started)
    with pytest.raises(ConfigError, match="other settings"):
        run_study(plan(tmp_path, words=words), quiet, "")
    assert (snapshot(tmp_path), len(fake.started)) == (before, count)
    run_study(plan(tmp_path, words=["run.save_every=7"]), quiet, "")


def test_a_failed_cell_is_named_with_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Fake(monkeypatch, status=2)
    with pytest.raises(DymeError, match=r"base-any-lr0.0003-seed0 failed \(status 2\): dyme: no space left; see .*\.log"):
        run_study(plan(tmp_path), quiet, "")


def test_a_run_killed_before_its_settings_were_written_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake(monkeypatch)
    own = plan(tmp_path, methods=("dyme",), seeds=(0,))
    folder = tmp_path / "dyme-low-lr0.0003-seed0"
    folder.mkdir()
    (folder / "versions.json").write_text("{}", encoding="utf-8")
    (folder / ".config.json.tmp").write_text("{", encoding="utf-8")
    run_study(own, quiet, "")
    assert len(fake.started) == 1


def test_threads_are_shared_unless_the_user_says_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(subprocess, "Popen", lambda words, **options: seen.append({"words": words, **options}))
    monkeypatch.setattr(cells.os, "cpu_count", lambda: 8)
    own = plan(tmp_path, jobs=3)
    cell = Cell(method="base", traces="any", seed=0, learning_rate=3e-4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    cells._start(own, cell)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cells._start(own, cell)
    assert [call["env"]["OMP_NUM_THREADS"] for call in seen] == ["2", "1"]
    assert seen[0]["words"][-3:] == [str(tmp_path / f"{cell.name}.json"), "test", "--base"]
    assert seen[0]["stdout"].closed


# Cells that were stopped half-way, as the processes themselves (in this one)


def cell_words(folder: Path, *words: str, method: str = "sft") -> list[str]:
    """`dyme cell` for a training of two steps into `folder`/run."""
    config = small(folder / "run", f"method.name={method}", "train.max_prompts=8", "task.validation_size=2", "run.save_every=1")
    (folder / "cell.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    return ["cell", str(folder / "cell.json"), *words]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cell's folder after its training and its evaluation on the validation split."""
    folder = tmp_path_factory.mktemp("trained")
    assert main(cell_words(folder, "validation")) == 0
    return folder / "run"


def test_cell_trains_and_evaluates_on_its_split_only(trained: Path) -> None:
    run = RunFolder.open(trained)
    assert [(e["step"], e["name"]) for e in run.evaluations()] == [(2, "validation")]
    assert [s.step for s in run.steps()] == [1, 2]


def test_cell_that_is_trained_is_only_evaluated(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(trained, tmp_path / "run")
    monkeypatch.setattr(cell_command, "train_model", lambda *_, **__: pytest.fail("trained again"))
    assert main(cell_words(tmp_path, "test")) == 0
    assert [e["name"] for e in RunFolder.open(tmp_path / "run").evaluations()] == ["validation", "test"]


@pytest.mark.parametrize("left", [0, 1])
def test_cell_without_or_with_a_checkpoint_goes_on(left: int, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/model")
    for step in range(left + 1, 3):
        shutil.rmtree(tmp_path / f"run/checkpoints/step-{step:06d}")
    assert main(cell_words(tmp_path, "test")) == 0
    run = RunFolder.open(tmp_path / "run")
    assert [s.step for s in run.steps()] == [1, 2]
    assert [e["name"] for e in run.evaluations()] == ["test"], "the evaluation of the lost model is gone with it"
    assert (run.path / "model/model.safetensors").read_bytes() == (trained / "model/model.safetensors").read_bytes()


def test_cell_of_the_base_may_be_evaluated_again(tmp_path: Path) -> None:
    assert main(cell_words(tmp_path, "validation", "--base")) == 0
    assert main(cell_words(tmp_path, "test", "--base")) == 0
    run = RunFolder.open(tmp_path / "run")
    assert [(e["step"], e["name"]) for e in run.evaluations()] == [(0, "validation"), (0, "test")]
    assert run.steps() == []


def test_a_stopped_cell_is_not_evaluated(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_command, "train_model", lambda config, *_, **__: Path(config.run.output) / "checkpoints/step-000001/model")
    RunFolder.create(tmp_path / "run", small(tmp_path / "run"))
    assert main(cell_words(tmp_path, "test")) == 130
    assert RunFolder.open(tmp_path / "run").evaluations() == []


# Figures


def test_summary_pools_each_method_and_quality() -> None:
    rows = [
        {"method": "dyme", "traces": t, "seed": s, "metrics": {"think_accuracy": figure(v)}}
        for t, s, v in (("low", 0, 0.2), ("low", 1, 0.4), ("high", 0, 0.6))
    ]
    found = {(row["method"], row["traces"]): row["metrics"]["think_accuracy"] for row in summarize(rows)}
    assert [(key, round(f["value"], 6), f["seeds"]) for key, f in found.items()] == [(("dyme", "low"), 0.3, 2), (("dyme", "high"), 0.6, 1)]


# The real thing, small


@pytest.mark.usefixtures("forked_cells")
def test_a_comparison_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = ["compare", str(recipe(tmp_path / "r.toml", SMALL)), "--methods", "base,sft,dyme", "--seeds", "0,1", "--budget", "8prompts",
             "--jobs", "2", "--out", str(tmp_path / "out"), "--run.save_every", "1"]  # fmt: skip
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert all(head in shown for head in ("base / any", "sft / low", "dyme / low", "means of 2 seeds", "[5/5]", "comparison.html"))
    result = json.loads((tmp_path / "out/comparison.json").read_text(encoding="utf-8"))
    rows = [(row["method"], row["seed"], row["prompts"]) for row in result["rows"]]
    assert rows == [("base", 0, 0), ("sft", 0, 8), ("sft", 1, 8), ("dyme", 0, 8), ("dyme", 1, 8)]
    assert all({"think_accuracy", "direct_accuracy"} <= row["metrics"].keys() for row in result["rows"])
    assert "<html" in (tmp_path / "out/comparison.html").read_text(encoding="utf-8")
    first, second = (tmp_path / f"out/sft-low-lr8e-05-seed{seed}/model/model.safetensors" for seed in (0, 1))
    assert first.read_bytes() != second.read_bytes()
    monkeypatch.setattr(cells, "_start", lambda *_: pytest.fail("started again"))
    assert main(words) == 0
    assert json.loads((tmp_path / "out/comparison.json").read_text(encoding="utf-8"))["rows"] == result["rows"]
