"""dyme methods: how a prompt is routed."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dyme.cli.common import show_list
from dyme.methods import METHODS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add no argument: the command takes none."""


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List the methods."""
    return show_list(("method", "what it does", "source"), [(r.name, r.summary, r.source) for r in METHODS.values()])
