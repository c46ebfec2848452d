"""Published layouts: annotation files read piece by piece, folders recognised, broken files named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from published import dump, lines

from dyme.data import layouts as published
from dyme.data.formats.files import ROWS
from dyme.data.layouts import Layout, read_json, read_lines
from dyme.errors import DataError


def write(folder: Path, text: str) -> Path:
    file = folder / "rows.json"
    file.write_text(text, encoding="utf-8")
    return file


VALUES = [{"a": 1}, {"b": "x]},{", "c": [1, {"d": -2.5e3}]}, {}, {"é": 'quote " and \\ and 象', "n": None}]


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64, 1 << 16])
@pytest.mark.parametrize("indent", [None, 2])
def test_json_is_read_piece_by_piece(tmp_path: Path, block: int, indent: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "BLOCK", block)
    file = write(tmp_path, json.dumps(VALUES, indent=indent, ensure_ascii=False))
    assert list(read_json(file)) == [(str(k), value) for k, value in enumerate(VALUES, start=1)]
    keyed = {f"k{k}": value for k, value in enumerate(VALUES)}
    assert dict(read_json(write(tmp_path, "\ufeff" + json.dumps(keyed, indent=indent)))) == keyed


def test_no_more_than_a_window_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "BLOCK", 1000)
    rows = read_json(dump(tmp_path / "rows.json", [{"text": "x" * 100}] * 5000))
    longest = 0
    plain = published._Window.value

    def value(self: published._Window) -> object:
        nonlocal longest
        longest = max(longest, len(self.text))
        return plain(self)

    monkeypatch.setattr(published._Window, "value", value)
    assert sum(1 for _ in rows) == 5000
    assert 0 < longest < 3000


@pytest.mark.parametrize("text", ["[]", "{}", " [ ] "])
def test_empty(tmp_path: Path, text: str) -> None:
    assert list(read_json(write(tmp_path, text))) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "ends too early"),
        ("5", "neither a list nor an object"),
        ('"a"', "neither a list nor an object"),
        ('[{"a": 1}', "ends too early"),
        ('[{"a": 1', "not valid JSON"),
        ('[{"a": 1},]', "not valid JSON"),
        ('[{"a": 1} {"a": 2}]', "no comma"),
        ('{"a" {}}', "no value for 'a'"),
        ("[5]", "entry 1 is not an object"),
        ('{"a": [1]}', "entry a is not an object"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_broken_json(tmp_path: Path, text: str, reason: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(DataError, match=reason) as caught:
        list(read_json(file))
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_not_utf8(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_bytes(b'[{"a": "\xff"}]')
    with pytest.raises(DataError, match="not UTF-8"):
        list(read_json(file))


def test_lines(tmp_path: Path) -> None:
    assert list(read_lines(lines(tmp_path / "a.jsonl", [{"a": 1}, {"b": 2}]))) == [("1", {"a": 1}), ("2", {"b": 2})]
    (tmp_path / "b.jsonl").write_text('{"a": 1}\n\n[2]\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"b\.jsonl:3: not a JSON object"):
        list(read_lines(tmp_path / "b.jsonl"))
    (tmp_path / "c.jsonl").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match=r"c\.jsonl:1: not valid JSON"):
        list(read_lines(tmp_path / "c.jsonl"))


def test_a_folder_is_recognised(tmp_path: Path) -> None:
    lines(tmp_path / "train.jsonl", [{"a": 1}])
    lines(tmp_path / "val.jsonl", [{"a": 2}])
    found = ROWS.find(tmp_path)
    assert {split: [file.name for file in files] for split, files in found.items()} == {
        "train": ["train.jsonl"],
        "validation": ["val.jsonl"],
    }
    assert not ROWS.find(tmp_path.parent)


def test_files_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 100):
        dump(tmp_path / f"train/{number}/data.json", [{"n": number}])
    layout = Layout(expects="", files={"train": ("train/*/data.json",)}, read=read_json)
    rows = [row for file in layout.find(tmp_path)["train"] for row in layout.rows(tmp_path, "train", file)]
    assert [row.row["n"] for row in rows] == [9, 10, 100]
    assert (rows[0].where, rows[0].name, rows[0].split) == ("train/9/data.json, row 1", "train/9/data-1", "train")
