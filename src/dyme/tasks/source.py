"""What a path or hub id turns out to be: one of the layouts that a task's data set is published in, or a data set of the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
        raise DataError(f"{source}: is prepared already; name it as task.path, e.g. --task.name {config.name} --task.path {source}")
    if hub_rows.is_saved(folder):
        return Loaded(shown=source, expects=expects, configuration=configuration)
    for layout in (*published.layouts, ROWS):
        if found := layout.find(folder):
            return Folder(shown=source, expects=expects, layout=layout, base=found[0], files=found[1])
    if hub_rows.parquet_files(folder, next(iter(published.configurations.values()), "")):
        return Loaded(shown=source, expects=expects, configuration=next(iter(published.configurations.values()), ""))
    raise DataError(f"{source}: is not a data set of task {config.name}; {expects}")


def _stats(base: Path, files: list[Path]) -> list[tuple[str, int, int]]:
    status = [(str(file.relative_to(base)), file.stat()) for file in files]
    return [(name, one.st_size, one.st_mtime_ns) for name, one in status]
