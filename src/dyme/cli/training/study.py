"""dyme study: tune and train what a study file says, cell by cell, and rewrite its report from the cells."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from dyme.api import samples_of
from dyme.cli.common import INTERRUPTED
from dyme.comparison.cells import Cell
from dyme.comparison.design import BASE, TUNING, Design, named
from dyme.comparison.findings import write_map, write_report
from dyme.comparison.statistics.pooled import pooled
from dyme.comparison.study import Study, run_study
from dyme.comparison.study_file import read_study
from dyme.config import TaskConfig
from dyme.data.layouts import Split
from dyme.errors import ConfigError, RunError
from dyme.system import lock
from dyme.tasks import held_out
from dyme.tracking import trackers
from dyme.tracking.display import Display, new_display, open_console, show_listing, show_results
from dyme.verify.rewards import find_rewards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("file", type=Path, help="a study file (docs/study.md), e.g. studies/table1.toml")
    parser.add_argument("--out", type=Path, help="folder of the study; cells that are done in it are not repeated (default: the file's)")
    parser.add_argument("--jobs", type=int, help="number of cells that run at a time (default: the file's)")
    parser.add_argument("--only", default="", help=f"blocks to run, e.g. {TUNING},primary (default: all)")
    parser.add_argument("--wait", action="store_true", help="wait for another process that is at work in the folder")
    parser.add_argument("--check", action="store_true", help="check the file, list its cells, what is done and what the rest may take")
    parser.add_argument("--map", type=Path, help="write the map of regimes that was measured to this file, with the report; run nothing")
    parser.add_argument("--report", action="store_true", help="rewrite the report from the cells that are done; run nothing")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run a study, or check it, or rewrite its report; return the exit status."""
    design = read_study(args.file, rest, out=args.out, jobs=args.jobs)
    only = [word.strip() for word in args.only.split(",") if word.strip()]
    named(design, only)
    args.report = args.report or args.map is not None
    if args.check or args.report:
        design.check()
        return _look(design, only, args, new_display())
    return begin(design, only, wait=args.wait)


def begin(design: Design, only: Sequence[str] = (), *, wait: bool = False) -> int:
    """Run a study and show its figures; return the exit status."""
    design.check()
    trackers.check(design.plain())
    display = new_display()
    design = _checked(design, display)
    command = "dyme " + shlex.join(sys.argv[1:])
    try:
        report = run_study(design, command, display.note, only=only, wait=wait)
    except KeyboardInterrupt:
        display.note("stopped; the same command continues from here")
        return INTERRUPTED
    show_results(display.console, summary(Study(design), only))
    display.note(f"report {report}")
    return 0


def summary(study: Study, only: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Return each arm's figures in each condition, means over the seeds that are done, for the terminal."""
    blocks, _ = named(study.design, only)
    found: dict[str, list[dict[str, Any]]] = {}
    rows = [(block, condition, BASE, cell) for block, condition, cell in study.bases(blocks)]
    for block, condition, arm, cell in [*rows, *((block, condition, arm, cell) for block, condition, arm, _, cell in study.rows(blocks))]:
        name = " / ".join(filter(None, [block.name if len(blocks) > 1 else "", arm, condition]))
        if cell is not None and (held := study.cells.get(cell)) is not None:
            found.setdefault(name, []).append(held["metrics"])
    names = {name: [key for key in own[0] if all(key in one for one in own)] for name, own in found.items()}
    return {name: {"metrics": {key: pooled([one[key] for one in own]) for key in names[name]}} for name, own in found.items()}


def _look(design: Design, only: Sequence[str], args: argparse.Namespace, display: Display) -> int:
    """Rewrite the report, or list the cells."""
    study = Study(design)
    if args.report:
        with suppress(RunError), lock.hold(design.out):  # else a study is at work there, and has written its plan
            study.write(f"dyme study {args.file}")
        display.note(f"report {write_report(design.out)}")
        if args.map:
            write_map(design.out, args.map)
            display.note(f"map    {args.map}")
        return 0
    rows, left = table(study, only)
    show_listing(open_console(), ("block", "condition", "arm", "cells", "done", "time left"), rows)
    display.note(f"{args.file}: no errors; {left}")
    if count := study.unused():
        display.note(f"{count} cell files belong to other settings than the study's now and are not used")
    return 0


def _checked(design: Design, display: Display) -> Design:
    """Return the design with the split that it reports on; raises the errors of its data and methods before any training."""
    plain = design.plain()
    find_rewards(plain.reward)
    if held_out(plain.task) == "validation":
        if design.tuning and any(arm.grid for arm in design.arms.values()):
            raise ConfigError(f"{design.where}: no test data; a study that tunes on the validation split needs task.test")
        display.note("no test data: the validation split is reported on")
        design = replace(design, split="validation")
    tried: set[tuple[TaskConfig, str]] = set()
    bases = [design.base_config(layer) for block in design.blocks.values() for layer in block.conditions.values()]
    for config in [*(config for _, config in design.variants()), *(bases if design.base else ())]:
        splits: list[Split] = ["train", design.split]
        splits += ["validation"] if design.tuning or config.run.eval_every or (design.base and design.diagnose) else []
        for split in splits:
            if (config.task, split) not in tried:
                tried.add((config.task, split))
                samples = samples_of(config, split, display)
                if len(tried) == 1:
                    design.try_out(samples[0])
    return design


def table(study: Study, only: Sequence[str]) -> tuple[list[list[str]], str]:
    """Return a row for each block, condition and arm: cells, how many are done, time left; and a line on the whole."""
    blocks, arms = named(study.design, only)
    groups: dict[tuple[str, str, str], list[Cell | None]] = {(TUNING, "", arm.name): list(study.trials([arm])) for arm in arms}
    for block, condition, base in study.bases(blocks):
        groups.setdefault((block.name, condition, BASE), []).append(base)
    for block, condition, arm_name, _, cell in study.rows(blocks):
        groups.setdefault((block.name, condition, arm_name), []).append(cell)
    paces, rows, seconds, unknown = _paces(study), [], 0.0, 0
    whole = {arm.name: config.train.max_prompts for arm, config in study.design.variants()}
    for (block_name, condition, arm_name), cells in groups.items():
        left = [cell for cell in cells if cell is None or study.cells.get(cell) is None]
        pace = paces.get(arm_name) or (paces.get("") if arm_name != BASE else None)
        sizes = [1 if arm_name == BASE else cell.config.train.max_prompts if cell else whole[arm_name] for cell in left]
        cost = sum((size or 1) * pace for size in sizes) if pace else 0.0
        seconds, unknown = seconds + cost, unknown + (0 if pace else len(left))
        shown = "" if not left else f"{cost / 60:.0f} min" if pace else "unknown"
        rows += [[block_name, condition, arm_name, str(len(cells)), str(len(cells) - len(left)), shown]] if cells else []
    line = f"about {seconds / 3600 / study.design.jobs:.1f} h left with {study.design.jobs} jobs, by cells that are done"
    return rows, line + (f"; of {unknown} cells the time is unknown until one like them is done" if unknown else "")


def _paces(study: Study) -> dict[str, float]:
    """Return the seconds that each arm's cells took for a prompt of their budget (for a cell, if it counts no prompts); of all under ""."""
    took: dict[str, list[tuple[float, int]]] = {}
    for cell in study.every():
        if found := study.cells.get(cell):
            size = 1 if cell.stage == "base" else cell.config.train.max_prompts or 1
            for name in {cell.arm, "" if cell.stage != "base" else cell.arm}:
                took.setdefault(name, []).append((float(found.get("wall_seconds", 0.0)), size))
    return {name: sum(wall for wall, _ in some) / sum(size for _, size in some) for name, some in took.items()}
