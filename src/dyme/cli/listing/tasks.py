"""dyme tasks: list the tasks that ship and those of installed packages."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dyme.cli.common import show_list
from dyme.errors import DymeError
from dyme.plugins import names
from dyme.tasks import TASKS
from dyme.tasks.own import find_task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no argument: the command takes none."""


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List the tasks, and those of installed packages."""
    rows = [(task.name, task.summary, task.metric, task.status) for task in TASKS.values()]
    return show_list(("task", "what it is", "metric", "tested on"), [*rows, *map(_installed, names("tasks"))])


def _installed(name: str) -> tuple[str, str, str, str]:
    """Return the row of a task that an installed package offers, or the reason why it cannot be loaded."""
    try:
        task = find_task(name)
    except DymeError as error:
        return name, str(error), "", ""
    return name, task.summary, task.metric, task.status
