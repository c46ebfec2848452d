"""dyme demo: evaluate the embedded base, train it with DyME, and show both side by side."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dyme.api import evaluate_model, reports_of, samples_of, train_model
from dyme.checks import check_training
from dyme.cli.common import INTERRUPTED
from dyme.config import Config
from dyme.publishing import card
from dyme.recipe import build
from dyme.report.page import write_page
from dyme.system.processes import alone
from dyme.tracking.display import Display, new_display, show_results
from dyme.tracking.run_folder import RunFolder
from dyme.tracking.trackers import Reports

PROMPTS = 2048
"""Prompts that the demo trains on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--out", default="runs/demo", help="run folder (default: %(default)s)")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Evaluate the embedded base, train it with DyME, and show both side by side; return the exit status."""
    recipe = {
        "run": {"output": args.out, "save_every": 0},
        "task": {"traces": "high", "test_size": 300},
        "train": {"max_prompts": PROMPTS, "learning_rate": 1e-3},
    }
    config = build(recipe, rest)
    check_training(config)
    RunFolder.check_new(Path(config.run.output))
    reporting = reports_of(config)
    with alone(Path(config.run.output)), reporting as reports:
        return _demo(config, new_display(), reports)


def _demo(config: Config, display: Display, reports: Reports) -> int:
    test = samples_of(config, "test", display)
    display.note("The embedded model (SmolVLM's architecture, 2.7 M parameters) before training:")
    before = evaluate_model(config, config.model.path, test, display)
    show_results(display.console, {"base": before})
    size = f"{config.train.max_prompts} prompts x {config.rollout.num_generations} completions"
    display.note(f"\nDyME on {config.task.traces} quality traces: {size}. Ctrl-C saves and stops.")
    folder = train_model(config, False, display, trackers=reports)
    run = RunFolder.open(config.run.output)
    if folder != run.path / "model":
        return INTERRUPTED
    after = evaluate_model(config, str(folder), test, display)
    try:
        for step, name, result in ((0, "base", before), (run.model_step(), "test", after)):
            run.log_evaluation(step, name, result)
            reports.log_evaluation(step, name, result)
        card.write(run, folder)
    finally:
        show_results(display.console, {"base": before, "DyME": after})
    display.note(f"model  {folder}\npage   {write_page(run.path)}")
    return 0
