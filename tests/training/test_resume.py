"""Killed at any moment, a run goes on to the same bits: weights, rollouts and metrics of an uninterrupted one."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from forked import Child
from runs import SMALL, lines, recipe, run, snapshot, start

STEPS = 8
CHANGES = {
    "dyme": {"method": {"name": "dyme"}},
    "full": {"supervision": {"checker": "local", "refiner": "local"}},  # a pool of templates
    "two_stage": {"method": {"name": "two_stage"}, "objective": {"beta": 0.05}},  # a change of stage and a reference model
}
Moment = Callable[[Path], bool]


def written(folder: Path) -> Path:
    """A recipe whose run goes to `folder`/run."""
    tree = SMALL | {"run": {"output": str(folder / "run"), "save_every": 2}, "task": {"train_size": 24, "test_size": 1}}
    return recipe(folder / "recipe.toml", tree | {"train": {"prompts_per_step": 4, "max_prompts": 4 * STEPS}} | CHANGES[folder.name])


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The run folder of a method that nothing stopped, made once."""
    made: dict[str, Path] = {}

    def folder(method: str) -> Path:
        if method not in made:
            parent = tmp_path_factory.mktemp("whole") / method
            parent.mkdir()
            assert run("train", written(parent))[::2] == (0, "")
            made[method] = parent / "run"
        return made[method]

    return folder


def rollouts(steps: int) -> Moment:
    """True once that many steps are recorded: the next one rolls out or updates."""
    return lambda folder: (folder / "metrics.jsonl").exists() and (folder / "metrics.jsonl").read_bytes().count(b"\n") >= steps


def checkpoint(step: int) -> Moment:
    """True once the checkpoint of `step` is being written."""
    return lambda folder: (folder / f"checkpoints/step-{step:06d}").exists()


def finished(folder: Path) -> bool:
    """True once the final model is there and evaluation begins."""
    return (folder / "model").exists()


def wait_for(process: Child, moment: Moment, folder: Path) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and not moment(folder):
        assert time.monotonic() < deadline
        time.sleep(0.002)


def go_on(folder: Path, recipe_file: Path) -> list[Any]:
    """What a user types next: --resume, or the recipe again if the run had not even made its folder."""
    return ["train", "--resume", folder] if (folder / "config.json").exists() else ["train", recipe_file]


def timeless(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Metrics without their times."""
    return [row | {"seconds": 0, "metrics": {k: v for k, v in row["metrics"].items() if not k.startswith("seconds")}} for row in rows]


def assert_same(folder: Path, whole: Path) -> None:
    assert [row["step"] for row in lines(folder / "metrics.jsonl")] == list(range(1, STEPS + 1))
    assert timeless(lines(folder / "metrics.jsonl")) == timeless(lines(whole / "metrics.jsonl"))
    assert (folder / "rollouts.jsonl").read_bytes() == (whole / "rollouts.jsonl").read_bytes()
    assert lines(folder / "evaluations.jsonl") == lines(whole / "evaluations.jsonl")
    assert snapshot(folder / "model") == snapshot(whole / "model")
    assert [f.name for f in sorted(folder.glob("checkpoints/*"))] == [f.name for f in sorted(whole.glob("checkpoints/*"))]
    assert (folder / "report.html").is_file()


def kill(folder: Path, recipe_file: Path, moment: Moment, delay: float) -> bool:
    """Start or go on, and SIGKILL `delay` seconds after the moment; whether it was still alive then."""
    process = start(*go_on(folder, recipe_file))
    wait_for(process, moment, folder)
    time.sleep(delay)
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


def test_sigkill_at_five_moments(tmp_path: Path, uninterrupted: Callable[[str], Path]) -> None:
    """One run, killed five times: while it loads, in two steps, in a checkpoint, at the end; each kill hits the run resumed before."""
    parent = tmp_path / "two_stage"
    parent.mkdir()
    recipe_file, folder, rng = written(parent), parent / "run", random.Random(0)
    first, second = sorted(rng.sample(range(1, STEPS - 1), 2))
    moments: list[tuple[Moment, float]] = [
        (lambda _: True, rng.uniform(0.1, 1.0)),
        (rollouts(first), rng.uniform(0, 0.3)),
        (checkpoint(2 * (first // 2 + 1)), rng.uniform(0, 0.1)),
        (rollouts(second), rng.uniform(0, 0.3)),
        (rng.choice([checkpoint(STEPS), finished]), rng.uniform(0, 0.2)),
    ]
    kills = [kill(folder, recipe_file, moment, delay) for moment, delay in moments]
    assert sum(kills) >= 4, "the runs ended before they could be killed"
    status, _, error = run(*go_on(folder, recipe_file))
    assert (status, error) == (0, "")
    assert_same(folder, uninterrupted("two_stage"))


def test_sigint_saves_and_says_how_to_go_on(tmp_path: Path, uninterrupted: Callable[[str], Path]) -> None:
    parent = tmp_path / "dyme"
    parent.mkdir()
    recipe_file, folder = written(parent), parent / "run"
    process = start("train", recipe_file)
    wait_for(process, rollouts(2), folder)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "")
    at = len(lines(folder / "metrics.jsonl"))
    assert out.splitlines()[-1] == f"stopped after step {at}; go on with: dyme train --resume {folder}"
    assert (folder / f"checkpoints/step-{at:06d}/complete.json").is_file()
    assert not (folder / "model").exists()
    kill(folder, recipe_file, rollouts(at + 1), random.Random(1).uniform(0, 0.3))
    assert run("train", "--resume", folder)[::2] == (0, "")
    assert_same(folder, uninterrupted("dyme"))
