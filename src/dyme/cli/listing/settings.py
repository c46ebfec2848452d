"""dyme settings: list every setting of a recipe with its default."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dyme.cli.common import show_list
from dyme.recipe import documentation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no argument: the command takes none."""


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List all settings."""
    rows = [(f"--{section}.{key}", default, text) for section, keys in documentation().items() for key, (default, text) in keys.items()]
    return show_list(("setting", "default", "meaning"), rows)
