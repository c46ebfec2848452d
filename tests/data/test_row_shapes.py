"""Rows of one's own in the shapes that people have: each read as the same samples, or refused in one line that says what to do."""

from __future__ import annotations

import base64
import csv
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from published import dump, lines, picture

from dyme.config import TaskConfig
from dyme.data import fields
from dyme.data.prepare import prepare
from dyme.errors import DataError
from dyme.tasks import TASKS
from dyme.types import Sample

ROW: dict[str, Any] = {"question": "What does the jam cost?", "answer": "3.20"}
USER = {"role": "user", "content": "What does the jam cost?"}


def load(train: Path | str, **settings: Any) -> list[Sample]:
    return TASKS["jsonl"].load(TaskConfig(name="jsonl", test=str(train), **settings), "test")


def one(tmp_path: Path, **row: Any) -> Sample:
    return load(lines(tmp_path / "rows.jsonl", [row]))[0]


def table(file: Path, rows: list[dict[str, Any]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with file.open("w", encoding=encoding, newline="") as stream:
        writer = csv.DictWriter(stream, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return file


def parquet(file: Path, rows: list[dict[str, Any]]) -> Path:
    arrow, writer = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    writer.write_table(arrow.Table.from_pylist(rows), file)
    return file


def imagefolder(folder: Path, rows: list[dict[str, Any]]) -> Path:
    table(folder / "metadata.csv", [{"file_name": row["image"]} | {k: v for k, v in row.items() if k != "image"} for row in rows])
    return folder


FILES: dict[str, Callable[[Path, list[dict[str, Any]]], Path]] = {
    "json lines": lambda folder, rows: lines(folder / "rows.jsonl", rows),
    "json lines named .json": lambda folder, rows: lines(folder / "rows.json", rows),
    "a json list": lambda folder, rows: dump(folder / "rows.json", rows),
    "a json list named .jsonl": lambda folder, rows: dump(folder / "rows.jsonl", rows),
    "an object of rows": lambda folder, rows: dump(folder / "rows.json", {str(k): row for k, row in enumerate(rows)}),
    "csv": lambda folder, rows: table(folder / "rows.csv", rows),
    "csv of a spreadsheet": lambda folder, rows: table(folder / "rows.csv", rows, ";", "utf-8-sig"),
    "tsv": lambda folder, rows: table(folder / "rows.tsv", rows, "\t"),
    "parquet": lambda folder, rows: parquet(folder / "rows.parquet", rows),
    "a parquet without that name": lambda folder, rows: parquet(folder / "rows", rows),
    "an imagefolder": imagefolder,
    "a folder of csv": lambda folder, rows: table(folder / "test.csv", rows).parent,
}


@pytest.mark.parametrize("shape", FILES)
@pytest.mark.parametrize("relative", [False, True])
def test_files(shape: str, relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    source = Path("mine") if relative else tmp_path / "mine"
    for k in range(3):
        picture(source / f"images/{k}.png", k)
    rows = [ROW | {"image": f"images/{k}.png", "answer": str(k), "rationale": f"It, or: {k}."} for k in range(3)]
    file = FILES[shape](source, rows)
    samples = load(file)
    assert [(s.question, s.answer, s.rationale, s.answer_kind) for s in samples] == [
        (ROW["question"], str(k), f"It, or: {k}.", "auto") for k in range(3)
    ]
    assert [s.images[0].load().getpixel((k + 3, 10)) for k, s in enumerate(samples)] == [(10, 40 + k, 160) for k in range(3)]
    published = TASKS["jsonl"].published
    assert published is not None
    report = prepare(published, TaskConfig(name="jsonl"), str(file), tmp_path / "out")
    assert (sum(report.rows.values()), report.images, report.rationales) == (3, 3, 3)


def content(tmp_path: Path) -> bytes:
    return picture(tmp_path / "till.png", 7).read_bytes()


@pytest.mark.parametrize("where", ["image", "images", "image_1", "decoded_image", "turn"])
@pytest.mark.parametrize("form", ["uri", "base64", "bytes", "struct", "path"])
def test_pictures_in_rows(form: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = content(tmp_path)
    text = base64.b64encode(found).decode()
    value: Any = {"uri": "data:image/png;base64," + text, "base64": text, "bytes": found, "path": str(tmp_path / "till.png")}.get(form)
    value = {"bytes": found, "path": None} if form == "struct" else value
    if where == "turn":
        part = {"type": "image_url", "image_url": {"url": value}} if form == "uri" else {"type": "image", "image": value}
        row: dict[str, Any] = {
            "messages": [{"role": "user", "content": [part, {"type": "text", "text": ROW["question"]}]}],
            "answer": "3.20",
        }
    elif where == "decoded_image":
        if form != "struct":
            pytest.skip("a struct is what it is for")
        row = ROW | {"image": "images/1.jpg", "decoded_image": value}
    else:
        row = ROW | {where: [value] if where == "images" else value}
    write = parquet if form in ("bytes", "struct") else lines
    sample = load(write(tmp_path / "rows.parquet" if write is parquet else tmp_path / "rows.jsonl", [row, row]))[0]
    assert (sample.question, sample.answer) == (ROW["question"], "3.20")
    assert sample.images[0].load().getpixel((10, 10)) == (10, 47, 160)


TURNS: dict[str, dict[str, Any]] = {
    "TRL, a text": {"prompt": USER["content"], "answer": "3.20"},
    "TRL, a chat": {"prompt": [USER], "solution": "3.20"},
    "TRL, a completion": {"prompt": [USER], "completion": [{"role": "assistant", "content": "The till says 3.20. Answer: 3.20"}]},
    "TRL, tags": {"problem": USER["content"], "solution": "<think> The till says 3.20. </think>\n<answer> 3.20 </answer>"},
    "LLaVA": {"conversations": [{"from": "human", "value": "<image>\n" + USER["content"]}, {"from": "gpt", "value": "3.20"}]},
    "ShareGPT": {"messages": [USER, {"role": "assistant", "content": "3.20"}]},
    "parts": {"prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": USER["content"]}]}], "solution": "3.20"},
}


@pytest.mark.parametrize("shape", TURNS)
def test_turns(shape: str, tmp_path: Path) -> None:
    picture(tmp_path / "till.png")
    sample = one(tmp_path, **TURNS[shape], images=["till.png"])
    assert (sample.question, sample.answer, len(sample.images)) == (ROW["question"], "3.20", 1)
    assert sample.rationale == ("The till says 3.20." if shape in ("TRL, a completion", "TRL, tags") else None)


def test_a_system_message_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert one(tmp_path, prompt=[{"role": "system", "content": "Be brief."}, USER], answer="3.20").question == ROW["question"]
    assert "a system message is left out; set model.system_prompt to it (1 rows)" in caplog.text


CHOICES = ["tea", "jam", "rye"]
LETTERED: dict[str, dict[str, Any]] = {
    "choices": {"choices": CHOICES},
    "options": {"options": CHOICES},
    "options as text": {"options": str(CHOICES)},
    "options by letter": {"options": {"A": "tea", "B": "jam", "C": "rye", "D": None}},
    "options as lines": {"options": "A. tea\nB. jam\nC. rye"},
    "columns": {"A": "tea", "B": "jam", "C": "rye", "D": None},
    "named columns": {"option_a": "tea", "option_b": "jam", "option_c": "rye"},
    "text and label": {"choices": {"text": CHOICES, "label": ["A", "B", "C"]}},
    "labelled texts": {"choices": [{"label": letter, "text": text} for letter, text in zip("ABC", CHOICES, strict=True)]},
}


@pytest.mark.parametrize("shape", LETTERED)
@pytest.mark.parametrize("answer", [{"answer": "B"}, {"answer": "jam"}, {"answer_idx": 1}, {"label": "B"}])
def test_choices_of_every_shape(shape: str, answer: dict[str, Any], tmp_path: Path) -> None:
    sample = one(tmp_path, question="Which?", **LETTERED[shape], **answer)
    assert (sample.answer, sample.answer_kind, sample.choices) == ("B", "choice", tuple(CHOICES))


def test_options_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="rows.jsonl:1: options is no list of texts, and the answer is the letter of one; write choices"):
        one(tmp_path, question="Which?", answer="B", options="tea, jam and rye")
    assert one(tmp_path, question="Which?", answer="jam", options="tea, jam and rye").answer_kind == "auto"
    assert one(tmp_path, question="How much?", answer="5", options=[]).answer_kind == "auto"
    with pytest.raises(DataError, match="answer_idx is 3, which numbers none of the 3 choices"):
        one(tmp_path, question="Which?", options=CHOICES, answer_idx=3)


@pytest.mark.parametrize("name", fields.OTHER_NAMES["rationale"][:-1])
def test_rationales_of_every_name(name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert one(tmp_path, **ROW, **{name: "The till says so. Answer: 3.20"}).rationale == "The till says so."
    assert f"rationale is read from the field '{name}' (1 rows)" in caplog.text


@pytest.mark.parametrize(
    ("row", "answer", "rationale"),
    [
        (
            {"problem": "How many?", "solution": "Two and two is \\boxed{\\frac{4}{1}}."},
            "\\frac{4}{1}",
            "Two and two is \\boxed{\\frac{4}{1}}.",
        ),
        ({"question": "How many?", "solution": "2 + 2 = 4\n#### 4"}, "4", "2 + 2 = 4"),
        ({"Question": "How many?", "Answer": "4", "Explanation": "2 + 2"}, "4", "2 + 2"),
        ({"instruction": "How many?", "output": "4"}, "4", None),
        ({"question": "How many?", "ground_truth": "4", "solution": "4"}, "4", None),
        ({"question": "How many?", "answer": "4", "facts": {"a": "1", "b": "nan", "c": "", "d": "N/A", "e": "-"}}, "4", None),
    ],
)
def test_other_names(row: dict[str, Any], answer: str, rationale: str | None, tmp_path: Path) -> None:
    sample = one(tmp_path, **row)
    assert (sample.question, sample.answer, sample.rationale) == ("How many?", answer, rationale)
    assert [fact.subject for fact in sample.facts] == (["a"] if "facts" in row else [])


def test_unread_fields_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    one(tmp_path, **ROW, reasoning="It says so.", explanation="Look.", anwser_kind="number", level=3)
    assert caplog.messages == [
        f"{tmp_path / 'rows.jsonl'}: rationale is read from the field 'reasoning' (1 rows)",
        f"{tmp_path / 'rows.jsonl'}: the field 'explanation' is not read: rationale is there (1 rows)",
        f"{tmp_path / 'rows.jsonl'}: the field 'anwser_kind' is not read: rename it answer_kind if it is meant (1 rows)",
    ]


HEADS = {
    "a.parquet": (b"PAR1" + bytes(40), "cannot be read as parquet"),
    "b.parquet": (b"hello, this is text", "is no parquet file"),
    "a.tar": (bytes(257) + b"ustar" + bytes(200), "is a tar archive; unpack it"),
    "a.tar.gz": (b"\x1f\x8b" + bytes(40), "is a gzip file; gunzip it"),
    "a.zip": (b"PK\x03\x04" + bytes(40), "is a zip archive; unpack it"),
    "a.xlsx": (b"PK\x03\x04" + bytes(40), "is a workbook; save the sheet as CSV"),
    "a.arrow": (b"ARROW1" + bytes(40), "is an Arrow file; name the folder"),
    "a.png": (b"\x89PNG" + bytes(40), "is a picture; name the file with the rows"),
    "a.csv": ("question,answer\nWie heißt es?,Tür".encode("latin-1"), "not UTF-8 text; save it as CSV UTF-8"),
    "b.csv": (b"question,answer\nOne, two?,3\n", "b.csv:2: has 3 cells for 2 headings; put a cell with ',' in quotes"),
    "c.csv": (b"", "has no rows"),
    "d.csv": (b"answer,answer\n1,2\n", "has 2 columns named 'answer'"),
    "a.json": (b"[]", "has no rows"),
}


@pytest.mark.parametrize("name", HEADS)
def test_other_files_are_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(HEADS[name][0])
    published = TASKS["jsonl"].published
    assert published is not None
    for call in (
        lambda: load(tmp_path / name),
        lambda: prepare(published, TaskConfig(name="jsonl"), str(tmp_path / name), tmp_path / "out"),
    ):
        with pytest.raises(DataError) as caught:
            call()
        assert HEADS[name][1] in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 600


ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "an address": (ROW | {"image": "https://example.org/till.png"}, "image is an address on the web .*; download it and name the file"),
    "an address in turns": (
        {
            "messages": [{"role": "user", "content": ["What?", {"type": "image_url", "image_url": {"url": "http://a.b/c.png"}}]}],
            "answer": "1",
        },
        "image is an address on the web",
    ),
    "broken base64": (ROW | {"image": "data:image/png;base64," + "!" * 50_000}, "image is broken base64"),
    "no picture": (ROW | {"image": "data:image/png;base64," + "A" * 50_000}, "not a picture that can be read"),
    "a long name": (ROW | {"image": "x" * 50_000}, "x \\.\\.\\. x.* cannot be read .File name too long|does not exist"),
    "several questions": (
        {"messages": [USER, {"role": "assistant", "content": "3.20"}, USER]},
        "messages holds 2 questions; write one row",
    ),
    "no question": ({"messages": [{"role": "assistant", "content": "3.20"}]}, "messages holds no question"),
    "no turns": ({"messages": [5]}, "messages is no list of turns"),
    "another role": ({"messages": [{"role": "tool", "content": "3.20"}]}, "messages has a turn of 'tool'"),
    "a long answer": (ROW | {"answer": "x" * 50_000, "choices": ["a", "b"]}, "is neither a letter from A to B nor one of the choices"),
    "a long kind": (ROW | {"answer_kind": "x" * 50_000}, "answer_kind is 'x+ ... x+' .50,000 characters.; choose from"),
    "a long list": (ROW | {"choices": "[" + "x" * 50_000}, "choices is text that is no list"),
    "many fields": ({f"field {k}": k for k in range(9_000)}, "question is missing; .*'field 19' and 8980 more"),
    "a long id": (ROW | {"id": "x" * 50_000, "image": "no.png"}, "does not exist; correct the path"),
}


@pytest.mark.parametrize("name", ROWS)
def test_rows_that_are_refused_shortly(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    row, told = ROWS[name]
    file = lines(tmp_path / "rows.jsonl", [row])
    published = TASKS["jsonl"].published
    assert published is not None
    for call in (lambda: load(file), lambda: prepare(published, TaskConfig(name="jsonl"), str(file), tmp_path / "out")):
        with pytest.raises(DataError, match=told) as caught:
            call()
        assert len(str(caught.value)) < 1000, "no value is quoted whole"


def test_an_archive_beside_the_rows_is_named(tmp_path: Path) -> None:
    file = lines(tmp_path / "rows.jsonl", [ROW | {"image": "imgs/1.png"}])
    (tmp_path / "imgs.zip").touch()
    with pytest.raises(DataError, match=r"does not exist; if it is in .*imgs\.zip, unpack that there first"):
        load(file)


def test_no_library_is_needed_for_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert load(table(tmp_path / "rows.csv", [ROW]))[0].answer == "3.20"
    assert load(dump(tmp_path / "rows.json", [ROW]))[0].answer == "3.20"
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match=r"parquet files need pyarrow; pip install 'dyme\[data\]'"):
        load(tmp_path / "a.parquet")
