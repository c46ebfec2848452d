"""A user's task; its samples are checked as those of the tasks that ship."""

from __future__ import annotations

from dataclasses import replace

from dyme.config import TaskConfig
from dyme.data.layouts import Split
from dyme.errors import ConfigError, DataError, DymeError, quoted
from dyme.plugins import failure, find
from dyme.tasks.task import Task
from dyme.types import Sample


def find_task(name: str) -> Task:
    """Return the task that a name in a recipe stands for: a Task, or a function (config, split) -> list of samples.

    Raises ConfigError for an object that is neither, or cannot be found.
    """
    found = find(name, "tasks", "task.name")
    if isinstance(found, Task):
        return found
    if isinstance(found, type) or not callable(found):
        raise ConfigError(f"task.name: {name} is {quoted(found)}, and a dyme.Task or a function (config, split) is needed")
    return Task(name=getattr(found, "__name__", name), load=found)


def load_own(task: Task, config: TaskConfig, split: Split) -> list[Sample]:
    """Return the samples of a split of a user's task, at most task.<split>_size of them (0: all).

    Raises DataError for an error of its code, with file and line, for a result that is not a list of samples, and for an empty split.
    """
    found = _loaded(task, config, split)
    if not found:
        others = "; it must have some to train on" if split == "train" else f"; return some, or take another split than {split}"
        raise DataError(f"task {task.name} has no {split} samples{others}")
    size = {"train": config.train_size, "validation": config.validation_size, "test": config.test_size}[split]
    if other := next((one for one in found if not isinstance(one, Sample)), None):
        raise DataError(f"task {task.name}: its {split} split holds {quoted(other)}; return Sample(id=..., question=..., answer=...)")
    return found[:size] if size else found


def own_held_out(task: Task, config: TaskConfig) -> Split | None:
    """Return the split of a user's task to report on: test, validation where that is empty, None where both are."""
    splits: tuple[Split, ...] = ("test", "validation")
    return next((split for split in splits if _loaded(task, config, split)), None)


def _loaded(task: Task, config: TaskConfig, split: Split) -> list[Sample]:
    try:
        return list(task.load(replace(config, name=task.name), split))
    except DymeError:
        raise
    except Exception as error:
        raise DataError(f"task {task.name} cannot load its {split} split: {failure(error, task.load)}") from error
