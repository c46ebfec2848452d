"""JSON-lines files of rows in the fields of `jsonl.py`, as samples: each field checked, each fault named with its line."""

from __future__ import annotations

import json
import logging
import math
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, get_args

from dyme.config import TaskConfig
from dyme.data import choices as options
from dyme.data.formats.files import READERS, format_of
from dyme.data.layouts import NOTES, Split
from dyme.data.pictures import embedded
from dyme.data.placeholders import AROUND, WITHIN, in_words
from dyme.errors import LONGEST, DataError, quoted
from dyme.pictures import CHECK_THREADS, ImageFile, Picture
from dyme.types import AnswerKind, Fact, Sample

Normaliser = Callable[[dict[str, Any], str], dict[str, Any]]
"""(row in another data set's fields, place to name in messages) -> row in the fields of `jsonl.py`."""
MANIFEST = "prepared.json"
"""The file that names the source of a prepared folder (`prepare.py`)."""
FIELDS = (
    "id", "question", "answer", "image", "images", "rationale", "facts", "choices", "answers", "answer_kind", "unit", "kind",
)  # fmt: skip
"""The fields that a row may have; others are ignored."""
KINDS: tuple[AnswerKind, ...] = get_args(AnswerKind)
EXAMPLE = '{"question": "...", "answer": "...", "image": "images/1.png"}'
_PICTURE_NAME = re.compile(r"image|img|pic|photo|figure|file|path|screenshot", re.IGNORECASE)
_NOUNS = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
_log = logging.getLogger(__name__)


class EmbeddedPicture(DataError):
    """Error: a row holds a picture itself rather than the name of its file; the caller then prepares the file."""


def read_rows(path: Path, normalise: Normaliser | None = None) -> list[Sample]:
    """Return all rows of a file as samples, in order; pictures are named, not opened. JSON lines are checked most closely.

    `normalise` is for rows in another data set's fields; rows of a folder that `dyme prepare` made are normalised already.

    Raises DataError, one line that names file and line, for a file that cannot be read, has no rows or is not UTF-8, and for
    a row that is not a JSON object, lacks question or answer, has a field of the wrong type, names a picture in a field that is
    not read, or repeats an id.
    """
    normalise = None if is_prepared(path) else normalise
    rows: list[Sample] = []
    places: dict[str, str] = {}
    notes: Counter[str] = Counter()
    for place, where, given in _rows_in(path):
        named = normalise(given, where) if normalise else given
        notes.update(named.pop(NOTES, ()))
        row, more = in_words(named, where)
        notes.update(more)
        sample = sample_of(row, path.parent, where, f"{path.stem}:{place}")
        check_named(row, where)
        if sample.id in places:
            raise DataError(f"{where}: id {quoted(sample.id)} is also that of line {places[sample.id]}; give each row its own, or none")
        places[sample.id] = place
        rows.append(sample)
    if not rows:
        raise DataError(f"{path}: has no rows; write one JSON object a line: {EXAMPLE}")
    for note in notes_of(notes):
        _log.warning("%s: %s", path, note)
    return rows


def notes_of(counts: Mapping[str, int]) -> list[str]:
    """Return notes on rows for the user, each with the number of rows that it is about."""
    return [f"{count} {note}" if note in (AROUND, WITHIN) else f"{note} ({count} rows)" for note, count in counts.items()]


def _rows_in(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each row of a file with its line or number, and its place for messages."""
    try:
        if (form := format_of(path)) != "lines":
            for key, row in READERS[form](path, path.parent):
                yield key, f"{path}:{key}" if form == "delimited" else f"{path}, row {key}", row
            return
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        if isinstance(error, DataError):
            raise
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise DataError(f"{path}: cannot read the data ({reason}){_from_here(path)}; name an existing file of rows") from error
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            yield str(number), f"{path}:{number}", _parse(line, f"{path}:{number}")


def _from_here(path: Path) -> str:
    """Return the folder in which a relative path was looked for, for messages."""
    return "" if path.is_absolute() else f" from the working directory {Path.cwd()}"


def load(config: TaskConfig, split: Split, normalise: Normaliser | None = None) -> list[Sample]:
    """Return the samples of a split, at most `config.<split>_size` of them (0: all), in the file's order, every picture checked.

    Without `task.validation`, and without validation.jsonl beside a prepared training file, the training file's last tenth (at
    least one row) is the validation split and is left out of training; keep rows about one picture together there, so that the
    splits share at most one picture (`dyme prepare` shares none).
    Raises DataError for what `read_rows` refuses, for a split without a file, and for pictures that cannot be used.
    """
    size = {"train": config.train_size, "validation": config.validation_size, "test": config.test_size}[split]
    validation = config.validation or _beside(config.train)
    file = {"train": config.train, "validation": validation or config.train, "test": config.test}[split]
    if not file:
        key = "test" if split == "test" else "train"
        raise DataError(
            f"task {config.name} has no {split} data; set task.{key} to a file of rows, e.g. --task.{key} my/{key}.jsonl, or task.path; "
            "in Python, samples may be given" + (", or take the validation split" if split == "test" and has_validation(config) else "")
        )
    prepared = is_prepared(Path(file))
    if split == "validation" and prepared and not validation:
        raise DataError(f"{file}: was prepared without validation rows; set task.validation to a file of its own")
    rows = read_rows(Path(file), normalise)
    rows = rows if split == "test" or validation or prepared else _part(rows, split, file)
    rows = rows[:size] if size else rows
    check_images(rows, decode=not prepared)
    return rows


def has_validation(config: TaskConfig) -> bool:
    """Return whether there are rows for validation: a file of them, or a training file whose last tenth is used."""
    file = Path(config.train)
    return bool(config.validation or _beside(config.train)) or (bool(config.train) and not is_prepared(file))


def _beside(train: str) -> str:
    """Return the file of validation rows that were prepared with the training file, or ""."""
    file = Path(train).with_name("validation.jsonl") if train else Path()
    return str(file) if is_prepared(file) and file.is_file() else ""


def is_prepared(file: Path) -> bool:
    """Return whether `file` lies in a folder that `dyme prepare` made: its rows need no normaliser, its pictures have been decoded once."""
    return (file.parent / MANIFEST).is_file()


def check_images(rows: Sequence[Sample], *, decode: bool = True) -> None:
    """Check every picture file that `rows` name, once each, and raise DataError for the first bad one, with the number of others.

    Without `decode` a file only has to exist and not be empty.
    """
    files = list(dict.fromkeys(image for row in rows for image in row.images if isinstance(image, ImageFile)))
    with ThreadPoolExecutor(min(CHECK_THREADS, os.cpu_count() or 1)) as pool:
        faults = [fault for fault in pool.map(lambda image: fault_of(image, decode=decode), files) if fault is not None]
    if faults:
        others = f" ({len(faults) - 1} more of {len(files)} images cannot be used)" if len(faults) > 1 else ""
        raise DataError(f"{faults[0]}{others}") from faults[0]


def fault_of(image: ImageFile, *, decode: bool = True) -> DataError | None:
    """Return the fault of a picture file, or None."""
    try:
        image.check() if decode else image.find()
    except DataError as error:
        return error
    return None


def _part(rows: list[Sample], split: Split, file: str) -> list[Sample]:
    """Return the first nine tenths of the rows for training, the last tenth for validation."""
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


def check_named(row: Mapping[str, Any], where: str) -> None:
    """Raise DataError for a row whose picture is in a field of another name, since its question would be asked without a picture."""
    if row.get("image") is not None or row.get("images") is not None:
        return
    for name, value in row.items():
        one = value[0] if isinstance(value, list) and value else value
        stored = isinstance(one, dict) and {"bytes", "path"} <= one.keys()  # the datasets library's form
        loaded = stored or isinstance(one, Picture)
        if name not in FIELDS and (loaded or (isinstance(one, str) and embedded.NAME.search(one) and _PICTURE_NAME.search(name))):
            raise DataError(f"{where}: has no image, but its field {quoted(name)} looks like one; name that field image, or remove it")


def sample_of(row: Mapping[str, Any], folder: Path, where: str, name: str) -> Sample:
    """Return the sample that `row` describes; its pictures lie in `folder`, and `name` is its id unless it has one.

    Raises DataError, one line that begins with `where`, for what `read_rows` refuses of a row.
    """
    given = {key: value for key, value in row.items() if value is not None}
    answers = _texts(given.get("answers", []), f"{where}: answers")
    if answers and "answer" not in given:
        given["answer"] = Counter(answers).most_common(1)[0][0]
    for key in ("question", "answer"):
        if key not in given:
            raise DataError(f"{where}: {key} is missing; add the field (the row has {_listed(row)})")
    name = _scalar(given["id"], f"{where}: id") if "id" in given else name
    label = f"{where} (id {name if name.isprintable() and len(name) <= LONGEST else quoted(name)})"
    choices = options.unlettered(_texts(given.get("choices", []), f"{where}: choices"))
    kind = _answer_kind(given, where, choices, answers)
    return Sample(
        id=name,
        question=options.shown(checked_text(given["question"], f"{where}: question"), choices),
        answer=_answer(given["answer"], where, kind, choices),
        images=_images(given, folder, label, where),
        rationale=checked_text(given.get("rationale", ""), f"{where}: rationale", empty=True) or None,
        facts=_facts(given.get("facts", ()), f"{where}: facts"),
        kind=checked_text(given.get("kind", ""), f"{where}: kind", empty=True),
        answer_kind=kind,
        answers=tuple(answers),
        choices=tuple(choices),
        unit=checked_text(given.get("unit", ""), f"{where}: unit", empty=True),
    )


def _answer_kind(row: Mapping[str, Any], where: str, choices: list[str], answers: list[str]) -> AnswerKind:
    """Return the answer kind that the row names, else the one that follows from its choices or answers."""
    implied: AnswerKind = "choice" if choices else "vqa" if answers else "auto"
    kind = row.get("answer_kind", implied)
    if kind not in KINDS:
        raise DataError(f"{where}: answer_kind is {quoted(kind)}; choose from {', '.join(KINDS)}")
    for name, field, given in (("choice", "choices", choices), ("vqa", "answers", answers)):
        if kind == name and not given:
            raise DataError(f"{where}: answer_kind {name} needs {field}; add a list of texts")
        if kind != name and given:
            raise DataError(f"{where}: {field} go with answer_kind {name}, not with {kind}; remove one of the two")
    return kind  # type: ignore[no-any-return]


def _answer(value: object, where: str, kind: AnswerKind, choices: list[str]) -> str:
    answer = _scalar(value, f"{where}: answer")
    if kind == "yes_no" and answer.rstrip(".").casefold() not in ("yes", "no"):
        raise DataError(f"{where}: answer {quoted(answer)} is neither yes nor no; correct it, or use another answer_kind")
    if kind == "number" and not any(character.isdigit() for character in answer):
        raise DataError(f"{where}: answer {quoted(answer)} is no number; correct it, or use another answer_kind")
    if kind != "choice":
        return answer
    try:
        return options.letter_of(answer, choices)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from error


def _texts(value: object, where: str) -> list[str]:
    """Return a list of texts or numbers as texts; of choices at most one for each letter."""
    if not isinstance(value, list):
        raise DataError(f"{where} is {_noun(value)}; write a list of texts")
    if where.endswith("choices") and value and not 2 <= len(value) <= len(options.LETTERS):
        raise DataError(f"{where} has {len(value)} entries; write 2 to {len(options.LETTERS)}")
    return [_scalar(entry, f"{where}: entry {k}") for k, entry in enumerate(value, start=1)]


def checked_text(value: object, where: str, *, empty: bool = False) -> str:
    """Return text without surrounding white space. Raises DataError for another type, a lone surrogate, and, unless `empty`, no text."""
    if not isinstance(value, str):
        raise DataError(f"{where} is {_noun(value)}; write text in quotes")
    if not value.strip() and not empty:
        raise DataError(f"{where} is empty; fill it in, or remove the row")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise DataError(f"{where} has half a character (a lone surrogate such as \\ud800); write the text again")
    return value.strip()


def _scalar(value: object, where: str) -> str:
    """Return text or a finite number as text; true and false are refused, as they answer no question."""
    if isinstance(value, str):
        return checked_text(value, where)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{where} is {_noun(value)}; write a number, or text in quotes")
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"{where} is beyond the range of numbers; write it as text in quotes")
    return str(value)


def _noun(value: object) -> str:
    return _NOUNS.get(type(value), "null")


def _images(row: Mapping[str, Any], folder: Path, label: str, where: str) -> tuple[ImageFile, ...]:
    """Return the picture files that a row names. Raises EmbeddedPicture for a picture within the row itself."""
    if "image" in row and "images" in row:
        raise DataError(f"{where}: has both image and images; keep one of them")
    names = row.get("images", [row["image"]] if "image" in row else [])
    if not isinstance(names, list):
        raise DataError(f"{where}: images is {_noun(names)}; write a list of paths")
    field = "images" if "images" in row else "image"
    files = []
    for name in names:
        if embedded.is_embedded(name):
            raise EmbeddedPicture(f"{where}: {field} holds a picture itself ({quoted(name)}); dyme prepare writes each as a file")
        text = checked_text(name, f"{where}: {field}")
        try:
            embedded.refuse_address(text)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        files.append(ImageFile(folder / text, label))
    return tuple(files)


def _listed(row: Mapping[str, Any]) -> str:
    """Return the names of a row's first twenty fields, for messages."""
    names = [quoted(name) for name in row]
    return ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "") if names else "none"


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
