"""Published layouts: which files of a folder hold which split. Their rows are read one at a time.

A layout says where its annotation files lie, by patterns below the data set's folder. Files are read piece by piece, so that memory
does not grow with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TextIO

from dyme.errors import DataError, quoted

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
BLOCK = 1 << 16
"""Characters read at a time."""
_INK = re.compile(r"\S")


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """One published row, before it is normalised."""

    where: str
    """For messages: "train.json, row 12"."""
    row: dict[str, Any]
    name: str
    """Id for a row without one."""
    split: Split
    folders: tuple[Path, ...] = ()
    """Folders where its pictures may lie, the likeliest first."""


Reader = Callable[[Path, Path], Iterator[tuple[str, dict[str, Any]]]]
"""(annotation file, folder of the data set) -> (position or key, row) of each row; `SPLIT` in a row overrides the file's split."""
SPLIT = "dyme_split"
NOTES = "dyme_notes"
"""Key of a normalised row: its notes for the user, a tuple of texts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The place of the rows of a published data set."""

    expects: str
    """The files that it needs, for messages: "train.json beside imgs/"."""
    files: Mapping[Split, tuple[str, ...]]
    """Split -> patterns of its annotation files; the first that matches counts."""
    read: Reader
    mixed: bool = False
    """Whether a file holds rows of several splits."""

    def find(self, base: Path) -> dict[Split, list[Path]]:
        """Return each split's files in the folder `base`; empty if the folder does not have this layout."""
        return {split: files for split, patterns in self.files.items() if (files := _first(base, patterns))}

    def rows(self, base: Path, split: Split, file: Path) -> Iterator[Raw]:
        """Yield the rows of one annotation file. Raises DataError if its content does not fit its name."""
        shown = file.relative_to(base)
        for key, row in self.read(file, base):
            own: Split = row.pop(SPLIT, split)
            yield Raw(
                where=f"{shown}, row {key}", row=row, name=f"{_stem(shown)}-{key}", split=own, folders=(base, base / "images", file.parent)
            )


def read_json(file: Path, base: Path | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a JSON file, which is a list or an object of objects, as they are read: ("12", row) or (key, row)."""
    for key, row in _elements(file):
        if not isinstance(row, dict):
            raise DataError(f"{file}: entry {key} is not an object; this file is not an annotation file of the data set")
        yield key, row


def read_lines(file: Path, base: Path | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the objects of a JSON-lines file, ("12", row) for line 12."""
    with file.open(encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                row = _loads(line, f"{file}:{number}")
                if not isinstance(row, dict):
                    raise DataError(f"{file}:{number}: not a JSON object; this file is not an annotation file of the data set")
                yield str(number), row


def read_text(file: Path) -> str | None:
    """Return the text of a small file beside the rows, or None if there is no such file."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, UnicodeDecodeError):
        return None


def _loads(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON ({error}); fetch the file again") from error


def _elements(file: Path) -> Iterator[tuple[str, Any]]:
    """Keys and values of a top-level list (keys counted from 1) or object."""
    with file.open(encoding="utf-8-sig") as stream:
        window = _Window(stream, file)
        opened = window.sign()
        if opened not in ("[", "{"):
            raise DataError(f"{file}: neither a list nor an object; this file is not an annotation file of the data set")
        before, count = window.sign(), 0
        while before not in ("]", "}"):
            if before != ",":
                window.position -= 1
            count += 1
            key = str(count) if opened == "[" else str(window.value())
            if opened == "{" and window.sign() != ":":
                raise window.broken(f"no value for {quoted(key)}")
            yield key, window.value()
            before = window.sign()
            if before not in (",", "]", "}"):
                raise window.broken("no comma between entries")


class _Window:
    """A moving part of a JSON text."""

    def __init__(self, stream: TextIO, file: Path) -> None:
        self.stream, self.file = stream, file
        self.text, self.position = "", 0
        self.decode = json.JSONDecoder().raw_decode

    def more(self) -> bool:
        try:
            block = self.stream.read(BLOCK)
        except UnicodeDecodeError as error:
            raise self.broken("not UTF-8 text") from error
        self.text, self.position = self.text[self.position :] + block, 0
        return bool(block)

    def sign(self) -> str:
        """Return the next character that is not white space, and move past it; "" at the end of the file, where the file is faulty."""
        while True:
            found = _INK.search(self.text, self.position)
            if found:
                self.position = found.end()
                return found[0]
            self.position = len(self.text)
            if not self.more():
                raise self.broken("it ends too early")

    def value(self) -> Any:
        """Return the next value, and move past it; a number may continue beyond the window's edge, so the window is moved first."""
        self.sign()
        self.position -= 1
        while True:
            start = self.position
            try:
                found, end = self.decode(self.text, start)
            except RecursionError as error:
                raise self.broken("nested too deeply") from error
            except ValueError as error:
                if not self.more():
                    raise self.broken(str(error)) from error
                continue
            if end < len(self.text):
                self.position = end
                return found
            if not self.more():
                self.position = end - start
                return found

    def broken(self, reason: str) -> DataError:
        return DataError(f"{self.file}: not valid JSON ({reason}); fetch the file again")


def _first(base: Path, patterns: tuple[str, ...]) -> list[Path]:
    for pattern in patterns:
        if files := sorted((file for file in base.glob(pattern) if file.is_file()), key=_natural):
            return files
    return []


def _natural(file: Path) -> list[tuple[int, str]]:
    """ "9" before "10"."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", str(file))]


def _stem(shown: Path) -> str:
    return "/".join(shown.with_suffix("").parts)
