"""dyme cell: run one training of a study; `dyme study` and `dyme compare` start this command, users do not."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dyme.api import evaluate_model, reports_of, samples_of, train_model
from dyme.cli.common import INTERRUPTED
from dyme.comparison.cells import DIAGNOSIS, NOTHING, Job, read_job
from dyme.comparison.processes import end_with_parent
from dyme.data.layouts import Split
from dyme.errors import Diverged, RunError
from dyme.evaluation.items import Item, ItemFolder, Plan, fingerprint
from dyme.evaluation.regime import diagnosis
from dyme.system import lock
from dyme.tracking.display import Display, new_display
from dyme.tracking.run_folder import RunFolder
from dyme.tracking.trackers import Reports
from dyme.types import Sample


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("job", type=Path)
    parser.add_argument("--tied", action="store_true", help="end with the process that started it")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run a cell of a study: train unless it is the base, evaluate, write the cell file; return the exit status."""
    job = read_job(args.job)
    if args.tied:
        end_with_parent()
    with lock.hold(job.run, wait=True), reports_of(job.config) as reports:  # waits for one of a killed study, which ends after its step
        if job.done():
            job.clean()
            return 0
        return _cell(job, new_display(), reports)


def _cell(job: Job, display: Display, reports: Reports) -> int:
    """Train, resuming the run that the folder may hold, evaluate, and write the cell file."""
    started, config = time.time(), job.config
    begun = job.begun()
    samples = samples_of(config, job.data["split"], display)
    if job.data["stage"] == "base":
        run, model = (RunFolder.open(job.run) if begun else RunFolder.create(job.run, config, {})), config.model.path
    else:
        finished = job.run / "model"
        try:
            if not finished.exists() and train_model(config, begun, display, trackers=reports) != finished:
                return INTERRUPTED
        except Diverged as error:
            if job.data["stage"] != "trial":
                raise
            job.write(NOTHING, [], {"diverged": str(error)})  # such settings are the worst; a test that diverges is an error
            return 0
        run, model = RunFolder.open(job.run), str(finished)
    figures, items = _figures(job, "items", job.data["split"], job.plan, model, samples, display)
    run.log_evaluation(run.model_step(), job.data["split"], figures)
    reports.log_evaluation(run.model_step(), job.data["split"], figures)
    more: dict[str, Any] = {}
    if job.data["stage"] == "base" and job.data["diagnose"]:
        held_out, training = (samples_of(config, split, display) for split in ("validation", "train"))
        more["diagnosis"] = diagnosis(_figures(job, "diagnosis", "validation", DIAGNOSIS, model, held_out, display)[0], training)
    job.write(figures, items, {"wall_seconds": round(time.time() - started, 1), **more})
    return 0


def _figures(
    job: Job, name: str, split: Split, plan: Plan, model: str, samples: Sequence[Sample], display: Display
) -> tuple[dict[str, Any], list[Item]]:
    """Evaluate a model, or finish an evaluation that was interrupted; return its figures and items."""
    place, settings = job.run / name, fingerprint(job.config, model, samples, split, plan)
    try:
        folder = ItemFolder.open(place, settings)
    except RunError:  # of another model or version: it is begun again
        shutil.rmtree(place)
        folder = ItemFolder.open(place, settings)
    return evaluate_model(job.config, model, samples, display, plan=plan, folder=folder), list(folder.items().values())
