"""Commands that list what there is: tasks, methods, settings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dyme.display import open_console, show_listing
from dyme.recipe import documentation
from dyme.route import ROUTERS
from dyme.tasks import TASKS


def tasks(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List the tasks."""
    return _listing(("task", "what it is", "metric", "tested on"), [(t.name, t.summary, t.metric, t.status) for t in TASKS.values()])


def methods(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List the methods."""
    return _listing(("method", "what it does", "source"), [(r.name, r.summary, r.source) for r in ROUTERS.values()])


def settings(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List all settings."""
    rows = [(f"--{section}.{key}", default, text) for section, keys in documentation().items() for key, (default, text) in keys.items()]
    return _listing(("setting", "default", "meaning"), rows)


def _listing(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    show_listing(open_console(), heads, rows)
    return 0
