"""dyme cell: run one training of a comparison; `dyme compare` starts this command, users do not."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dyme.api import evaluate_model, reports_of, samples_of, train_model
from dyme.cli.common import INTERRUPTED
from dyme.comparison.cells import end_with_parent, read_cell
from dyme.config import Config
from dyme.system import lock
from dyme.tracking.display import Display, new_display
from dyme.tracking.run_folder import RunFolder
from dyme.tracking.trackers import Reports


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("recipe", type=Path)
    parser.add_argument("split")
    parser.add_argument("--base", action="store_true")
    parser.add_argument("--tied", action="store_true", help="end with the process that started it")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run one training of a comparison: train unless it is the base, then evaluate on a split."""
    config = read_cell(args.recipe)
    path = Path(config.run.output)
    if args.tied:
        end_with_parent()
    with lock.hold(path, wait=True), reports_of(config) as reports:  # waits for one of a killed comparison, which ends after its step
        return _cell(args, config, path, new_display(), reports)


def _cell(args: argparse.Namespace, config: Config, path: Path, display: Display, reports: Reports) -> int:
    """Train, resuming the run that the folder may hold, and evaluate; return the exit status."""
    samples = samples_of(config, args.split, display)
    begun = (path / "config.json").exists()
    if args.base:
        run, model, step = (RunFolder.open(path) if begun else RunFolder.create(path, config, {})), config.model.path, 0
    else:
        finished = path / "model"
        if not finished.exists() and train_model(config, begun, display, trackers=reports) != finished:
            return INTERRUPTED
        run, model = RunFolder.open(path), str(finished)
        step = run.model_step()
    result = evaluate_model(config, model, samples, display)
    run.log_evaluation(step, args.split, result)
    reports.log_evaluation(step, args.split, result)
    return 0
