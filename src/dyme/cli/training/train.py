"""dyme train: train by a recipe, or resume a run; then evaluate, write the page, and push the model if the recipe says so."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dyme import api
from dyme.checks import check_training
from dyme.cli.common import INTERRUPTED
from dyme.config import Config
from dyme.errors import ConfigError
from dyme.recipe import load_recipe
from dyme.system.processes import check_shared, together
from dyme.tracking import trackers
from dyme.tracking.run_folder import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("recipe", nargs="?", help="a TOML recipe, or the name of one that ships (`dyme recipes`), e.g. charts-dyme")
    parser.add_argument("--resume", metavar="RUN", help="resume the run in this folder from its last checkpoint")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Train, evaluate on the test split, else on the validation split, write the page; return status 0, or 130 for a stopped run."""
    if args.resume:
        check_shared(Path(args.resume), "--resume")
    config = together(lambda: _settings(args, rest))
    try:
        api.train(config, resume=bool(args.resume))
    except api.Stopped:
        return INTERRUPTED
    return 0


def _settings(args: argparse.Namespace, rest: Sequence[str]) -> Config:
    """Return the settings of a new run, or of the run to resume, checked as far as possible without data."""
    if bool(args.recipe) == bool(args.resume):
        raise ConfigError("give a recipe (dyme train charts-dyme) or --resume RUN, not both")
    if args.resume and rest:
        raise ConfigError(f"a resumed run keeps its recipe; remove {rest[0]!r}")
    config = RunFolder.open(args.resume).config() if args.resume else load_recipe(args.recipe, rest)
    config = replace(config, run=replace(config.run, output=args.resume)) if args.resume else config
    check_training(config)
    trackers.check(config)
    return config
