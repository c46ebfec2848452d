"""Your own data: one JSON object a line, pictures in files beside it.

One row of train.jsonl, on one line in the file:

    {"id": "till-7", "image": "images/till_7.png", "question": "What does the jam cost?", "answer": "3.20", "kind": "read",
     "facts": {"tea": "1.80", "jam": "3.20"}, "rationale": "The receipt lists jam at 3.20."}

question   required text
answer     required text or number
image      path of a picture, relative to the JSON-lines file's folder or absolute; images: a list of them; neither: text only
rationale  a reference thinking trace without the answer marker, if you have one
facts      what the picture shows: {name: value, ...}, [[name, value], ...] or [{"subject": name, "value": value}, ...]
kind       question type, for breakdowns
id         text or number, unique in the file; by default the file's name and the line, "train:12"

Other fields are ignored, and null is the same as leaving a field out. Text is taken without surrounding white space.

Licence: your data's. Metric: exact match; numbers within 5 %, as ChartQA's relaxed accuracy (Masry et al., 2022).
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

from dyme.config import TaskConfig
from dyme.errors import DataError
from dyme.tasks.image_file import ImageFile
from dyme.tasks.task import Split, Task
from dyme.types import Fact, Sample

Normaliser = Callable[[dict[str, Any], str], dict[str, Any]]
EXAMPLE = '{"question": "...", "answer": "...", "image": "images/1.png"}'
CHECK_THREADS = 4
"""Pictures decoded at a time when a split is checked, at most: the largest that are allowed take about 1 GB each meanwhile."""
_NOUNS = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}


def read_rows(path: Path, normalise: Normaliser | None = None) -> list[Sample]:
    """All rows of a JSON-lines file, in order; pictures are named, not opened.

    `normalise` turns a row in another data set's fields, and the place to name in messages, into one in this file's fields.

    Raises DataError, one line that names file and line, for a file that cannot be read, has no rows or is not UTF-8, and for
    a row that is not a JSON object, lacks question or answer, has a field of the wrong type, or repeats an id.
    """
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"{path}: cannot read the data ({reason}); name an existing JSON-lines file") from error
    rows: list[Sample] = []
    lines: dict[str, int] = {}
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        row = _parse(line, where)
        sample = _sample(normalise(row, where) if normalise else row, path, number)
        if sample.id in lines:
            raise DataError(f"{where}: id {sample.id!r} is also that of line {lines[sample.id]}; give each row its own, or none")
        lines[sample.id] = number
        rows.append(sample)
    if not rows:
        raise DataError(f"{path}: has no rows; write one JSON object a line: {EXAMPLE}")
    return rows


def load(config: TaskConfig, split: Split, normalise: Normaliser | None = None) -> list[Sample]:
    """Samples of a split, at most `config.<split>_size` of them (0: all), in the file's order, every picture checked.

    Without `task.validation` the training file's last tenth (at least one row) is the validation split and is left out of
    training; keep rows about one picture together there, so that the splits share at most one.
    Raises DataError for what `read_rows` refuses, for a split without a file, and for pictures that cannot be used.
    """
    size = {"train": config.train_size, "validation": config.validation_size, "test": config.test_size}[split]
    rows = _split_rows(config, split, normalise)
    rows = rows[:size] if size else rows
    check_images(rows)
    return rows


def check_images(rows: Sequence[Sample]) -> None:
    """Decode every picture file that `rows` name, once each, and raise DataError for the first bad one, counting the others."""
    files = list(dict.fromkeys(image for row in rows for image in row.images if isinstance(image, ImageFile)))
    with ThreadPoolExecutor(min(CHECK_THREADS, os.cpu_count() or 1)) as pool:
        faults = [fault for fault in pool.map(_fault, files) if fault is not None]
    if faults:
        others = f" ({len(faults) - 1} more of {len(files)} images cannot be used)" if len(faults) > 1 else ""
        raise DataError(f"{faults[0]}{others}") from faults[0]


def _fault(image: ImageFile) -> DataError | None:
    try:
        image.check()
    except DataError as error:
        return error
    return None


def _split_rows(config: TaskConfig, split: Split, normalise: Normaliser | None) -> list[Sample]:
    file = {"train": config.train, "validation": config.validation or config.train, "test": config.test}[split]
    if not file:
        key = "test" if split == "test" else "train"
        raise DataError(f"task {config.name} has no {split} data; set task.{key} to a JSON-lines file, e.g. --task.{key} my/{key}.jsonl")
    rows = read_rows(Path(file), normalise)
    if split == "test" or config.validation:
        return rows
    held_out = max(1, len(rows) // 10)
    if held_out == len(rows):
        raise DataError(f"{file}: one row cannot be both training and validation data; add rows or set task.validation")
    return rows[:-held_out] if split == "train" else rows[-held_out:]


def _parse(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode("utf-8"), parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 text (byte {error.start + 1} of the line); save the file as UTF-8") from error
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not valid JSON ({error.msg}, column {error.colno}); write one object a line: {EXAMPLE}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not valid JSON ({error}); write one object a line: {EXAMPLE}") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: {_noun(row)}, not a JSON object; write one object a line: {EXAMPLE}")
    return row


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _sample(row: dict[str, Any], path: Path, number: int) -> Sample:
    where = f"{path}:{number}"
    given = {name: value for name, value in row.items() if value is not None}
    for name in ("question", "answer"):
        if name not in given:
            raise DataError(f"{where}: {name} is missing; add the field (the row has {', '.join(map(repr, row)) or 'none'})")
    name = _scalar(given["id"], f"{where}: id") if "id" in given else f"{path.stem}:{number}"
    label = f"{where} (id {name if name.isprintable() else repr(name)})"
    return Sample(
        id=name,
        question=_text(given["question"], f"{where}: question"),
        answer=_scalar(given["answer"], f"{where}: answer"),
        images=_images(given, path.parent, label, where),
        rationale=_text(given.get("rationale", ""), f"{where}: rationale", empty=True) or None,
        facts=_facts(given.get("facts", ()), f"{where}: facts"),
        kind=_text(given.get("kind", ""), f"{where}: kind", empty=True),
    )


def _text(value: object, where: str, *, empty: bool = False) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where} is {_noun(value)}; write text in quotes")
    if not value.strip() and not empty:
        raise DataError(f"{where} is empty; fill it in, or remove the row")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(f"{where} has half a character (a lone surrogate such as \\ud800); write the text again")
    return value.strip()


def _scalar(value: object, where: str) -> str:
    """Text or a finite number as text; true and false are neither, as no one answers a question with them."""
    if isinstance(value, str):
        return _text(value, where)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{where} is {_noun(value)}; write a number, or text in quotes")
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{where} is beyond the range of numbers; write it as text in quotes")
    return str(value)


def _noun(value: object) -> str:
    return _NOUNS.get(type(value), "null")


def _images(row: dict[str, Any], folder: Path, label: str, where: str) -> tuple[ImageFile, ...]:
    if "image" in row and "images" in row:
        raise DataError(f"{where}: has both image and images; keep one of them")
    names = row.get("images", [row["image"]] if "image" in row else [])
    if not isinstance(names, list):
        raise DataError(f"{where}: images is {_noun(names)}; write a list of paths")
    field = "images" if "images" in row else "image"
    return tuple(ImageFile(folder / _text(name, f"{where}: {field}"), label) for name in names)


def _facts(value: object, where: str) -> tuple[Fact, ...]:
    pairs: list[Any] = list(value.items()) if isinstance(value, dict) else list(value) if isinstance(value, (list, tuple)) else [value]
    facts = []
    for k, pair in enumerate(pairs, start=1):
        if isinstance(pair, dict) and {"subject", "value"} <= pair.keys():
            pair = (pair["subject"], pair["value"])
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise DataError(f'{where} are not pairs; write {{"name": "value"}} or [["name", "value"]]')
        facts.append(Fact(_scalar(pair[0], f"{where}: name {k}"), _scalar(pair[1], f"{where}: value {k}")))
    return tuple(facts)


TASK = Task(
    name="jsonl",
    summary="your own questions, with or without pictures, one JSON object a line (set task.train and task.test)",
    metric="exact match, numbers within 5 %",
    tolerance=0.05,
    load=load,
)
