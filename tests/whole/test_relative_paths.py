"""Each published layout from where a user stands: another working directory, every path relative, by the commands that a user types."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import published
import pytest
from published import dump, lines, picture

from dyme.cli.main import main
from dyme.report import page
from dyme.tasks import TASKS
from dyme.tracking.run_folder import RunFolder

QUICK = ("--rollout.max_completion_length=4", "--rollout.num_generations=2", "--train.prompts_per_step=1", "--train.max_prompts=2")
CHOICES = ["3", "5", "6", "7"]


def parquet(folder: Path, rows: list[dict[str, Any]], *splits: str) -> Path:
    """A folder of parquet files as the hub has it."""
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for split in splits:
        writer.write_table(arrow.Table.from_pylist(rows), folder / f"data/{split}-00000-of-00001.parquet")
    return folder


def content(folder: Path, number: int) -> dict[str, Any]:
    return {"bytes": picture(folder / f"drawn/{number}.png", number).read_bytes(), "path": f"{number}.png"}


def chartqa_hub(folder: Path) -> Path:
    rows = [{"image": content(folder, k), "query": "How tall is it?", "label": [str(k)], "human_or_machine": k % 2} for k in (1, 2)]
    return parquet(folder, rows, "train", "val", "test")


def chartqa_lmms(folder: Path) -> Path:
    """lmms-lab/ChartQA."""
    rows = [
        {"image": content(folder, 1), "question": "How tall is it?", "answer": "14", "type": name}
        for name in ("human_test", "augmented_test")
    ]
    return parquet(folder, rows, "test")


def geometry_hub(folder: Path) -> Path:
    """hiyouga/geometry3k as it is today, and a row that has the right choice's letter alone."""
    row = {"images": [content(folder, 1)], "problem": "<image>Find x.", "choices": CHOICES, "ground_truth": "B", "id": 1}
    return parquet(folder, [row | {"answer": "5"}, row | {"answer": None}, row | {"answer": "5"}], "train", "validation", "test")


def vqa_rad_hub(folder: Path) -> Path:
    return parquet(folder, [{"image": content(folder, k), "question": "Is it large?", "answer": "yes"} for k in (1, 2)], "train", "test")


def slake_zipped(folder: Path) -> Path:
    """A copy of the hub's repository: annotations whose pictures are in an archive, and the same rows in parquet."""
    published.slake(folder)
    for file in sorted((folder / "imgs").rglob("*.jpg")):
        file.unlink()
    (folder / "imgs.zip").write_bytes(b"PK\x03\x04")
    rows = [{"image": content(folder, k), "question": "Is it large?", "answer": "yes", "answer_type": "CLOSED"} for k in (1, 2)]
    return parquet(folder, rows, "train", "test")


def saved(folder: Path) -> Path:
    datasets = pytest.importorskip("datasets")
    rows = [{"image": str(picture(folder.parent / f"drawn/{k}.png", k)), "question": "Is it large?", "answer": "yes"} for k in (1, 2)]
    data = datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())
    datasets.DatasetDict({"train": data, "test": data}).save_to_disk(folder)
    return folder


def rows_of(folder: Path) -> Path:
    """The rows that every task takes, in files of three formats."""
    for k in (1, 2):
        picture(folder / f"images/{k}.png", k)
    row = {"image": "images/1.png", "question": "Is it large?", "answer": "yes"}
    lines(folder / "train.jsonl", [row, row | {"image": "images/2.png"}])
    (folder / "val.csv").write_text("image,question,answer\nimages/1.png,Is it large?,yes\n", encoding="utf-8")
    dump(folder / "test.json", [row])
    return folder


def imagefolder(folder: Path) -> Path:
    for split in ("train", "test"):
        for k in (1, 2):
            picture(folder / f"{split}/{k}.png", k)
        table = "file_name,question,answer\n1.png,Is it large?,yes\n2.png,Is it small?,no\n"
        (folder / split / "metadata.csv").write_text(table, encoding="utf-8")
    return folder


def one_file(folder: Path) -> Path:
    """LLaVA's one list of conversations."""
    for k in (1, 2, 3):
        picture(folder / f"{k}.png", k)
    turns = [{"from": "human", "value": "<image>\nIs it large?"}, {"from": "gpt", "value": "yes"}]
    return dump(folder / "llava.json", [{"image": f"{k}.png", "conversations": turns} for k in (1, 2, 3)])


LAYOUTS: dict[str, tuple[str, Callable[[Path], Path]]] = published.WRITERS | {
    "chartqa hub": ("chartqa", chartqa_hub),
    "chartqa lmms": ("chartqa", chartqa_lmms),
    "geometry3k hub": ("geometry", geometry_hub),
    "vqa_rad hub": ("vqa_rad", vqa_rad_hub),
    "vqa_rad saved": ("vqa_rad", saved),
    "vqa_rad imagefolder": ("vqa_rad", imagefolder),
    "slake zipped": ("slake", slake_zipped),
    "rows": ("jsonl", rows_of),
    "jsonl imagefolder": ("jsonl", imagefolder),
    "jsonl llava": ("jsonl", one_file),
}


def test_each_task_with_published_rows_is_here() -> None:
    assert {task for task, _ in LAYOUTS.values()} == {name for name, task in TASKS.items() if task.published}


@pytest.fixture(autouse=True)
def pageless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have tests of their own."""
    monkeypatch.setattr(page, "write_page", lambda run, out=None: run / "report.html")


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_whole_way(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, write = LAYOUTS[name]
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    source = Path("..") / write(Path("theirs") / name)
    monkeypatch.chdir(tmp_path / "mine")
    assert main(["prepare", task, "--from", str(source), "--out", "data/it"]) == 0
    report = json.loads(Path("data/it/prepared.json").read_text(encoding="utf-8"))["report"]
    assert report["rows"], "no row was dropped for its path"
    missing = [one for reason, one in report["dropped"].items() if "exist" in reason]
    assert sum(one["count"] for one in missing) <= 1, "those written here lack one picture at most"
    words = ["--task.name", task, "--task.test_size=2", "--task.validation_size=2", *QUICK]
    splits = [split for split in ("test", "validation") if split in report["rows"]]
    model = "embedded"
    if "train" in report["rows"]:
        for path, run in (("data/it", "runs/prepared"), (str(source), "runs/direct")):
            if run == "runs/direct" and name not in ("chartqa", "rows"):
                continue  # the same rows by the same reader
            assert main(["train", "charts-dyme", "--task.path", path, "--run.output", run, *words]) == 0
            assert len(RunFolder.open(run).steps()) == 2
        model = "runs/prepared"
    assert main(["eval", model, *words, "--task.path", str(source), "--split", splits[0], "--k", "0", "--json", "out/figures.json"]) == 0
    figures = json.loads(Path("out/figures.json").read_text(encoding="utf-8"))
    assert figures["metrics"]["direct_accuracy"]["n"] == min(2, report["rows"][splits[0]])
