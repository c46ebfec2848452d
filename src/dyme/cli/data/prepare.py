"""dyme prepare: convert a published data set to rows and pictures for a task, and check them."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dyme.data.prepare import Report
from dyme.data.prepare import prepare as prepare_source
from dyme.errors import ConfigError
from dyme.recipe import build
from dyme.settings import nearest
from dyme.tasks import TASKS, task_of
from dyme.tracking.display import Display, new_display, progress_bars, show_listing

RECIPE = "charts-dyme"
"""Recipe of the suggested next command: the embedded model, without data."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("task", help="task that the data set belongs to (`dyme tasks` lists them)")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="PATH",
        required=True,
        help="folder that holds the data set in its published layout, or a hub id (owner/name)",
    )
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="folder to write (default: one in --task.prepared, named after task and source)"
    )
    parser.add_argument("--limit", metavar="N", type=int, default=0, help="take the first N rows of each split (default: all)")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Prepare a data set for a task, show what was written and dropped, and suggest the next command."""
    config = build({}, rest)
    chosen = task_of(replace(config.task, name=args.task))
    if chosen.published is None:
        others = [name for name, task in TASKS.items() if task.published]
        raise ConfigError(f"task {args.task} draws its own data, and there is nothing to prepare; {nearest(args.task, others)}")
    if args.limit < 0:
        raise ConfigError("--limit must not be negative")
    display = new_display()
    task = replace(config.task, name=chosen.name)
    with progress_bars(display) as progress:
        report = prepare_source(chosen.published, task, args.source, args.out, limit=args.limit, progress=progress)
    _show(display, report)
    if "train" in report.rows:
        display.note("the next command takes the embedded model, to see it run; `dyme recipes` lists settings for real checkpoints")
    display.note(f"next: {_next(report, args.task)}")
    return 0


def _show(display: Display, report: Report) -> None:
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(report.kinds.items()))
    figures = {"images": report.images, "rows with facts": report.facts, "rows with a rationale": report.rationales}
    rows = [(f"{split} rows", str(count)) for split, count in report.rows.items()]
    rows += [(name, str(count)) for name, count in figures.items()]
    show_listing(display.console, (str(report.folder), ""), [*rows, ("answers", kinds)])
    for note in report.notes:
        display.note(f"- {note}")
    for reason, one in report.dropped.items():
        display.note(f"- dropped {one.count} rows: {reason}; e.g. {one.examples[0]}")
        for example in one.examples[1:]:
            display.note(f"    {example}")
    if report.already:
        display.note("already prepared, nothing was read again; remove the folder to do it again")


def _next(report: Report, name: str) -> str:
    """Return a command that uses the folder: training if it has training rows, else evaluation."""
    data = f"--task.path {shlex.quote(str(report.folder))}"
    if "train" in report.rows:
        return f"dyme train {RECIPE} --task.name {name} {data} --run.output runs/{name}"
    return f"dyme eval MODEL --task {name} {data}" + ("" if "test" in report.rows else " --split validation")
