"""Commands that list what there is: tasks, methods, recipes, settings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dyme.errors import ConfigError
from dyme.methods import ROUTERS
from dyme.recipe import documentation, load_recipe, shipped, write_copy
from dyme.tasks import TASKS
from dyme.tracking.display import open_console, show_listing


def tasks(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List the tasks."""
    return _listing(("task", "what it is", "metric", "tested on"), [(t.name, t.summary, t.metric, t.status) for t in TASKS.values()])


def methods(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List the methods."""
    return _listing(("method", "what it does", "source"), [(r.name, r.summary, r.source) for r in ROUTERS.values()])


def recipes(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List the recipes that ship, or write one into the user's folder."""
    if args.name:
        return _listing(("written",), [(str(path),) for path in write_copy(args.name, args.out or Path())])
    if args.out:
        raise ConfigError("--out needs the name of a recipe; `dyme recipes` lists them")
    configs = {name: load_recipe(path) for name, path in shipped().items()}
    return _listing(("recipe", "model", "task", "method"), [(n, c.model.path, c.task.name, c.method.name) for n, c in configs.items()])


def settings(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List all settings."""
    rows = [(f"--{section}.{key}", default, text) for section, keys in documentation().items() for key, (default, text) in keys.items()]
    return _listing(("setting", "default", "meaning"), rows)


def _listing(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    show_listing(open_console(), heads, rows)
    return 0
