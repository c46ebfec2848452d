"""From where users stand: another folder, another locale, fewer rights, few rows, Python instead of the command line."""

from __future__ import annotations

import ctypes
import json
import math
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from runs import ENVIRONMENT, ROOT

from dyme.cli.main import main
from dyme.evaluation.items import Plan
from dyme.evaluation.run import run_evaluation
from dyme.recipe import load_recipe
from dyme.report.page import write_page
from dyme.samples import load
from dyme.tracking.display import Display
from dyme.tracking.run_folder import RunFolder
from dyme.training.loop import train

QUICK = (
    "--train.max_prompts=4", "--train.prompts_per_step=2", "--rollout.num_generations=2", "--rollout.max_completion_length=8",
    "--task.train_size=4", "--task.test_size=2",
)  # fmt: skip


def ordinary() -> None:
    """Take from the process that follows root's right to read and write everything; others have none to give up."""
    for right in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        ctypes.CDLL(None).prctl(24, right, 0, 0, 0)  # PR_CAPBSET_DROP


def finished(run: Path, steps: int = 2) -> RunFolder:
    """The run, after a look at whether it is whole."""
    folder = RunFolder.open(run)
    assert [s.step for s in folder.steps()] == list(range(1, steps + 1))
    assert all(math.isfinite(s.metrics["loss"]) for s in folder.steps())
    assert (run / "model/model.safetensors").exists() and "<html" in (run / "report.html").read_text(encoding="utf-8")
    return folder


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """An environment whose package and home can be read but not written."""
    site, home = tmp_path / "site", tmp_path / "home"
    shutil.copytree(ROOT / "src/dyme", site / "dyme", ignore=shutil.ignore_patterns("__pycache__"))
    home.mkdir()
    folders = [home, site, *(path for path in site.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    kept = {k: v for k, v in ENVIRONMENT.items() if not k.startswith(("XDG_", "HF_HOME", "MPL", "LC_", "LANG", "PYTHON"))}
    yield kept | {"PYTHONPATH": str(site), "HOME": str(home)}
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.skipif(sys.platform != "linux", reason="rights are given up as Linux has it")
def test_an_ordinary_user_in_a_folder_of_odd_name(locked: Mapping[str, str], tmp_path: Path) -> None:
    here = tmp_path / "Ärger mit 图"
    here.mkdir()
    outside = {*tmp_path.iterdir()}

    def dyme(*words: str) -> str:
        command = [sys.executable, "-O", "-m", "dyme", *words]
        done = subprocess.run(
            command, cwd=here, env={**locked, "LC_ALL": "C"}, preexec_fn=ordinary, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
        return done.stdout

    assert "own-data.toml" in dyme("recipes", "own-data", "--out", "mein Rezept")
    shown = dyme("train", "mein Rezept/own-data.toml", "--run.output", "läufe/eins 1", *QUICK)
    assert "page" in shown
    finished(here / "läufe/eins 1")
    assert {*tmp_path.iterdir()} == outside and not any((tmp_path / "home").iterdir())


def test_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_recipe("own-data", [*QUICK, "--run.output=mine"])
    model = train(config, samples=load(config, "train")[0], display=Display.quiet())
    assert model == Path("mine/model")
    figures = run_evaluation(load_recipe("own-data", [f"--model.path={model}", *QUICK]), load(config, "validation")[0], Plan(k=0))
    assert 0 <= figures["metrics"]["think_accuracy"]["value"] <= 1
    assert write_page(Path("mine")) == Path("mine/report.html")
    finished(Path("mine"))


CELLS = (
    "from dyme.tracking.display import Display; from dyme.recipe import load_recipe; from dyme.training.loop import train",
    f"config = load_recipe('charts-dyme', [*{QUICK}, '--run.output=mine']); train(config, display=Display())",
    "import os, signal, threading; threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()  # as the stop button does",
    f"train(load_recipe('charts-dyme', [*{QUICK}, '--train.max_prompts=100000', '--run.output=stopped']))",
    "from dyme.cli.main import main; main(['train', '--resume', 'mine']), main(['report', 'stopped'])",
)


def test_in_a_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [str(output) for cell in notebook.cells for output in cell.outputs]
    assert any("step 2" in text for text in shown) and any("(0, 0)" in text for text in shown)
    finished(tmp_path / "mine")
    assert RunFolder.open(tmp_path / "stopped").latest_checkpoint()


def test_rows_fewer_than_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [{"question": f"What is {n} + 1?", "answer": n + 1} for n in range(3)]
    Path("three.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ["--task.train=three.jsonl", "--task.validation=three.jsonl", "--task.test=three.jsonl", "--run.output=run"]
    assert main(["train", "own-data", *words, "--train.prompts_per_step=8", "--train.max_prompts=16", *QUICK[2:4]]) == 0
    assert [row["step"] for row in finished(Path("run")).rollouts()].count(1) == 8
