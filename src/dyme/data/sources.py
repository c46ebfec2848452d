"""Open a path or hub id as a source of rows: a folder in one of the layouts of a task's data set, or a data set of the hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from dyme.config import TaskConfig
from dyme.data import hub
from dyme.data.formats.files import IMAGE_FOLDER, ROWS, format_of, read_file, split_named
from dyme.data.formats.parquet import count_rows, read_parquet
from dyme.data.layouts import SPLITS, Layout, Raw, Split
from dyme.data.published import Published
from dyme.data.rows import MANIFEST
from dyme.errors import DataError

FILE = Layout(expects="a file of rows", files={}, read=read_file)
"""The layout of a single file, whichever format it has."""
Full = Callable[[Split], bool]
"""Function that returns whether a split has all the rows that are wanted."""


class Source(Protocol):
    """A source of rows to prepare."""

    shown: str
    """Its name, for messages."""
    expects: str
    """Description of the layout of the task's data set, for messages."""
    notes: list[str]
    """Notes on the parts of it that are left out."""

    @property
    def fingerprint(self) -> list[tuple[str, int, int]]:
        """Return the annotation files with their sizes and times; empty for the hub, where the id identifies the data."""
        ...

    @property
    def splits(self) -> set[Split]:
        """Return the splits of which it has rows."""
        ...

    def count(self) -> int:
        """Return the number of rows, for a progress bar; 0 if it is not known beforehand."""
        ...

    def rows(self, full: Full, *, streaming: bool) -> Iterator[Raw]:
        """Yield its rows in order, without those of full splits; with `streaming` only these are fetched from the hub."""
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

    @property
    def splits(self) -> set[Split]:
        """See `Source`."""
        return set(SPLITS) if self.layout.mixed else set(self.files)

    def has_pictures(self, published: Published, config: TaskConfig) -> bool:
        """Return whether the picture of the first row that can be used exists."""
        for raw in self.rows(lambda split: False, streaming=True):
            try:
                named = published.normalise(raw.row, raw.where, config)
            except DataError:
                continue
            picture = (named.get("images") or [named.get("image")])[0]
            return not isinstance(picture, str) or any((folder / picture).is_file() for folder in raw.folders)
        return False

    def count(self) -> int:
        """See `Source`; the annotation files are read once more for it, which costs little compared with the pictures."""
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
class Parquet:
    """A folder of parquet files, its splits by the names of the files."""

    shown: str
    expects: str
    base: Path
    files: dict[str, list[Path]]
    notes: list[str] = field(default_factory=list)

    @property
    def fingerprint(self) -> list[tuple[str, int, int]]:
        """See `Source`."""
        return _stats(self.base, sorted(file for files in self.files.values() for file in files))

    @property
    def splits(self) -> set[Split]:
        """See `Source`."""
        return {split for name in self.files if (split := hub.split_of(name))}

    def count(self) -> int:
        """See `Source`; the files' metadata hold it."""
        return sum(count_rows(file) for name, files in self.files.items() if hub.split_of(name) for file in files)

    def rows(self, full: Full, *, streaming: bool) -> Iterator[Raw]:
        """See `Source`."""
        for name, files in self.files.items():
            split = hub.split_of(name)
            if split is None:
                self.notes.append(hub.left_out(name))
                continue
            numbered = enumerate((row for file in files for _, row in read_parquet(file)), start=1)
            for number, row in numbered:
                if full(split):
                    break
                folders = (self.base, self.base / "images")
                yield Raw(where=f"{name}, row {number}", row=row, name=f"{name}-{number}", split=split, folders=folders)


@dataclass(slots=True, kw_only=True)
class Loaded:
    """A data set that the datasets library loads: a hub id, or a folder that its save_to_disk wrote."""

    shown: str
    expects: str
    configuration: str
    notes: list[str] = field(default_factory=list)

    @property
    def fingerprint(self) -> list[tuple[str, int, int]]:
        """See `Source`."""
        folder = Path(self.shown)
        return _stats(folder, sorted(folder.rglob("*.arrow")) if folder.is_dir() else [])

    @property
    def splits(self) -> set[Split]:
        """See `Source`."""
        return set(SPLITS)

    def count(self) -> int:
        """See `Source`."""
        return 0

    def rows(self, full: Full, *, streaming: bool) -> Iterator[Raw]:
        """See `Source`."""
        folder = Path(os.path.abspath(self.shown))  # noqa: PTH100
        folders = (folder, folder / "images") if folder.is_dir() else ()
        for part in hub.parts_of(self.shown, self.configuration, streaming=streaming):
            split = hub.split_of(part.name)
            if split is None:
                self.notes.append(hub.left_out(part.name))
                continue
            for raw in hub.rows(part, split, folders):
                if full(split):
                    break
                yield raw


def open_source(published: Published, config: TaskConfig, source: str) -> Source:
    """Return the source that `source` names: a folder, a file, or a hub id. Relative paths start at the working directory.

    Raises DataError, one line that says what was expected, if it is none of these.
    """
    layouts = (*published.layouts, ROWS, IMAGE_FOLDER)
    expects = f"expected {'; or '.join(layout.expects for layout in layouts)}; or parquet files, or a hub id"
    if hub.is_id(source):
        return Loaded(shown=source, expects=expects, configuration=published.configurations.get(source.partition(":")[0], ""))
    folder = Path(os.path.abspath(source))  # noqa: PTH100  (rows name pictures from here, wherever the working directory is later)
    if folder.is_file():
        format_of(folder)  # raises an error that names the format
        files = {split_named(folder): [folder]}
        return Folder(shown=source, expects=expects, layout=FILE, base=folder.parent, files=files)
    if not folder.is_dir():
        raise DataError(f"{source}: does not exist in {Path.cwd()}, and is no hub id (owner/name); {expects}")
    if (folder / MANIFEST).is_file():
        raise _prepared(source, config.name)
    configuration = next(iter(published.configurations.values()), "")
    if hub.is_saved(folder):
        return Loaded(shown=source, expects=expects, configuration=configuration)
    found = _find(layouts, folder, config.name)
    if found:
        layout, base, files = found
        opened = Folder(shown=source, expects=expects, layout=layout, base=base, files=files, notes=_told(folder, base))
        if not list(folder.rglob("*.parquet")) or opened.has_pictures(published, config):
            return opened
    if parts := hub.parquet_files(folder, configuration):
        base = Path(os.path.commonpath([file.parent for files in parts.values() for file in files]))
        notes = [] if base == folder or (base.parent == folder and base.name in ("data", *parts)) else _told(folder, base)
        notes += [f"the pictures of {found[0].expects} are not there: the parquet files are taken"] if found else []
        return Parquet(shown=source, expects=expects, base=folder, files=parts, notes=notes)
    raise DataError(f"{source}: is not a data set of task {config.name}; {expects}")


def _find(layouts: Sequence[Layout], folder: Path, task: str) -> tuple[Layout, Path, dict[Split, list[Path]]] | None:
    """Return the layout of a folder, or of the only folder in it (archives often have one), with that folder and its files.

    Raises DataError if several folders in it fit, or only prepared ones.
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
    """Return a note that the rows lie in a folder within the named one, which may belong to another data set."""
    return [] if base == folder else [f"the rows are those of the folder {base.relative_to(folder)} in {folder}"]


def _prepared(folder: str | Path, task: str) -> DataError:
    return DataError(f"{folder}: is prepared already; name it as task.path, e.g. --task.name {task} --task.path {folder}")


def _stats(base: Path, files: list[Path]) -> list[tuple[str, int, int]]:
    status = [(str(file.relative_to(base)), file.stat()) for file in files]
    return [(name, one.st_size, one.st_mtime_ns) for name, one in status]
