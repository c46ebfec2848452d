"""What a path or hub id turns out to be: one of the layouts that a task's data set is published in, or a data set of the hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dyme.config import TaskConfig
from dyme.errors import DataError
from dyme.tasks import hub_rows
from dyme.tasks.published import ROWS, Layout, Raw, Split
from dyme.tasks.rows import MANIFEST
from dyme.tasks.task import Published

Full = Callable[[Split], bool]
"""Whether a split has all the rows that are wanted."""


class Source(Protocol):
    """Rows to prepare."""

    shown: str
    """Its name, for messages."""
    expects: str
    """What the task's data set looks like, for messages."""
    notes: list[str]
    """What of it is left out."""

    @property
    def fingerprint(self) -> list[tuple[str, int, int]]:
        """Annotation files with their sizes and times; empty for the hub, whose id must do."""
        ...

    def count(self) -> int:
        """How many rows there are, for a progress bar; 0: not known beforehand."""
        ...

    def rows(self, full: Full, *, streaming: bool) -> Iterator[Raw]:
        """Its rows in order, those of full splits left out; `streaming` fetches no more than that from the hub."""
        ...


@dataclass(slots=True, kw_only=True)
class Folder:
    """A folder in a published layout."""

    shown: str
    expects: str
    layout: Layout
    base: Path
    files: dict[Split, list[Path]]
    notes: list[str] = field(default_factory=list)

    @property
    def fingerprint(self) -> list[tuple[str, int, int]]:
        """See `Source`."""
        return _stats(self.base, [file for files in self.files.values() for file in files])

    def count(self) -> int:
        """See `Source`; the annotation files are read once more for it, which pictures outweigh by far."""
        return sum(1 for files in self.files.values() for file in files for _ in self.layout.read(file, self.base))

    def rows(self, full: Full, *, streaming: bool) -> Iterator[Raw]:
        """See `Source`."""
        for split, files in self.files.items():
            for file in files:
                for raw in self.layout.rows(self.base, split, file):
                    if not full(raw.split):
                        yield raw
                    elif not self.layout.mixed:
                        break


@dataclass(slots=True, kw_only=True)
class Loaded:
    """What the datasets library loads."""

    shown: str
    expects: str
    configuration: str
    notes: list[str] = field(default_factory=list)

    @property
    def fingerprint(self) -> list[tuple[str, int, int]]:
        """See `Source`."""
        folder = Path(self.shown)
        files = [*folder.rglob("*.parquet"), *folder.rglob("*.arrow")] if folder.is_dir() else []
        return _stats(folder, sorted(files))

    def count(self) -> int:
        """See `Source`."""
        return 0

    def rows(self, full: Full, *, streaming: bool) -> Iterator[Raw]:
        """See `Source`."""
        folder = Path(self.shown)
        folders = (folder, folder / "images") if folder.is_dir() else ()
        for part in hub_rows.parts_of(self.shown, self.configuration, streaming=streaming):
            split = hub_rows.split_of(part.name)
            if split is None:
                self.notes.append(f"split {part.name} is left out: it is neither for training nor for validation nor a test")
                continue
            for raw in hub_rows.rows(part, split, folders):
                if full(split):
                    break
                yield raw


def open_source(published: Published, config: TaskConfig, source: str) -> Source:
    """The source that `source` names: a folder, or a hub id.

    Raises DataError, one line that says what was expected there, if it is neither.
    """
    expects = f"expected {'; or '.join(layout.expects for layout in (*published.layouts, ROWS))}; or parquet files, or a hub id"
    folder = Path(source)
    configuration = published.configurations.get(source.partition(":")[0], "")
    if hub_rows.is_id(source):
        return Loaded(shown=source, expects=expects, configuration=configuration)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist, and is no hub id (owner/name)"
        raise DataError(f"{source}: {what}; {expects}")
    if (folder / MANIFEST).is_file():
        raise _prepared(source, config.name)
    if hub_rows.is_saved(folder):
        return Loaded(shown=source, expects=expects, configuration=configuration)
    if found := _find((*published.layouts, ROWS), folder, config.name):
        layout, base, files = found
        return Folder(shown=source, expects=expects, layout=layout, base=base, files=files, notes=_told(folder, base))
    configuration = next(iter(published.configurations.values()), "")
    if parts := hub_rows.parquet_files(folder, configuration):
        base = Path(os.path.commonpath([file.parent for files in parts.values() for file in files]))
        notes = [] if base.parent == folder and base.name in ("data", *parts) else _told(folder, base)
        return Loaded(shown=source, expects=expects, configuration=configuration, notes=notes)
    raise DataError(f"{source}: is not a data set of task {config.name}; {expects}")


def _find(layouts: Sequence[Layout], folder: Path, task: str) -> tuple[Layout, Path, dict[Split, list[Path]]] | None:
    """The layout that a folder has, or the one folder in it, as archives have one of their own; with the files.

    Raises DataError if several folders in it could be meant, or only such as are prepared already.
    """
    for layout in layouts:
        if files := layout.find(folder):
            return layout, folder, files
    places = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    hits = {place: (layout, place, files) for layout in reversed(layouts) for place in places if (files := layout.find(place))}
    new = sorted(place for place in hits if not (place / MANIFEST).is_file())
    if len(new) > 1:
        raise DataError(f"{folder}: {', '.join(place.name for place in new)} in it could each be meant; name one, e.g. {new[0]}")
    if hits and not new:
        raise _prepared(min(hits), task)
    return hits[new[0]] if new else None


def _told(folder: Path, base: Path) -> list[str]:
    """A note that the rows lie in a folder of the one that was named, which may be another data set's."""
    return [] if base == folder else [f"the rows are those of the folder {base.relative_to(folder)} in {folder}"]


def _prepared(folder: str | Path, task: str) -> DataError:
    return DataError(f"{folder}: is prepared already; name it as task.path, e.g. --task.name {task} --task.path {folder}")


def _stats(base: Path, files: list[Path]) -> list[tuple[str, int, int]]:
    status = [(str(file.relative_to(base)), file.stat()) for file in files]
    return [(name, one.st_size, one.st_mtime_ns) for name, one in status]
