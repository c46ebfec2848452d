"""dyme train: train by a recipe, or go on with a run; then evaluate, write the page, and push if the recipe says so."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dyme.checks import check_config
from dyme.cli.common import INTERRUPTED, check_fresh, evaluate_model, new_display, samples_of, train_model
from dyme.config import Config
from dyme.errors import ConfigError
from dyme.publishing import card, hub
from dyme.recipe import load_recipe
from dyme.report.page import write_page
from dyme.system.launch import is_main
from dyme.system.processes import alone, check_shared, from_main, together
from dyme.tasks import held_out
from dyme.tracking.display import Display, show_results
from dyme.tracking.run_folder import RunFolder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("recipe", nargs="?", help="a TOML recipe, or the name of one that ships (`dyme recipes`), e.g. charts-dyme")
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder from its last checkpoint")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Train, evaluate on the test split, else on the validation split, write the page; a run that was stopped has status 130."""
    if args.resume:
        check_shared(Path(args.resume), "--resume")
    config = together(lambda: _settings(args, rest))
    check_shared(Path(config.run.output), "--run.output")
    if not args.resume:
        from_main(lambda: check_fresh(config))
    with alone(Path(config.run.output)):
        return _train(config, args.resume, new_display())


def _train(config: Config, resume: str | None, display: Display) -> int:
    split = from_main(lambda: held_out(config.task))
    held = samples_of(config, split) if split else []
    if split == "validation":
        display.note(f"no test data: the evaluation at the end is on the validation split, {len(held)} rows that are not trained on")
    folder = train_model(config, resume, display)
    run = RunFolder(config.run.output)
    if folder != run.path / "model":
        return INTERRUPTED
    done = {e["name"]: e for e in from_main(run.evaluations)}
    fresh = split is not None and split not in done
    if split and fresh:
        done[split] = evaluate_model(config, str(folder), held, display)
    if is_main():
        try:
            if split and fresh:
                run.log_evaluation(run.steps()[-1].step, split, done[split])
            card.write(run, folder)
        finally:
            if split:
                show_results(display.console, {f"{config.method.name}, {split}": done[split]})
        display.note(f"model  {folder}\npage   {write_page(run.path)}")
        if config.run.push_to_hub:
            display.note(f"pushed {hub.push(folder, config.run.hub_model_id, config.run.hub_private_repo)}")
    return 0


def _settings(args: argparse.Namespace, rest: Sequence[str]) -> Config:
    """The settings of a new run, or those of the run to go on with, as far as they can be checked without data."""
    if bool(args.recipe) == bool(args.resume):
        raise ConfigError("give a recipe (dyme train charts-dyme) or --resume RUN, not both")
    if args.resume and rest:
        raise ConfigError(f"a resumed run keeps its recipe; remove {rest[0]!r}")
    config = RunFolder.open(args.resume).config() if args.resume else load_recipe(args.recipe, rest)
    config = replace(config, run=replace(config.run, output=args.resume)) if args.resume else config
    check_config(config)
    if config.run.push_to_hub:
        hub.need_token()
    return config
