"""Tasks: the sources of samples. `task.name` in a recipe is a key of TASKS, which `dyme tasks` lists, or names a user's task (`own.py`).

To add one here, write a file like `charts/` (drawn here) or `gsm8k.py` (a published data set) that ends in a `TASK`, and add it to TASKS.
"""

from __future__ import annotations

from dataclasses import replace

from dyme import plugins
from dyme.config import TaskConfig
from dyme.data import rows, splits
from dyme.data.layouts import Split
from dyme.errors import ConfigError
from dyme.settings import nearest
from dyme.tasks import aokvqa, chartqa, charts, geometry, gsm8k, jsonl, slake, tabmwp, vqa_rad
from dyme.tasks.own import find_task, load_own, own_held_out
from dyme.tasks.task import Task
from dyme.types import Sample

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        charts.TASK, jsonl.TASK, chartqa.TASK, slake.TASK, vqa_rad.TASK, geometry.TASK, aokvqa.TASK, gsm8k.TASK, tabmwp.TASK,
    )
}  # fmt: skip


def task_of(config: TaskConfig) -> Task:
    """Return the task that a recipe names. Raises ConfigError for an unknown name, or for a user's task that cannot be found."""
    if config.name in TASKS:
        return TASKS[config.name]
    if not plugins.is_known(config.name, "tasks"):
        raise ConfigError(f"unknown task {config.name!r}; {nearest(config.name, [*TASKS, *plugins.names('tasks')])}")
    return find_task(config.name)


def load(config: TaskConfig, split: Split) -> list[Sample]:
    """Return the samples of a split of a recipe's task. Raises DataError for rows that cannot be used, ConfigError as `task_of` does."""
    task = task_of(config)
    return task.load(config, split) if config.name in TASKS else load_own(task, config, split)


def held_out(config: TaskConfig) -> Split | None:
    """Return the split to report on: test, validation where there is no test data, None where nothing is held out.

    The source that task.path names is prepared first if it has to be.
    """
    task = task_of(config)
    if task.published is None:
        return "test" if config.name in TASKS else own_held_out(task, config)
    named = splits.with_path(task.published, replace(config, name=task.name))
    return "test" if named.test else "validation" if rows.has_validation(named) else None
