"""dyme report: write the HTML page of a run folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dyme.report.page import write_page
from dyme.tracking.display import new_display


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("run", type=Path, help="a run folder, e.g. runs/demo")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Write a run's page."""
    new_display().note(str(write_page(args.run)))
    return 0
