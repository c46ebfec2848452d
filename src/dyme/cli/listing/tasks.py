"""dyme tasks: what there is to learn."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dyme.cli.common import show_list
from dyme.tasks import TASKS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no argument: the command takes none."""


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List the tasks."""
    return show_list(("task", "what it is", "metric", "tested on"), [(t.name, t.summary, t.metric, t.status) for t in TASKS.values()])
