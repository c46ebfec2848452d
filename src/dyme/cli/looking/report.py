"""dyme report: write the HTML page of a run folder, or of two side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dyme.report import beside, page
from dyme.tracking.display import new_display


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("run", type=Path, help="a run folder, e.g. runs/demo")
    parser.add_argument("--beside", type=Path, metavar="RUN2", help="another run folder, to show beside it")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the page (default: report.html, or beside-RUN2.html, in the run folder)")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Write the page of a run, or of two."""
    file = beside.write_page(args.run, args.beside, args.out) if args.beside else page.write_page(args.run, args.out)
    new_display().note(str(file))
    return 0
