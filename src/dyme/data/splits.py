"""Load a task's samples from the source that its settings name: single files, a prepared folder, a published folder, or a hub id."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from dyme.config import TaskConfig
from dyme.data import prepare, rows
from dyme.data.formats.files import ROWS, format_of, split_named
from dyme.data.layouts import SPLITS, Split
from dyme.data.published import Published
from dyme.errors import DataError
from dyme.types import Sample

_log = logging.getLogger(__name__)


def loader(published: Published) -> Callable[[TaskConfig, Split], list[Sample]]:
    """Return the `load` of a task whose data set is `published`."""
    return partial(load, published)


def load(published: Published, config: TaskConfig, split: Split) -> list[Sample]:
    """Return the samples of a split, every picture checked.

    task.train, task.validation and task.test name single files or folders, in dyme's fields or the data set's; task.path gives
    those that are not named. The source that task.path names, parquet files and files with pictures in their rows are prepared once;
    the log says how many rows were kept and dropped. Raises DataError as `rows.load` and `prepare.prepare` do.
    """
    named = _as_files(published, with_path(published, config), split)

    def normalise(row: Mapping[str, Any], where: str) -> dict[str, Any]:
        return prepare.normalised(published, row, where, config)

    try:
        return rows.load(named, split, normalise)
    except rows.EmbeddedPicture:
        return rows.load(_as_files(published, named, split, every=True), split, normalise)


def with_path(published: Published, config: TaskConfig) -> TaskConfig:
    """Return `config` with the files that task.path stands for; files that are named already stay. A file as path is one split's."""
    if not config.path or (config.train and config.validation and config.test):
        return config
    path = Path(config.path)
    if path.is_file():
        own = split_named(path)
        return config if getattr(config, own) else _with(config, own, config.path)
    folder = _folder(published, config, config.path)
    found = {split: str(file) if (file := _file(folder, split)) else "" for split in SPLITS}
    return replace(
        config,
        train=config.train or found["train"],
        validation=config.validation or ("" if config.train else found["validation"]),  # another data set's do not fit
        test=config.test or found["test"],
    )


def _as_files(published: Published, config: TaskConfig, split: Split, *, every: bool = False) -> TaskConfig:
    """Return `config` with its source for `split` prepared if it is a folder or a parquet file, or in any case (`every`)."""
    name: Split = split if getattr(config, split) or split == "test" else "train"
    source = getattr(config, name)
    path = Path(source)
    try:
        if not source or rows.is_prepared(path) or not (path.is_dir() or (path.is_file() and (every or format_of(path) == "parquet"))):
            return config
    except (OSError, ValueError):  # which `rows` reports
        return config
    folder = _folder(published, config, source, name)
    file = _file(folder, name) or next((file for one in SPLITS if (file := _file(folder, one))), None)
    if file is None or (name == "test" and file.stem == "train"):
        raise DataError(f"{source}: has no {name} rows; name a file or folder of them as task.{name}")
    return _with(config, name, str(file))


def _folder(published: Published, config: TaskConfig, source: str, split: Split | None = None) -> Path:
    """Return the prepared folder of `source`, made now if missing; `split` is that of rows whose source names none."""
    folder = Path(source)
    if (folder / rows.MANIFEST).is_file():
        task, _ = prepare.read_manifest(folder)
        if task != config.name and not published.direct:
            raise DataError(f"{folder}: was prepared for task {task}, not for {config.name}; set task.name, or prepare the source again")
        return folder
    if published.direct and folder.is_dir() and any(_file(folder, one) for one in SPLITS):
        return folder
    report = prepare.prepare(published, config, source, split=split)
    if not report.already:
        dropped = sum(one.count for one in report.dropped.values())
        counts = ", ".join(f"{count} {name}" for name, count in report.rows.items())
        _log.warning("task %s: %s is prepared in %s: %s rows, %d dropped", config.name, source, report.folder, counts, dropped)
        for note in report.notes:
            _log.warning("- %s", note)
        for reason, one in report.dropped.items():
            _log.warning("- %d rows: %s, e.g. %s", one.count, reason, one.examples[0])
    return report.folder


def _with(config: TaskConfig, split: Split, file: str) -> TaskConfig:
    """Return `config` with `file` for a split."""
    if split == "train":
        return replace(config, train=file)
    return replace(config, validation=file) if split == "validation" else replace(config, test=file)


def _file(folder: Path, split: Split) -> Path | None:
    return next((file for name in ROWS.files[split] if (file := folder / name).is_file()), None)
