"""Convert a published data set to a folder to train on: `dyme prepare`, and task.path where it names no prepared folder.

    train.jsonl  validation.jsonl  test.jsonl   rows in the fields of `jsonl.py` that the source has
    images/                                     their pictures, each decoded once as a check
    prepared.json                               the source, its fingerprint, and the dropped rows with reasons

Rows that cannot be used are left out and counted by reason; fields other than those of `jsonl.py` are left out too. If a source has no
validation split, the last tenth of its training pictures, with all rows about them, becomes one (the last tenth of its rows if it has no
pictures), so that no picture is in both. Work that an earlier call finished is not repeated: pictures that exist are kept, and if the
manifest exists nothing is read.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from dyme.config import TaskConfig
from dyme.data.layouts import NOTES, SPLITS, Raw, Split
from dyme.data.pictures.copies import Pictures
from dyme.data.placeholders import in_words
from dyme.data.published import Published
from dyme.data.rows import FIELDS, MANIFEST, check_named, notes_of, sample_of
from dyme.data.sources import Source, open_source
from dyme.errors import DataError, at, quoted
from dyme.pictures import ImageFile
from dyme.system import lock
from dyme.types import Sample
from dyme.verify.answers import fault
from dyme.verify.format import parse

MARK = "preparing"
"""File in a folder that is being prepared, or whose preparation was interrupted: the next call continues it."""
VERSION = 3
"""Version of the folder's format; folders of another version are prepared again."""
BATCH = 64
"""Number of rows whose pictures are checked at a time."""
EXAMPLES = 3
"""Number of rows named for each reason."""
LONGEST = 500
"""Most characters of the message about each of them."""
Progress = Callable[[str, int, int], None]


@dataclass(slots=True, kw_only=True)
class Dropped:
    """Rows left out for one reason."""

    count: int = 0
    examples: list[str] = field(default_factory=list)
    """Messages about the first of these rows."""


@dataclass(slots=True, kw_only=True)
class Report:
    """The report on a prepared folder: its rows and the dropped ones."""

    folder: Path
    rows: dict[Split, int]
    images: int = 0
    facts: int = 0
    """Number of rows with facts."""
    rationales: int = 0
    """Number of rows with a rationale."""
    kinds: dict[str, int] = field(default_factory=dict)
    """Number of rows of each answer kind."""
    dropped: dict[str, Dropped] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Further notes: splits left out or made."""
    already: bool = False
    """Whether the folder was prepared before this call."""


def default_folder(config: TaskConfig, source: str, limit: int = 0, split: Split | None = None) -> Path:
    """Return the folder where `source` is prepared unless another is named; the same source and settings give the same folder."""
    return Path(config.prepared) / f"{config.name}-{_digest(_key(config, source, limit, split))[:8]}"


def prepare(
    published: Published,
    config: TaskConfig,
    source: str,
    folder: Path | None = None,
    *,
    limit: int = 0,
    split: Split | None = None,
    progress: Progress | None = None,
) -> Report:
    """Prepare `source` for task `config.name` in `folder`, at most `limit` rows a split (0: all), and return the report.

    A folder that is prepared already is kept.

    `split` is the split of the rows of a source that has a single one.

    Raises DataError for a source that does not fit the task's layouts or of which no row can be used, and for a folder with other
    content.
    """
    folder = folder or default_folder(config, source, limit, split)
    opened = open_source(published, config, source)
    key, fingerprint = _key(config, source, limit, split), _digest({"version": VERSION, "files": opened.fingerprint})
    if found := _earlier(folder, key, fingerprint):
        return found
    with lock.hold(folder, wait=True), at(folder):
        if found := _earlier(folder, key, fingerprint):  # by the process that this one waited for
            return found
        (folder / MARK).touch()
        (folder / MANIFEST).unlink(missing_ok=True)
        for part in folder.rglob("*.part"):  # left by a process that was killed: no other runs now
            part.unlink()
        work = _Preparation(published, config, folder, limit)
        try:
            raws = opened.rows(work.full, streaming=bool(limit))
            if split and len(opened.splits) == 1:
                raws = (replace(raw, split=split) for raw in raws)
            work.run(raws, progress, opened.count() if progress and not limit else 0)
            report = work.finish(opened)
        finally:
            work.close()
        manifest = {"task": config.name, "key": key, "fingerprint": fingerprint, "report": asdict(report) | {"folder": ""}}
        _replace(folder / MANIFEST, json.dumps(manifest, indent=1))
        (folder / MARK).unlink(missing_ok=True)
    return report


def read_manifest(folder: Path) -> tuple[str, Report]:
    """Return the task that a folder was prepared for, and its report. Raises DataError if its manifest cannot be read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        report = manifest["report"]
        dropped = {reason: Dropped(**one) for reason, one in report.pop("dropped").items()}
        return manifest["task"], Report(**report | {"folder": folder, "dropped": dropped, "already": True})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / MANIFEST}: cannot be read; remove the folder and prepare it again") from error


class _Preparation:
    """One pass over the rows of a source."""

    def __init__(self, published: Published, config: TaskConfig, folder: Path, limit: int) -> None:
        self.published, self.config, self.limit = published, config, limit
        self.report = Report(folder=folder, rows={})
        self.pictures = Pictures(folder)
        self.ids: dict[Split, set[str]] = {split: set() for split in SPLITS}
        self.kinds: Counter[str] = Counter()
        self.notes: Counter[str] = Counter()
        self.files: dict[Split, TextIO] = {}

    def run(self, raws: Iterator[Raw], progress: Progress | None, total: int) -> None:
        """Write the rows as they come, their pictures checked a batch at a time."""
        done = 0
        while batch := list(islice(raws, BATCH)):
            rows = [(raw, row) for raw in batch if (row := self._normalised(raw)) is not None]
            self.pictures.place((picture, raw) for raw, row in rows for picture in _pictures(row))
            for raw, row in rows:
                self._write(raw, row)
            done += len(batch)
            if progress:
                progress("rows", done, total)

    def full(self, split: Split) -> bool:
        """Return whether a split has all the rows that are wanted; rows of an unfinished batch are not counted yet."""
        return bool(self.limit) and self.report.rows.get(split, 0) >= self.limit

    def _normalised(self, raw: Raw) -> dict[str, Any] | None:
        """Return the row in dyme's fields, checked except for its pictures, or None if it is dropped."""
        try:
            given = normalised(self.published, raw.row, raw.where, self.config)
            notes = [*given.pop(NOTES, ())]
            row, more = in_words(given, raw.where)
            sample = sample_of({name: value for name, value in row.items() if name not in ("image", "images")}, Path(), raw.where, raw.name)
            check_named(row, raw.where)
            self._check(sample, raw)
        except DataError as error:
            self._drop(raw, str(error))
            return None
        if sample.id in self.ids[raw.split]:
            self._drop(raw, f"{raw.where}: repeats the id of an earlier row; keep one of them")
            return None
        self.ids[raw.split].add(sample.id)
        self.notes.update([*notes, *more])
        known = {name: row[name] for name in FIELDS if row.get(name) is not None}
        return known | {"id": sample.id, "answer_kind": sample.answer_kind}

    def _check(self, sample: Sample, raw: Raw) -> None:
        """Raise DataError for a row that `verify.rules` or `supervise.target` would refuse, since it would stop any run.

        A test row's rationale is not trained on, so it may hold the marker.
        """
        marker = self.config.marker
        if trouble := fault(sample):
            raise DataError(f"{raw.where}: {trouble}")
        if reason := parse(f"{marker} {sample.answer}", marker=marker, min_thinking_words=0).reason:
            raise DataError(f"{raw.where}: answer {quoted(sample.answer)} cannot be given after the marker: {reason}; write it on one line")
        if raw.split == "train" and marker in (sample.rationale or ""):
            raise DataError(
                f"{raw.where}: the rationale holds the marker {quoted(marker)}; leave the answer out of it, or choose another task.marker"
            )

    def _write(self, raw: Raw, row: dict[str, Any]) -> None:
        if self.full(raw.split):
            return
        try:
            names = [self.pictures.name_of(picture, raw) for picture in _pictures(row)]
        except DataError as error:
            self.ids[raw.split].discard(row["id"])
            self._drop(raw, str(error))
            return
        row = {name: value for name, value in row.items() if name not in ("image", "images")}
        row |= {"image": names[0]} if len(names) == 1 else {"images": names} if names else {}
        if raw.split not in self.files:
            self.files[raw.split] = (self.report.folder / f"{raw.split}.{os.getpid()}.part").open("w", encoding="utf-8")
        self.files[raw.split].write(json.dumps(row, ensure_ascii=False) + "\n")
        self.report.rows[raw.split] = self.report.rows.get(raw.split, 0) + 1
        self.report.facts += bool(row.get("facts"))
        self.report.rationales += bool(row.get("rationale"))
        self.kinds[row["answer_kind"]] += 1

    def _drop(self, raw: Raw, message: str) -> None:
        entry = self.report.dropped.setdefault(_reason(message, raw.where), Dropped())
        entry.count += 1
        if len(entry.examples) < EXAMPLES:
            entry.examples.append(message if len(message) <= LONGEST else f"{message[:LONGEST]} ...")

    def finish(self, source: Source) -> Report:
        """Move the files to their places, make a validation split if there is none, and return the report."""
        report = self.report
        if not report.rows:
            reasons = "; ".join(f"{one.count} rows: {reason}" for reason, one in report.dropped.items())
            if not reasons:
                raise DataError(f"{source.shown}: has no rows for task {self.config.name}; {source.expects}")
            first = next(iter(report.dropped.values())).examples[0]
            raise DataError(f"{source.shown}: no row can be used for task {self.config.name} ({reasons}), e.g. {first}")
        report.images, report.kinds = self.pictures.count, dict(self.kinds)
        report.notes += source.notes
        report.notes += notes_of(self.notes)
        parts = {split: Path(stream.name) for split, stream in self.files.items()}
        for stream in self.files.values():
            stream.close()
        if "train" in parts and "validation" not in parts:
            parts |= self._split_off(parts["train"])
        for split in SPLITS:
            final = report.folder / f"{split}.jsonl"
            parts[split].replace(final) if split in parts else final.unlink(missing_ok=True)
        report.rows = {split: report.rows[split] for split in SPLITS if split in report.rows}
        missing = [split for split in SPLITS if split not in report.rows]
        report.notes += [f"there are no {' and no '.join(missing)} rows"] if missing else []
        return report

    def _split_off(self, file: Path) -> dict[Split, Path]:
        """Move the rows about the last tenth of the pictures from the training file to a validation file, and return both files.

        Pictures are compared by content: Geometry3K has the same diagram under many names.
        """
        groups: dict[str, int] = {}
        for number, row in enumerate(_read(file)):
            groups.setdefault(self._group(row, number), len(groups))
        first = len(groups) - max(1, len(groups) // 10)
        if first == 0:
            self.report.notes.append("no validation split: all training rows are about one picture")
            return {}
        held = file.with_name(f"validation.{os.getpid()}.part")
        kept = file.with_name(f"rest.{os.getpid()}.part")
        with kept.open("w", encoding="utf-8") as train, held.open("w", encoding="utf-8") as validation:
            for number, row in enumerate(_read(file)):
                split: Split = "train" if groups[self._group(row, number)] < first else "validation"
                (train if split == "train" else validation).write(json.dumps(row, ensure_ascii=False) + "\n")
                self.report.rows[split] = self.report.rows.get(split, 0) + (split == "validation")
                self.report.rows["train"] -= split == "validation"
        file.unlink()
        what = "pictures" if self.pictures.count else "rows"
        self.report.notes.append(f"validation: the last tenth of the training {what}, as the source has no such split")
        return {"train": kept, "validation": held}

    def _group(self, row: Mapping[str, Any], number: int) -> str:
        """Return the key of rows that stay together: their first picture."""
        names = _pictures(row)
        return ImageFile(self.report.folder / names[0]).key if names else str(number)

    def close(self) -> None:
        self.pictures.pool.shutdown()
        for stream in self.files.values():
            stream.close()
        folder = self.report.folder
        for part in folder.glob(f"*.{os.getpid()}.part"):
            part.unlink()
        if {file.name for file in folder.iterdir()} <= {MARK, lock.NAME}:
            (folder / MARK).unlink()


def normalised(published: Published, row: Mapping[str, Any], where: str, config: TaskConfig) -> dict[str, Any]:
    """Return a published row in the fields of `jsonl.py`. Raises DataError for an unusable row, and for a missing picture."""
    out = published.normalise(row, where, config)
    pictures = _pictures(out)
    if published.pictures and not pictures and not published.direct:
        raise DataError(f"{where}: has no picture, and {config.name} asks about pictures; name the picture, or use another task")
    if not published.pictures and pictures:
        raise DataError(f"{where}: has a picture, and {config.name} is text only; use another task, e.g. jsonl")
    return out


def _earlier(folder: Path, key: Mapping[str, Any], fingerprint: str) -> Report | None:
    """Return the report of an earlier call with the same source and settings, if any. Raises DataError if the folder has other content."""
    if not (folder / MANIFEST).exists():
        if folder.exists() and not folder.is_dir():
            raise DataError(f"{folder}: is not a folder; choose another")
        others = sorted(file.name for file in folder.iterdir() if file.name != lock.NAME) if folder.exists() else []
        if others and not (folder / MARK).exists():
            raise DataError(f"{folder}: holds other files ({others[0]}); choose another folder, or empty it")
        return None
    report = read_manifest(folder)[1]
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    if differing := [name for name, value in manifest["key"].items() if key.get(name) != value]:  # earlier versions had fewer
        raise DataError(f"{folder}: was prepared with another {' and '.join(differing)}; choose another folder, or remove this one")
    return report if manifest["fingerprint"] == fingerprint else None


def _key(config: TaskConfig, source: str, limit: int, split: Split | None) -> dict[str, Any]:
    """Return the settings that decide which rows result."""
    place = str(Path(source).resolve()) if Path(source).exists() else source
    settings = {"language": config.language, "form": config.form, "marker": config.marker} | ({"split": split} if split else {})
    return {"task": config.name, "source": place, "limit": limit, **settings}


def _reason(message: str, where: str) -> str:
    """Return the reason that many messages share: without the place, names, details in brackets, and what to do."""
    text = message.removeprefix(f"{where}: ").removeprefix(where)
    return re.sub(r" \([^)]*\)| '[^']*'| \"[^\"]*\"|(?<=entry )\d+", "", text).partition(";")[0].strip()


def _pictures(row: Mapping[str, Any]) -> Sequence[Any]:
    several = row.get("images")
    return several if isinstance(several, list) else [one] if (one := row.get("image")) else []


def _read(file: Path) -> Iterator[dict[str, Any]]:
    with file.open(encoding="utf-8") as stream:
        yield from map(json.loads, stream)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _replace(file: Path, text: str) -> None:
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)
