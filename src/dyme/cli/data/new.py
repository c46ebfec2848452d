"""dyme new: from your rows to a recipe that trains, in a few questions or none."""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.prompt import Prompt

from dyme.cli.data import columns, draft
from dyme.config import TaskConfig
from dyme.data.formats.files import ENDINGS, IMAGE_FOLDER, ROWS
from dyme.data.prepare import Report
from dyme.data.prepare import prepare as prepare_source
from dyme.errors import ConfigError, DataError, DymeError
from dyme.recipe import build, load_recipe
from dyme.system.files import write_whole
from dyme.tracking.display import Display, new_display, progress_bars

SAMPLES = 16
"""Rows that are asked of the model before training."""
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
"""Endings of pictures."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("source", help="your rows: a file (JSON lines, JSON, CSV, parquet), a folder of pictures or rows, or a hub id")
    parser.add_argument(
        "--out", metavar="DIR", type=Path, help="new folder for the recipe and its rows (default: one named after the source)"
    )
    parser.add_argument("--model", help="the model to train: a folder, a hub id, or embedded")
    parser.add_argument("--budget", default="", help="when to stop, e.g. 800prompts, 2000000tokens or 3600s (default: three passes)")
    for field in columns.NAMED:
        parser.add_argument(f"--{field}", metavar="COLUMN", help=f"the column that holds the {field}, if its name does not say so")
    parser.add_argument("--yes", action="store_true", help="ask nothing: take the defaults of what no option says")
    parser.add_argument(
        "--samples", type=int, default=SAMPLES, help="ask the model this many rows to see what it can do; 0: none (default: %(default)s)"
    )


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Read the rows, ask what they do not say, write rows and recipe, diagnose, and name the next command."""
    _check(args)
    config, display = build({"task": {"name": "jsonl"}}), new_display()
    source = _rows_of(args.source)
    asks = not args.yes and sys.stdin is not None and sys.stdin.isatty()
    out = args.out or Path(_name_of(args.source))
    rows = out / f"{out.resolve().name}-rows"  # left by an earlier call that was stopped, it is continued
    if out.exists() and (not out.is_dir() or any(entry.name != rows.name for entry in out.iterdir())):
        raise ConfigError(f"{out} exists already and is not empty; name a new folder (--out)")
    named = _named(source, config.task, {field: column for field in columns.NAMED if (column := getattr(args, field))}, asks, display)
    with progress_bars(display) as progress:
        report = prepare_source(columns.reading(named), config.task, source, rows, progress=progress)
    if "train" not in report.rows:
        raise DataError(f"{source}: has no training rows, only {', '.join(report.rows)}; name a file of rows to train on")
    _show(display, report)
    model = args.model or _model(report, asks, display)
    budget = args.budget or (_budget(display) if asks else "")
    material = draft.Material(report, draft.longest_target(rows, config.task.marker))
    recipe = out / "recipe.toml"
    write_whole(recipe, draft.text_of(source, out.resolve().name, rows.name, model, budget, material).encode())
    load_recipe(recipe)
    display.note(f"wrote  {recipe}")
    if args.samples:
        _diagnose(model, recipe, args.samples, display)
    display.note(f"next   dyme train {shlex.quote(str(recipe))}")
    return 0


def _check(args: argparse.Namespace) -> None:
    """Raise ConfigError for impossible options."""
    if args.samples < 0:
        raise ConfigError("--samples must not be negative")
    if args.budget and not re.fullmatch(r"[1-9]\d*(prompts|completions|tokens|s)", args.budget):
        raise ConfigError(f"--budget {args.budget!r} is no budget; write a number and a unit: 800prompts, 2000000tokens or 3600s")


def _name_of(source: str) -> str:
    """Return a name for the new folder, after the file, the folder or the hub id."""
    bare = Path(source.rstrip("/").partition(":")[0]) if not Path(source).exists() else Path(source).resolve()
    stem = bare.stem if bare.suffix in (".jsonl", ".json", ".csv", ".tsv", ".parquet") else bare.name
    plain = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "mine"
    return f"{plain}-dyme"


def _rows_of(source: str) -> str:
    """Return the source, or the only file of rows in a folder whose files are not named after splits.

    Raises DataError for a folder with pictures alone, or with several such files.
    """
    folder = Path(source)
    if not folder.is_dir() or ROWS.find(folder) or IMAGE_FOLDER.find(folder):
        return source
    entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
    files = [entry for entry in entries if entry.suffix.lower() in ENDINGS[:-1]]
    if len(files) > 1:
        raise DataError(f"{folder}: has several files of rows; name one, e.g. {files[0]}: {', '.join(file.name for file in files)}")
    if not files and entries and all(entry.suffix.lower() in PICTURES for entry in entries):
        raise DataError(
            f"{folder}: has pictures and no questions; write metadata.csv beside them, with file_name,question,answer in its first line"
        )
    return str(files[0]) if files else source


def _named(source: str, config: TaskConfig, named: dict[str, str], asks: bool, display: Display) -> Mapping[str, str]:
    """Return the columns of fields whose names do not say what they are; ask for question and answer if nothing says them.

    Raises DataError, naming the columns and the options, if nobody can be asked.
    """
    found = columns.look(source, config, named)
    if not found.lacking:
        return named
    if not asks:
        shown = ", ".join(f"{name} ({value})" for name, value in found.examples.items())
        options = " ".join(f"--{field} COLUMN" for field in found.lacking)
        raise DataError(f"{source}: no column is known to be the {' or the '.join(found.lacking)}; add {options}, of {shown}")
    for name, value in found.examples.items():
        display.note(f"  {name}: {value}")
    more = {
        field: Prompt.ask(f"Which column is the {field}?", choices=list(found.examples), console=display.console) for field in found.lacking
    }
    return named | more


def _model(report: Report, asks: bool, display: Display) -> str:
    """Return the model to train: asked, else the embedded one."""
    known = draft.models(report.images > 0)
    if not asks:
        display.note(f"model  {draft.EMBEDDED}, to see it run; --model names another: {', '.join(list(known)[1:])}")
        return draft.EMBEDDED
    for name, (recipe, _) in known.items():
        display.note(f"  {name}" + ("   minutes on a laptop, to see it run" if name == draft.EMBEDDED else f"   as in recipe {recipe}"))
    chosen = Prompt.ask("Which model? (one of these, or your own folder or hub id)", default=draft.EMBEDDED, console=display.console)
    return chosen.strip() or draft.EMBEDDED


def _budget(display: Display) -> str:
    """Return the budget that the user names; "" for three passes."""
    while True:
        said = Prompt.ask("When to stop? (800prompts, 3600s ...; Enter: three passes over the rows)", default="", console=display.console)
        if not said.strip() or re.fullmatch(r"[1-9]\d*(prompts|completions|tokens|s)", said.strip()):
            return said.strip()
        display.note(f"  {said!r} is no budget: a number and a unit")


def _show(display: Display, report: Report) -> None:
    """Show what was read and what was left out."""
    counts = ", ".join(f"{count:,} {split}" for split, count in report.rows.items())
    display.note(f"rows   {counts}; {report.images:,} pictures, {report.rationales:,} with a rationale, {report.facts:,} with facts")
    for note in report.notes:
        display.note(f"- {note}")
    for reason, one in report.dropped.items():
        display.note(f"- left out {one.count} rows: {reason}; e.g. {one.examples[0]}")


def _diagnose(model: str, recipe: Path, samples: int, display: Display) -> None:
    """Show what the model can do with the rows; a model that cannot be loaded here is no reason to stop."""
    from dyme.cli.looking import diagnose
    from dyme.cli.main import build_parser

    words = ["diagnose", model, "--recipe", str(recipe), "--split", "train", "--samples", str(samples)]
    try:
        diagnose.run(build_parser("diagnose").parse_args(words), ())
    except DymeError as error:
        display.note(f"- not diagnosed: {error}")
        display.note(f"- later: dyme {shlex.join(words)}")
