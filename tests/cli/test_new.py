"""`dyme new`: rows as users have them become a recipe that trains, or one line that says what to change."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from runs import ENVIRONMENT, run

from dyme.cli.data.draft import models
from dyme.cli.main import main
from dyme.data.splits import load
from dyme.recipe import load_recipe
from dyme.samples import load as load_samples
from dyme.tasks.jsonl import PUBLISHED

COUNT = 12
ASKED = "How many bars?"


def bars(file: Path, count: int) -> str:
    """Draw a picture of bars, and return its name."""
    file.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (60, 40), "white")
    for k in range(count):
        ImageDraw.Draw(picture).rectangle((4 + 7 * k, 5, 8 + 7 * k, 35), fill="navy")
    picture.save(file)
    return file.name


def lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


def german(folder: Path) -> tuple[str, ...]:
    rows = [{"bild": bars(folder / f"{k}.png", k % 7), "frage": ASKED, "antwort": k % 7, "nummer": k} for k in range(COUNT)]
    return str(lines(folder / "daten.jsonl", rows)), "--question", "frage", "--answer", "antwort", "--image", "bild"


def semicolons(folder: Path) -> tuple[str, ...]:
    rows = [f"{bars(folder / f'{k}.jpg', k % 7)};{ASKED};{k % 7};{k % 7 + 1};A" for k in range(COUNT)]
    (folder / "quiz.csv").write_text("\n".join(["Image;Question;A;B;Answer", *rows]), encoding="utf-8")
    return (str(folder / "quiz.csv"),)


def tabs(folder: Path) -> tuple[str, ...]:
    folder.mkdir()
    rows = [f"What is {k} plus 2?\tAdd them. #### {k + 2}" for k in range(COUNT)]
    (folder / "sums.tsv").write_text("\n".join(["problem\tsolution", *rows]), encoding="utf-8")
    return (str(folder / "sums.tsv"),)


def parquet(folder: Path) -> tuple[str, ...]:
    """As ChartQA lies on a hub: pictures within, each answer in a list."""
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    folder.mkdir()
    pictures = []
    for k in range(COUNT):
        held = io.BytesIO()
        Image.new("RGB", (20, 20), (20 * k, 0, 0)).save(held, "PNG")
        pictures.append({"bytes": held.getvalue(), "path": None})
    pq.write_table(
        pa.table({"image": pictures, "query": [ASKED] * COUNT, "label": [[str(k)] for k in range(COUNT)]}), folder / "train-0.parquet"
    )
    return (str(folder),)


def imagefolder(folder: Path) -> tuple[str, ...]:
    rows = [f"{bars(folder / f'{k}.png', k % 7)},{ASKED},{k % 7}" for k in range(COUNT)]
    (folder / "metadata.csv").write_text("\n".join(["file_name,question,answer", *rows]), encoding="utf-8")
    return (str(folder),)


def trl(folder: Path) -> tuple[str, ...]:
    asked = [{"type": "image"}, {"type": "text", "text": ASKED}]
    rows = [
        {
            "prompt": [{"role": "user", "content": asked}], "images": [bars(folder / f"{k}.png", k % 7)],
            "solution": f"<think>I count {k % 7} bars.</think><answer>{k % 7}</answer>",
        }
        for k in range(COUNT)
    ]  # fmt: skip
    return (str(lines(folder / "trl.jsonl", rows)),)


def llava(folder: Path) -> tuple[str, ...]:
    rows = [
        {
            "image": bars(folder / f"{k}.png", k % 7),
            "conversations": [{"from": "human", "value": f"<image>\n{ASKED}"}, {"from": "gpt", "value": str(k % 7)}],
        }
        for k in range(COUNT)
    ]  # fmt: skip
    (folder / "llava.json").write_text(json.dumps(rows), encoding="utf-8")
    return (str(folder / "llava.json"),)


def facts(folder: Path) -> tuple[str, ...]:
    """A folder with one file of rows under a name of its own."""
    rows = [
        {"image": bars(folder / f"p/{k}.png", k % 7), "question": ASKED, "answer": k % 7, "facts": {"bars": k % 7}} for k in range(COUNT)
    ]
    for row in rows:
        row["image"] = f"p/{row['image']}"
    lines(folder / "mine.jsonl", rows)
    return (str(folder),)


SHAPES = (german, semicolons, tabs, parquet, imagefolder, trl, llava, facts)


@pytest.mark.parametrize("shape", SHAPES)
def test_rows_as_users_have_them_become_a_recipe(
    shape: Callable[[Path], tuple[str, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shape(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    assert main(["new", *words, "--out", "mine", "--samples", "0", "--budget", "8prompts"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "next   dyme train mine/recipe.toml"
    config = load_recipe("mine/recipe.toml")
    assert (config.train.max_prompts, config.model.path, config.method.name) == (8, "embedded", "dyme")
    rows = [*load_samples(config, "train")[0], *load_samples(config, "validation")[0]]
    assert len(rows) == COUNT and all(row.images for row in rows) == (shape is not tabs)
    assert all(row.question.startswith("What is" if shape is tabs else ASKED) for row in rows)
    assert all(row.rationale for row in rows) == (shape in (tabs, trl))
    assert (config.supervision.checker, config.supervision.refiner) == (("local", "local") if shape is facts else ("off", "off"))
    assert load(PUBLISHED, config.task, "train") == load_samples(config, "train")[0]


def test_from_rows_to_a_trained_model(tmp_path: Path) -> None:
    """What a newcomer types, from another folder, with the model's first answers."""
    source = tmp_path / "data"
    imagefolder(source)
    status, out, err = run("new", "data", "--samples", "2", "--budget", "8prompts", cwd=tmp_path)
    assert (status, err) == (0, "") and "accuracy, thinking" in out and out.endswith("next   dyme train data-dyme/recipe.toml\n")
    status, out, _ = run("train", "data-dyme/recipe.toml", "--rollout.num_generations=2", cwd=tmp_path)
    assert status == 0 and (tmp_path / "runs/data-dyme/model/model.safetensors").exists()
    (tmp_path / "data-dyme/recipe.toml").unlink()  # as if stopped at a question: the same command continues
    status, out, _ = run("new", "data", "--samples", "0", cwd=tmp_path)
    assert status == 0 and "wrote  data-dyme/recipe.toml" in out
    status, _, err = run("new", "data", cwd=tmp_path)
    assert status == 2 and "data-dyme exists already and is not empty; name a new folder (--out)" in err


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        ({"rows.jsonl": '{"frage": "Wie viele?", "antwort": 3}'}, [], "known to be the question or the answer; add --question COLUMN"),
        ({"rows.jsonl": '{"question": "How many?"}'}, [], r"known to be the answer; add --answer COLUMN, of question \('How many\?'\)"),
        ({"rows.jsonl": '{"question": "q", "answer": "a"}'}, ["--answer", "label"], r"no row has a column 'label' \(--answer\);"),
        ({"a.csv": "x", "b.csv": "y"}, [], "has several files of rows; name one, e.g. .*a.csv: a.csv, b.csv"),
        ({"a.png": "", "b.png": ""}, [], "has pictures and no questions; write metadata.csv beside them"),
        ({"test.jsonl": '{"question": "q", "answer": "a"}'}, [], "has no training rows, only test"),
        ({"rows.jsonl": '{"question": "q", "answer": "a"}'}, ["--budget", "8"], "'8' is no budget; write a number and a unit"),
        ({"rows.jsonl": ""}, [], "has no rows"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_one_line_and_leaves_nothing(
    content: dict[str, str],
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = tmp_path / "data"
    source.mkdir()
    for name, text in content.items():
        (source / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(["new", "data", "--samples", "0", *words]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and re.search(said, err), err
    assert not (tmp_path / "data-dyme/recipe.toml").exists()


def test_questions_on_a_terminal(tmp_path: Path) -> None:
    """At most four: the question's and the answer's column, the model, the budget."""
    german(tmp_path / "data")
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execve(sys.executable, [sys.executable, "-m", "dyme", "new", "data", "--samples", "0"], {**ENVIRONMENT, "TERM": "dumb"})
    shown = ""
    for asked, said in (("question?", "frage"), ("answer?", "antwort"), ("model?", ""), ("stop?", "8"), ("stop?", "12prompts")):
        shown = _until(terminal, asked)
        os.write(terminal, f"{said}\n".encode())
    shown = _until(terminal, "next ")
    assert "'8' is no budget: a number and a unit" in shown or "wrote" in shown
    os.waitpid(child, 0)
    config = load_recipe(tmp_path / "data-dyme/recipe.toml")
    assert config.train.max_prompts == 12 and config.model.path == "embedded"


def _until(terminal: int, word: str) -> str:
    """Return what the terminal shows up to a word."""
    shown = ""
    while word not in shown:
        shown += os.read(terminal, 4096).decode()
    return shown


def test_models_that_are_offered_fit_the_rows() -> None:
    assert "HuggingFaceTB/SmolVLM-500M-Instruct" in models(seeing=True) and "Qwen/Qwen2.5-0.5B-Instruct" not in models(seeing=True)
    assert "Qwen/Qwen2.5-0.5B-Instruct" in models(seeing=False) and next(iter(models(seeing=False))) == "embedded"
