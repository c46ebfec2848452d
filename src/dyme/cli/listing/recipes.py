"""dyme recipes: list the recipes that ship, or write one of them to a folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dyme.cli.common import show_list
from dyme.errors import ConfigError
from dyme.recipe import load_recipe, shipped, write_copy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("name", nargs="?", help="the recipe to write; without a name, list all recipes")
    parser.add_argument("--out", metavar="PATH", type=Path, help="a .toml file or a folder to write to (default: NAME.toml here)")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List the recipes that ship, or write one into the user's folder."""
    if args.name:
        return show_list(("written",), [(str(path),) for path in write_copy(args.name, args.out or Path())])
    if args.out:
        raise ConfigError("--out needs the name of a recipe; `dyme recipes` lists them")
    configs = {name: load_recipe(path) for name, path in shipped().items()}
    return show_list(("recipe", "model", "task", "method"), [(n, c.model.path, c.task.name, c.method.name) for n, c in configs.items()])
