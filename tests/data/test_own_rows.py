"""Rows of one's own: what is read, what is refused and with which line, and how a file becomes splits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dyme.config import TaskConfig
from dyme.data.layouts import Split
from dyme.data.rows import load, read_rows
from dyme.errors import DataError
from dyme.pictures import ImageFile
from dyme.tasks import TASKS, charts, jsonl
from dyme.types import Fact, Sample

DATA = Path(__file__).parents[2].parent / "shared" / "data"
ROW = {"question": "What does the jam cost?", "answer": "3.20"}


def write(folder: Path, *rows: Any, name: str = "train.jsonl") -> Path:
    path = folder / name
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def one(folder: Path, **fields: Any) -> Sample:
    return read_rows(write(folder, ROW | fields))[0]


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_rows(path)
    text = str(caught.value)
    assert text.startswith(str(path))
    assert "\n" not in text
    assert ";" in text, "says what to do"
    text.encode()
    return text.removeprefix(str(path))


def picture(path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (8, 6), (10, 20, 30)).save(path)
    return path


# What is read


def test_whole_row(tmp_path: Path) -> None:
    facts = {"tea": 1.8, "jam": "3.20"}
    sample = one(tmp_path, id="till-7", image="images/till_7.png", kind="read", rationale="The receipt lists jam.", facts=facts)
    assert sample == Sample(
        id="till-7",
        question="What does the jam cost?",
        answer="3.20",
        images=(ImageFile(tmp_path / "images/till_7.png"),),
        rationale="The receipt lists jam.",
        facts=(Fact("tea", "1.8"), Fact("jam", "3.20")),
        kind="read",
    )
    image = sample.images[0]
    assert isinstance(image, ImageFile)
    assert image.row == f"{tmp_path / 'train.jsonl'}:1 (id till-7)"


def test_row_of_the_docstring_is_read(tmp_path: Path) -> None:
    text = (jsonl.__doc__ or "").split("\n\n")[2]
    sample = read_rows(write(tmp_path, " ".join(text.split())))[0]
    assert sample.id == "till-7"
    assert sample.facts[1] == Fact("jam", "3.20")


def test_least_row(tmp_path: Path) -> None:
    assert one(tmp_path) == Sample(id="train:1", question="What does the jam cost?", answer="3.20")


def test_unknown_fields_and_nulls_are_ignored(tmp_path: Path) -> None:
    nulls = dict.fromkeys(("id", "image", "images", "rationale", "facts", "kind"))
    assert one(tmp_path, choices=None, table="a | b", level=3, **nulls) == one(tmp_path)


@pytest.mark.parametrize(
    ("answer", "text"),
    [("yes", "yes"), (" 5\n", "5"), (5, "5"), (-2, "-2"), (5.5, "5.5"), (0, "0"), (10**400, str(10**400))],
)
def test_answers(tmp_path: Path, answer: Any, text: str) -> None:
    assert one(tmp_path, answer=answer).answer == text


@pytest.mark.parametrize(
    "facts",
    [{"tea": 1, "jam": "2"}, [["tea", 1], ["jam", "2"]], [{"subject": "tea", "value": 1, "note": 0}, {"subject": "jam", "value": "2"}]],
)
def test_three_ways_to_write_facts(tmp_path: Path, facts: Any) -> None:
    assert one(tmp_path, facts=facts).facts == (Fact("tea", "1"), Fact("jam", "2"))


def test_images(tmp_path: Path) -> None:
    assert one(tmp_path, images=["a.png", "/pictures/b.png"]).images == (ImageFile(tmp_path / "a.png"), ImageFile(Path("/pictures/b.png")))
    assert one(tmp_path, images=[]).images == ()
    assert one(tmp_path, image="../a.png").images == (ImageFile(tmp_path / "../a.png"),)


def test_empty_optional_text_is_none(tmp_path: Path) -> None:
    assert one(tmp_path, rationale=" ", kind="") == one(tmp_path)


def test_blank_lines_bom_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    row = json.dumps(ROW).encode()
    path.write_bytes(b"\xef\xbb\xbf" + row + b"\r\n\r\n  \n" + row)
    assert [s.id for s in read_rows(path)] == ["mine:1", "mine:4"]


def test_line_separators_within_text(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps(ROW | {"question": "one\u2028two\u0085three"}, ensure_ascii=False), ROW)
    assert [s.question for s in read_rows(path)] == ["one\u2028two\u0085three", ROW["question"]]


# What is refused


def test_file_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot read" in refused(tmp_path / "no.jsonl")
    assert "cannot read" in refused(tmp_path)


@pytest.mark.parametrize("content", ["", "\n \n", "\ufeff"])
def test_no_rows(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.jsonl").write_text(content, encoding="utf-8")
    assert "has no rows" in refused(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    "line",
    ["{", "hello", '{"question": "a", "answer": NaN}', "{'question': 'a'}", '{"answer": ' + "9" * 5_000 + "}", "[" * 100_000],
)
def test_not_json(tmp_path: Path, line: str) -> None:
    assert refused(write(tmp_path, ROW, "", line)).startswith(":3: not valid JSON (")


@pytest.mark.parametrize("line", ["[]", "5", '"text"', "null", "true"])
def test_not_an_object(tmp_path: Path, line: str) -> None:
    assert "not a JSON object" in refused(write(tmp_path, line))


@pytest.mark.parametrize("codec", ["latin-1", "utf-16", "utf-16-le"])
def test_not_utf8(tmp_path: Path, codec: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(('{"question": "Wie heißt es, "answer": "Tür"}').encode(codec))
    text = refused(tmp_path / "a.jsonl")
    assert text.startswith(":1: not")
    assert "UTF-8" in text or codec == "utf-16-le"


@pytest.mark.parametrize("field", ["question", "answer"])
def test_missing_and_empty(tmp_path: Path, field: str) -> None:
    row = {name: text for name, text in ROW.items() if name != field}
    assert refused(write(tmp_path, ROW, row)).startswith(f":2: {field} is missing; add the field (the row has '")
    assert f"{field} is missing" in refused(write(tmp_path, row | {field: None}))
    for empty in ("", " \n"):
        assert f":1: {field} is empty" in refused(write(tmp_path, row | {field: empty}))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("question", 5),
        ("question", ["a"]),
        ("question", "half \ud800"),
        ("answer", True),
        ("answer", False),
        ("answer", ["5"]),
        ("answer", {"a": 1}),
        ("answer", "\udfff"),
        ("id", True),
        ("id", ""),
        ("id", [1]),
        ("image", 5),
        ("image", ["a.png"]),
        ("image", ""),
        ("images", "a.png"),
        ("images", [5]),
        ("images", [None]),
        ("images", {"a": "b"}),
        ("rationale", 5),
        ("kind", ["a"]),
        ("facts", "tea 5"),
        ("facts", 5),
        ("facts", ["tea"]),
        ("facts", [["tea"]]),
        ("facts", [["tea", 5, 6]]),
        ("facts", [{"subject": "tea"}]),
        ("facts", {"tea": True}),
        ("facts", {"tea": None}),
        ("facts", {"tea": [5]}),
        ("facts", {"": 5}),
    ],
)
def test_wrong_types(tmp_path: Path, field: str, value: Any) -> None:
    assert refused(write(tmp_path, ROW, ROW | {field: value})).startswith(f":2: {field}")


def test_number_beyond_range(tmp_path: Path) -> None:
    assert "beyond the range" in refused(write(tmp_path, '{"question": "a", "answer": 1e999}'))


def test_image_and_images(tmp_path: Path) -> None:
    assert "both image and images" in refused(write(tmp_path, ROW | {"image": "a.png", "images": ["b.png"]}))


def test_duplicate_ids(tmp_path: Path) -> None:
    text = refused(write(tmp_path, ROW | {"id": "x"}, ROW, ROW | {"id": "x"}))
    assert text.startswith(":3: id 'x' is also that of line 1")
    assert "also that of line 1" in refused(write(tmp_path, ROW | {"id": 7}, ROW | {"id": "7"}))
    assert "also that of line 1" in refused(write(tmp_path, ROW | {"id": "train:2"}, ROW))


# Splits


def ids(config: TaskConfig, split: Split) -> list[str]:
    return [s.id for s in load(config, split)]


@pytest.mark.parametrize(("rows", "held_out"), [(2, 1), (9, 1), (25, 2), (40, 4)])
def test_last_tenth_is_validation(tmp_path: Path, rows: int, held_out: int) -> None:
    config = TaskConfig(train=str(write(tmp_path, *[ROW | {"id": k} for k in range(rows)])))
    assert ids(config, "train") == [str(k) for k in range(rows - held_out)]
    assert ids(config, "validation") == [str(k) for k in range(rows - held_out, rows)]


def test_one_row_cannot_be_both(tmp_path: Path) -> None:
    config = TaskConfig(train=str(write(tmp_path, ROW)))
    for split in ("train", "validation"):
        with pytest.raises(DataError, match="set task.validation"):
            load(config, split)


def test_files_of_their_own(tmp_path: Path) -> None:
    names: tuple[Split, ...] = ("train", "validation", "test")
    train, validation, test = (str(write(tmp_path, *[ROW] * (k + 1), name=f"{name}.jsonl")) for k, name in enumerate(names))
    config = TaskConfig(train=train, validation=validation, test=test)
    assert [len(load(config, name)) for name in names] == [1, 2, 3]


def test_sizes_cap_and_zero_is_all(tmp_path: Path) -> None:
    file = str(write(tmp_path, *[ROW] * 30))
    capped = TaskConfig(train=file, test=file, train_size=5, validation_size=2, test_size=3)
    assert [ids(capped, "train")[-1], ids(capped, "validation")[-1], ids(capped, "test")[-1]] == ["train:5", "train:29", "train:3"]
    whole = TaskConfig(train=file, test=file, train_size=0, validation_size=0, test_size=0)
    assert [len(ids(whole, "train")), len(ids(whole, "validation")), len(ids(whole, "test"))] == [27, 3, 30]


@pytest.mark.parametrize(("split", "key"), [("train", "task.train"), ("validation", "task.train"), ("test", "task.test")])
def test_no_file_for_a_split(split: Split, key: str) -> None:
    with pytest.raises(DataError, match=f"no {split} data; set {key}"):
        load(TaskConfig(), split)


def test_impossible_file_name() -> None:
    with pytest.raises(DataError, match="cannot read the data"):
        load(TaskConfig(test="a\0b"), "test")


# Pictures


def test_good_pictures_are_loaded_relative_to_the_file(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "a.png")
    rows = load(TaskConfig(test=str(write(tmp_path, ROW | {"image": "images/a.png"}))), "test")
    assert rows[0].images[0].load().getpixel((0, 0)) == (10, 20, 30)


def test_first_bad_picture_is_named_and_the_others_counted(tmp_path: Path) -> None:
    picture(tmp_path / "good.png")
    (tmp_path / "zero.png").touch()
    cut = picture(tmp_path / "cut.png")
    cut.write_bytes(cut.read_bytes()[:50])
    names = ["good.png", "zero.png", "cut.png", "zero.png", "missing.png", "a\0b.png"]
    path = write(tmp_path, *[ROW | {"image": name, "id": k} for k, name in enumerate(names)])
    with pytest.raises(DataError) as caught:
        load(TaskConfig(test=str(path)), "test")
    text = str(caught.value)
    assert text.startswith(f"{path}:2 (id 1): image ")
    assert "is empty (0 bytes)" in text
    assert text.endswith("(3 more of 5 images cannot be used)")
    assert "\n" not in text


def test_pictures_outside_the_split_are_not_opened(tmp_path: Path) -> None:
    path = write(tmp_path, ROW, ROW | {"image": "missing.png"})
    assert len(load(TaskConfig(test=str(path), test_size=1), "test")) == 1
    assert len(load(TaskConfig(train=str(path)), "train")) == 1
    with pytest.raises(DataError, match="does not exist.*remove the row$"):
        load(TaskConfig(train=str(path)), "validation")


def test_id_with_a_line_break_keeps_the_message_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, ROW | {"image": "missing.png", "id": "a\nb"})
    with pytest.raises(DataError) as caught:
        load(TaskConfig(test=str(path)), "test")
    assert "\n" not in str(caught.value)


# The dictionary of tasks


def test_tasks() -> None:
    names = ["charts", "jsonl", "chartqa", "slake", "vqa_rad", "geometry", "aokvqa", "gsm8k", "tabmwp"]
    assert [(name, task.name) for name, task in TASKS.items()] == [(name, name) for name in names]
    assert {name for name, task in TASKS.items() if task.tolerance} == {"jsonl", "chartqa"}
    assert TASKS["jsonl"].tolerance == TASKS["chartqa"].tolerance == 0.05
    for task in TASKS.values():
        assert "\n" not in task.summary + task.metric + task.status


def test_charts_sizes() -> None:
    config = TaskConfig(train_size=3, validation_size=0, test_size=2, traces="high", seed=5)
    assert charts.load(config, "train") == charts.samples("train", 3, traces="high", seed=5)
    assert len(charts.load(config, "validation")) == 300
    assert [s.id for s in charts.load(config, "test")] == ["charts/test/5/0", "charts/test/5/1"]


def test_tasks_need_no_torch() -> None:
    for module in ("dyme.tasks", "dyme.tasks.charts.traces"):  # each first, in a fresh process: no circular import either
        subprocess.run([sys.executable, "-c", f"import sys, {module}; sys.exit('torch' in sys.modules)"], check=True)


# Real data


@pytest.mark.skipif(not DATA.is_dir(), reason=f"real data are not in {DATA}; they are not part of the repository")
@pytest.mark.parametrize(
    ("name", "rows", "images"),
    [("chartqa", 939, 1), ("vqa_rad", 863, 1), ("geometry3k", 200, 1), ("tabmwp", 160, 1), ("gsm8k", 240, 0)],
)
def test_real_rows(name: str, rows: int, images: int) -> None:
    folder = DATA / name
    config = TaskConfig(train=str(folder / "train.jsonl"), validation=str(folder / "eval.jsonl"), train_size=0)
    samples = load(config, "train")
    assert len(samples) == rows
    assert all(len(s.images) == images and s.question and s.answer for s in samples)
    assert all((s.rationale is not None) == (name == "gsm8k") for s in samples)
    if images:
        keys = {s.images[0].key for s in samples}
        assert len(keys) <= len({s.images[0] for s in samples})
        assert samples[0].images[0].load().mode == "RGB"
