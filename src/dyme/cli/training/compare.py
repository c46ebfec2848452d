"""dyme compare: train several methods from one base under one budget, and write one table and one page."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dyme.api import samples_of
from dyme.checks import check_config
from dyme.cli.common import INTERRUPTED, listed
from dyme.comparison.plan import BASE, Study, parse_budget
from dyme.comparison.study import run_study
from dyme.data.layouts import Split
from dyme.methods import COMPARED
from dyme.recipe import load_recipe, read_recipe, tables_of
from dyme.report.comparison import write_comparison, write_table
from dyme.tasks import held_out
from dyme.tracking import trackers
from dyme.tracking.display import new_display, show_results
from dyme.verify.rewards import find_rewards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("recipe", help="a TOML recipe, or the name of one that ships (`dyme recipes`), e.g. charts-dyme")
    parser.add_argument(
        "--methods",
        default=",".join([BASE, *COMPARED]),
        help="methods to compare, by name or your own (mine.py:METHOD); base is the untrained model; NAME+reward.thinking_weight=0 "
        "changes a setting for that method alone (default: %(default)s)",
    )
    parser.add_argument("--seeds", default="0,1,2", help="seeds, one training of each method for each (default: %(default)s)")
    parser.add_argument(
        "--budget",
        default="",
        help="budget of each training, e.g. 2000prompts, 16000completions, 500000tokens or 120s (default: the recipe's)",
    )
    parser.add_argument("--traces", default="", help="qualities of the charts' traces, e.g. low,high (default: the recipe's)")
    parser.add_argument("--learning-rates", default="", help="grid of rates, one chosen on the validation split, e.g. 1e-4,3e-4,1e-3")
    parser.add_argument("--jobs", type=int, default=1, help="number of trainings that run at a time (default: %(default)s)")
    parser.add_argument(
        "--out", default="runs/compare", help="folder of the comparison; finished trainings in it are not repeated (default: %(default)s)"
    )


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run a comparison and show it."""
    overrides = [*rest, *([f"--train.{key}={value}" for key, value in parse_budget(args.budget).items()] if args.budget else [])]
    config = load_recipe(args.recipe, overrides)
    check_config(config)
    trackers.check(config)
    plan = Study(
        config=config,
        methods=listed(args.methods, str, "methods"),
        traces=listed(args.traces, str, "traces") or (config.task.traces,),
        seeds=listed(args.seeds, int, "seeds"),
        rates=listed(args.learning_rates, float, "learning-rates") or (config.train.learning_rate,),
        out=Path(args.out),
        jobs=args.jobs,
        given=tables_of(read_recipe(args.recipe, overrides), overrides, args.recipe),
    )
    plan.check()
    find_rewards(config.reward)
    display = new_display()
    if held_out(config.task) == "validation" and len(plan.rates) == 1:  # a grid is chosen on it
        display.note("no test data: the validation split is reported on")
        plan = replace(plan, split="validation")
    splits: set[Split] = {"validation", "test"} if len(plan.rates) > 1 else {plan.split}
    if config.run.eval_every:
        splits.add("validation")
    plan.try_out(samples_of(config, "train", display)[0])
    for split in sorted(splits):
        samples_of(config, split, display)
    try:
        result = run_study(plan, display.note, "dyme " + shlex.join(sys.argv[1:]))
    except KeyboardInterrupt:
        display.note("stopped; the same command continues from here")
        return INTERRUPTED
    show_results(display.console, {f"{row['method']} / {row['traces']}": row for row in result["summary"]})
    file = plan.out / "comparison.json"
    display.note(f"table  {write_table(file, plan.out / 'comparison.md')}\npage   {write_comparison(file, plan.out / 'comparison.html')}")
    return 0
