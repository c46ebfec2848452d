"""Files of rows: JSON lines, a JSON list, CSV, TSV, parquet. The error for any other format names it and says what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from dyme.data.formats.delimited import read_delimited
from dyme.data.formats.parquet import read_parquet
from dyme.data.layouts import Layout, Reader, Split, read_json, read_lines
from dyme.errors import DataError

Format = Literal["lines", "json", "delimited", "parquet"]
READERS: dict[Format, Reader] = {"lines": read_lines, "json": read_json, "delimited": read_delimited, "parquet": read_parquet}
ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
"""Endings of files that are looked for in a folder; a file named by the user may have any ending."""
_HEAD = 512
_LIST = re.compile(rb"\A\s*\[\s*\{")
_ARCHIVE = "unpack it and name the file or folder with the rows"
_OTHERS: tuple[tuple[int, bytes, str, str], ...] = (
    (257, b"ustar", "a tar archive", _ARCHIVE),
    (0, b"\x1f\x8b", "a gzip file", "gunzip it"),
    (0, b"7z\xbc\xaf", "a 7z archive", _ARCHIVE),
    (0, b"ARROW1", "an Arrow file", "name the folder that save_to_disk wrote, or save it as parquet"),
    (0, b"\xff\xff\xff\xff", "an Arrow stream", "name the folder that save_to_disk wrote, or save it as parquet"),
    (0, b"SQLite format 3", "an SQLite database", "export the table as CSV"),
    (0, b"\x89HDF", "an HDF5 file", "save the rows as CSV or parquet"),
    (0, b"%PDF", "a PDF document", "name a file with rows"),
    (0, b"\x80\x04", "a pickle", "save the rows as JSON lines or parquet"),
    (0, b"\x80\x05", "a pickle", "save the rows as JSON lines or parquet"),
    (0, b"\x89PNG", "a picture", "name the file with the rows, which name their pictures"),
    (0, b"\xff\xd8\xff", "a picture", "name the file with the rows, which name their pictures"),
)
"""Position of a format's signature, the signature, the format's name, and what to do."""


def format_of(file: Path) -> Format:
    """Return the format of a file, by its content and its name. Raises DataError, one line, for a file without readable rows."""
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"PK\x03\x04"):
        book = file.suffix.lower() in (".xlsx", ".ods")
        raise DataError(f"{file}: is {'a workbook; save the sheet as CSV, UTF-8' if book else 'a zip archive; ' + _ARCHIVE}")
    for start, mark, what, todo in _OTHERS:
        if head[start:].startswith(mark):
            raise DataError(f"{file}: is {what}; {todo}")
    ending = file.suffix.lower()
    if ending == ".parquet" and head:
        raise DataError(f"{file}: is no parquet file, whatever its name; fetch the file again")
    if ending in (".csv", ".tsv", ".tab"):
        return "delimited"
    return "json" if _LIST.match(head.removeprefix(b"\xef\xbb\xbf")) or (ending == ".json" and not _is_lines(file)) else "lines"


def read_file(file: Path, base: Path | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the rows of a file in any of the formats, each with its line, number or key."""
    return READERS[format_of(file)](file, base or file.parent)


def split_named(file: Path) -> Split:
    """Return the split that a file's name contains, as "test_rows.csv" or "val.json"; train if it contains none."""
    word = re.split(r"[^a-z]", file.stem.lower())[0]
    return "test" if word in ("test", "eval") else "validation" if word in ("validation", "validate", "val", "valid", "dev") else "train"


def _is_lines(file: Path) -> bool:
    """Return whether a file is JSON lines in spite of its name: its first line is a whole object that is a row, or another follows."""
    with file.open(encoding="utf-8-sig", errors="replace") as stream:
        lines = (line.strip() for line in stream if line.strip())
        first, second = next(lines, ""), next(lines, "")
    if second or not (first.startswith("{") and first.endswith("}")):
        return first.endswith("}") and second.startswith("{")
    try:
        return not all(isinstance(value, dict) for value in json.loads(first).values())
    except (ValueError, RecursionError):
        return True


def _metadata(file: Path, base: Path | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of an imagefolder's table; picture names are relative to the table's folder."""
    for key, row in read_file(file, base):
        name = row.pop("file_name", None)
        yield key, row | ({"image": str(file.parent / name)} if isinstance(name, str) and name.strip() else {})


def _names(*stems: str) -> tuple[str, ...]:
    return tuple(stem + ending for stem in stems for ending in ENDINGS[:-1])


ROWS = Layout(
    expects="train.jsonl, validation.jsonl and test.jsonl (one of them is enough; .json, .csv and .tsv too) beside images/",
    files={"train": _names("train"), "validation": _names("validation", "val", "dev"), "test": _names("test", "eval")},
    read=read_file,
)
"""The layout that every task takes: files of rows in the data set's fields or dyme's."""
_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
IMAGE_FOLDER = Layout(
    expects="metadata.csv or metadata.jsonl with a column file_name beside the pictures (imagefolder)",
    files={
        "train": tuple(f"{place}{name}" for name in _METADATA for place in ("", "train/")),
        "validation": tuple(f"{place}/{name}" for name in _METADATA for place in ("validation", "val", "dev")),
        "test": tuple(f"test/{name}" for name in _METADATA),
    },
    read=_metadata,
)
"""Pictures with a table about them, the layout of the datasets library's imagefolder."""
