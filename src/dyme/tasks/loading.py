"""A task's samples from wherever its settings name them: single files, a prepared folder, a published folder, or a hub id."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from dyme.config import TaskConfig
from dyme.errors import DataError
from dyme.tasks import prepare, rows
from dyme.tasks.published import ROWS, SPLITS, Split
from dyme.tasks.task import Published
from dyme.types import Sample

_log = logging.getLogger(__name__)


def loader(published: Published) -> Callable[[TaskConfig, Split], list[Sample]]:
    """The `load` of a task whose data set is `published`."""
    return partial(load, published)


def load(published: Published, config: TaskConfig, split: Split) -> list[Sample]:
    """Samples of a split, every picture checked.

    task.train, task.validation and task.test name single files, in our fields or in the data set's; task.path gives those that
    are not named. What task.path names is prepared once if it is not a prepared folder, and the log says what that gave and dropped.
    Raises DataError as `rows.load` and `prepare.prepare` do.
    """
    named = with_path(published, config)
    return rows.load(named, split, lambda row, where: prepare.normalised(published, row, where, config))


def with_path(published: Published, config: TaskConfig) -> TaskConfig:
    """`config` with the files that task.path stands for; those that are named already stay."""
    if not config.path or (config.train and config.validation and config.test):
        return config
    folder = _folder(published, config)
    found = {split: str(file) if (file := _file(folder, split)) else "" for split in SPLITS}
    return replace(
        config,
        train=config.train or found["train"],
        validation=config.validation or ("" if config.train else found["validation"]),  # another data set's would not do
        test=config.test or found["test"],
    )


def _folder(published: Published, config: TaskConfig) -> Path:
    folder = Path(config.path)
    if (folder / rows.MANIFEST).is_file():
        task, _ = prepare.read_manifest(folder)
        if task != config.name and not published.direct:
            raise DataError(f"{folder}: was prepared for task {task}, not for {config.name}; set task.name, or prepare the source again")
        return folder
    if published.direct and folder.is_dir() and any(_file(folder, split) for split in SPLITS):
        return folder
    report = prepare.prepare(published, config, config.path)
    if not report.already:
        dropped = sum(one.count for one in report.dropped.values())
        counts = ", ".join(f"{count} {split}" for split, count in report.rows.items())
        _log.warning("task %s: %s is prepared in %s: %s rows, %d dropped", config.name, config.path, report.folder, counts, dropped)
        for note in report.notes:
            _log.warning("- %s", note)
        for reason, one in report.dropped.items():
            _log.warning("- %d rows: %s, e.g. %s", one.count, reason, one.examples[0])
    return report.folder


def _file(folder: Path, split: Split) -> Path | None:
    return next((file for name in ROWS.files[split] if (file := folder / name).is_file()), None)
