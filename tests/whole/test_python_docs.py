"""docs/python.md and the notebook, run as a reader would, in a folder of one's own."""

from __future__ import annotations

import re
from pathlib import Path

import nbclient
import nbformat
import pytest
from runs import ENVIRONMENT, ROOT

NOTEBOOK = ROOT / "examples" / "notebook.ipynb"


def test_python_md(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its blocks in order, in one namespace."""
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 7
    names: dict[str, object] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"docs/python.md, block {number + 1}", "exec"), names)
    out = capsys.readouterr().out
    assert "samples[0]: answer is missing" in out and "train.learning_rate must be above 0" in out
    assert (tmp_path / "runs/colours/model").is_dir() and (tmp_path / "runs/steady/report.html").is_file()


def test_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its block, with what stands for things of the reader's, on fewer prompts."""
    monkeypatch.chdir(tmp_path)
    [block] = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert "max_prompts=800" in block
    rows = [{"question": f"What is {k}?", "answer": k} for k in range(4)]
    names = {"my_samples": rows, "held_out": rows[:1], "brief": lambda completion, sample, verdict: -len(completion.token_ids)}
    exec(block.replace("max_prompts=800", "max_prompts=4"), names)
    assert len(names["run"].groups(step=-1)) == 8  # type: ignore[attr-defined]


def test_the_notebook_has_no_outputs() -> None:
    cells = nbformat.read(NOTEBOOK, as_version=4).cells
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in cells)


def test_the_notebook_runs_and_shows_pictures_and_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a kernel, whose event loop is running, on a step of four prompts instead of sixteen."""
    small = {"DYME_NOTEBOOK_PROMPTS": "4", "DYME_NOTEBOOK_TEST": "4", "HF_HUB_OFFLINE": "1"}
    for name, value in {**ENVIRONMENT, **small}.items():
        monkeypatch.setenv(name, value)
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert text.count("train.prompts_per_step=16") == 1
    notebook = nbformat.reads(text.replace("train.prompts_per_step=16", "train.prompts_per_step=4"), as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", ())]
    assert any("image/png" in data for data in shown), "a picture in memory"
    assert any("data:image/png;base64," in data.get("text/html", "") for data in shown), "groups with their pictures"
    progress = [data["text/plain"] for data in shown if "tok/s" in data.get("text/plain", "")]
    assert len(progress) == 1 and progress[0].startswith("step 1 dyme 100%"), "one output, that of the last step"
    [run] = (tmp_path / "runs").iterdir()
    assert (run / "report.html").is_file() and (run / "model/config.json").is_file()
