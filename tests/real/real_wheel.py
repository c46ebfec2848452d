"""The wheel as a stranger meets it: built from the sdist, installed beside its required packages alone, used from a folder of one's own.

`make test-wheel` runs this in an environment that sees this one's copies of those packages (by links) and nothing else of it, neither
the repository nor the extras. `make release` sets DYME_WHEEL=fresh, so that all is installed anew, with the extra that `dyme play` needs,
and DYME_DIST, the folder of the wheel that is to be published.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import published
import pytest
from packaging.requirements import Requirement
from runs import ROOT

Dyme = Callable[..., str]
FRESH = os.environ.get("DYME_WHEEL") == "fresh"
QUICK = (
    "--train.max_prompts=4", "--train.prompts_per_step=4", "--rollout.num_generations=2", "--rollout.max_completion_length=8",
    "--task.train_size=4", "--task.test_size=2",
)  # fmt: skip


def call(*words: object, **more: object) -> None:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr


def required(wheel: Path) -> Iterator[importlib.metadata.Distribution]:
    """The packages that a wheel asks for, and what they ask for in turn."""
    with_metadata = importlib.metadata.PathDistribution(next(wheel.glob("*.dist-info")))
    waiting, seen = list(with_metadata.requires or []), set[str]()
    while waiting:
        asked = Requirement(waiting.pop())
        if asked.name.lower() in seen or (asked.marker and not asked.marker.evaluate({"extra": ""})):
            continue
        seen.add(asked.name.lower())
        found = importlib.metadata.distribution(asked.name)
        waiting += found.requires or []
        yield found


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel made of the sdist made of a clean copy of the repository, or the one that is to be published."""
    if "DYME_DIST" in os.environ:
        [built] = Path(os.environ["DYME_DIST"]).glob("*.whl")
        return built
    folder = tmp_path_factory.mktemp("build")
    shutil.copytree(ROOT / "src", folder / "source/src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source")
    call(sys.executable, "-c", "from setuptools import build_meta; build_meta.build_sdist('../dist')", cwd=folder / "source")
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder)
    call(*pip, next((folder / "dist").glob("*.tar.gz")))
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("environment")
    call(sys.executable, "-m", "venv", "--without-pip", folder)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--quiet")
    if FRESH:
        call(*pip, os.environ.get("TORCH", "torch"))
        call(*pip, f"{wheel}[play]")
        return folder
    call(*pip, "--no-deps", wheel)
    site = next(folder.glob("lib/python*/site-packages"))
    for package in required(site):
        for name in {file.parts[0] for file in package.files or [] if file.parts[0] not in ("..", "__pycache__")}:
            if not (site / name).exists():
                (site / name).symlink_to(package.locate_file(name))
    return folder


@pytest.fixture(scope="session")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stranger's folder."""
    return tmp_path_factory.mktemp("a stranger's")


@pytest.fixture(scope="session")
def dyme(environment: Path, here: Path, tmp_path_factory: pytest.TempPathFactory) -> Dyme:
    """Run a command there as the stranger does; what it shows, after a look at its status."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "HF_HOME", "XDG_"))}
    kept |= {"HOME": str(tmp_path_factory.mktemp("home")), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def run(*words: object, status: int = 0) -> str:
        command = [str(environment / "bin/dyme"), *map(str, words)]
        done = subprocess.run(command, cwd=here, env=kept, capture_output=True, text=True)
        assert done.returncode == status and "Traceback" not in done.stderr, done.stdout + done.stderr
        return done.stderr if status else done.stdout

    return run


def test_the_environment_sees_nothing_of_the_repository(environment: Path) -> None:
    code = (
        "import dyme, sys, importlib.util as u, json; print(json.dumps([dyme.__file__, *map(str, sys.path)] + [str(u.find_spec('peft'))]))"
    )
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    shown = subprocess.run([environment / "bin/python", "-c", code], capture_output=True, text=True, check=True, cwd="/", env=clean).stdout
    *paths, peft = json.loads(shown)
    assert Path(paths[0]).is_relative_to(environment) and peft == "None"
    assert not any(Path(path).is_relative_to(ROOT / "src") for path in paths)


def test_no_arguments_show_what_there_is(dyme: Dyme) -> None:
    assert "dyme demo" in dyme() and "charts-dyme" in dyme("recipes") and "jsonl" in dyme("tasks")
    assert "two_stage" in dyme("methods") and "--train.learning_rate" in dyme("settings")


def test_the_demo(dyme: Dyme, here: Path) -> None:
    assert "page" in dyme("demo", *QUICK)
    assert "<html" in (here / "runs/demo/report.html").read_text(encoding="utf-8")
    assert "runs/demo/report.html" in dyme("report", "runs/demo")


def test_own_data_from_a_recipe_that_was_written_out(dyme: Dyme, here: Path) -> None:
    dyme("recipes", "own-data", "--out", "mine")
    row = {"question": "What is 2 + 3?", "answer": 5, "rationale": "2 and 3 are 5."}
    (here / "mine/rows.jsonl").write_text("".join(json.dumps(row | {"id": str(n)}) + "\n" for n in range(20)), encoding="utf-8")
    recipe = here / "mine/own-data.toml"
    text = re.sub('^train = "own-data/train.jsonl"', 'train = "rows.jsonl"', recipe.read_text(encoding="utf-8"), flags=re.MULTILINE)
    recipe.write_text(text, encoding="utf-8")
    dyme("train", "mine/own-data.toml", "--run.output", "runs/mine", *QUICK)
    asked = (here / "runs/mine/rollouts.jsonl").read_text(encoding="utf-8")
    assert asked.count("What is 2 + 3?") == asked.count('"question"') > 0
    assert "all right" in dyme("diagnose", "runs/mine", "--samples", 2, "--k", 2)


def test_rows_of_ones_own_become_a_recipe_that_trains(dyme: Dyme, here: Path) -> None:
    lines = "".join(f"How many boxes are {n} boxes?,{n},I count {n} of them.\n" for n in range(12))
    (here / "boxes.csv").write_text("Question,Answer,Explanation\n" + lines, encoding="utf-8")
    assert "dyme train boxes/recipe.toml" in dyme("new", "boxes.csv", "--out", "boxes", "--yes", "--samples", 2)
    dyme("train", "boxes/recipe.toml", "--run.output", "runs/boxes", *QUICK[:-2])
    assert "How many boxes are" in (here / "runs/boxes/rollouts.jsonl").read_text(encoding="utf-8")
    assert "runs/boxes/report.html" in dyme("report", "runs/boxes")


@pytest.mark.skipif(not FRESH, reason="the environment has no gradio: make release")
def test_a_model_is_played_with(environment: Path, here: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [environment / "bin/dyme", "play", "embedded", "--samples", "2", "--port", str(port)]
    with (here / "play.log").open("wb") as log, subprocess.Popen(words, cwd=here, stdout=log, stderr=log) as playing:
        try:
            shown = page(f"http://127.0.0.1:{port}/", playing)
        finally:
            playing.send_signal(signal.SIGINT)
            status = playing.wait(60)
    said = (here / "play.log").read_text(encoding="utf-8")
    assert "gradio" in shown and status == 130 and "Traceback" not in said, said


def page(address: str, process: subprocess.Popen[bytes]) -> str:
    """The page at an address, once the process serves it."""
    for _ in range(600):
        assert process.poll() is None, "ended before it served"
        with suppress(urllib.error.URLError), urllib.request.urlopen(address, timeout=10) as answer:
            return str(answer.read().decode())
        time.sleep(0.5)
    raise AssertionError("never served")


def test_a_recipe_by_its_name_then_every_command_on_the_run(dyme: Dyme, here: Path) -> None:
    dyme("train", "own-data", *QUICK)
    assert "accuracy, thinking" in dyme("eval", "runs/own-data", "--samples", 2, "--k", 2, "--json", "figures.json")
    assert json.loads((here / "figures.json").read_text(encoding="utf-8"))["metrics"]
    dyme("export", "runs/own-data", "--out", "plain")
    dyme("eval", "plain", "--task", "charts", "--samples", 2, "--k", 0)
    dyme("compare", "charts-dyme", "--methods", "base,dyme", "--seeds", "0", "--budget", "4prompts", *QUICK[1:])
    assert (here / "runs/compare/study.html").exists()


def test_a_published_data_set(dyme: Dyme, here: Path) -> None:
    published.chartqa(here / "published")
    dyme("prepare", "chartqa", "--from", "published", "--out", "data/chartqa")
    dyme("train", "charts-dyme", "--task.name", "chartqa", "--task.path", "data/chartqa", "--run.output", "runs/chartqa", *QUICK)


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("train", "charts-dyme", "--model.lora_rank", 4, "--run.output", "runs/lora"), "lora"),
        (("facts", "--source", "ocr", "--task.test_size", 1), "ocr"),
        (("prepare", "gsm8k", "--from", "openai/gsm8k"), "data"),
        pytest.param(("play", "embedded"), "play", marks=pytest.mark.skipif(FRESH, reason="gradio is there")),
        (("judge", "http://127.0.0.1:9/v1", "--supervision.model", "m", "--traces", 2), "llm"),
    ],
    ids=str,
)
def test_what_wants_an_extra_says_which(dyme: Dyme, words: tuple[object, ...], extra: str) -> None:
    line = dyme(*words, status=2)
    assert f"pip install 'dyme[{extra}]'" in line and line.count("\n") == 1
