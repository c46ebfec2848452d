"""Commands that train: demo, train, compare, and one cell of a comparison."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dyme.checks import check
from dyme.cli.common import check_fresh, evaluate_model, listed, new_display, samples_of, train_model
from dyme.comparison import study
from dyme.config import Config
from dyme.errors import ConfigError
from dyme.publishing import card, hub
from dyme.recipe import build, load_recipe
from dyme.report.comparison import write_comparison, write_table
from dyme.report.page import write_page
from dyme.system import lock
from dyme.system.launch import is_main
from dyme.system.processes import alone, check_shared, from_main, together
from dyme.tasks import held_out
from dyme.tasks.task import Split
from dyme.tracking.display import Display, show_results
from dyme.tracking.run_folder import RunFolder

DEMO_PROMPTS = 2560
"""Prompts that `dyme demo` trains on."""
INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it; what was trained is saved."""


def demo(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """The embedded base, then DyME from it, then both side by side."""
    recipe = {
        "run": {"output": args.out, "save_every": 0},
        "task": {"traces": "high", "test_size": 300},
        "train": {"max_prompts": DEMO_PROMPTS, "learning_rate": 1e-3},
    }
    config = build(recipe, rest)
    check(config)
    check_fresh(config)
    with alone(Path(config.run.output)):
        return _demo(config, new_display())


def _demo(config: Config, display: Display) -> int:
    test = samples_of(config, "test")
    display.note("The embedded model (SmolVLM's architecture, 2.7 M parameters) before training:")
    before = evaluate_model(config, config.model.path, test, display)
    show_results(display.console, {"base": before})
    size = f"{config.train.max_prompts} prompts x {config.rollout.num_generations} completions"
    display.note(f"\nDyME on {config.task.traces} quality traces: {size}. Ctrl-C saves and stops.")
    folder = train_model(config, None, display)
    run = RunFolder.open(config.run.output)
    if folder != run.path / "model":
        return INTERRUPTED
    after = evaluate_model(config, str(folder), test, display)
    try:
        run.log_evaluation(0, "base", before)
        run.log_evaluation(run.steps()[-1].step, "test", after)
        card.write(run, folder)
    finally:
        show_results(display.console, {"base": before, "DyME": after})
    display.note(f"model  {folder}\npage   {write_page(run.path)}")
    return 0


def train(args: argparse.Namespace, rest: Sequence[str]) -> int:
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
    check(config)
    if config.run.push_to_hub:
        hub.need_token()
    return config


def compare(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run a comparison and show it."""
    config = load_recipe(args.recipe, rest)
    if args.budget:
        config = replace(config, train=replace(config.train, **study.parse_budget(args.budget)))
    check(config)
    plan = study.Study(
        config=config,
        methods=listed(args.methods, str, "methods"),
        traces=listed(args.traces, str, "traces") or (config.task.traces,),
        seeds=listed(args.seeds, int, "seeds"),
        rates=listed(args.learning_rates, float, "learning-rates") or (config.train.learning_rate,),
        out=Path(args.out),
        jobs=args.jobs,
    )
    plan.check()
    display = new_display()
    if held_out(config.task) == "validation" and len(plan.rates) == 1:  # a grid is chosen on it
        display.note("no test data: the validation split is reported on")
        plan = replace(plan, split="validation")
    splits: set[Split] = {"validation", "test"} if len(plan.rates) > 1 else {plan.split}
    for split in ("train", *sorted(splits)):
        samples_of(config, split)
    try:
        result = study.run_study(plan, display.note, "dyme " + shlex.join(sys.argv[1:]))
    except KeyboardInterrupt:
        display.note("stopped; the same command goes on from here")
        return INTERRUPTED
    show_results(display.console, {f"{row['method']} / {row['traces']}": row for row in result["summary"]})
    file = plan.out / "comparison.json"
    display.note(f"table  {write_table(file, plan.out / 'comparison.md')}\npage   {write_comparison(file, plan.out / 'comparison.html')}")
    return 0


def cell(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """One training of a comparison: train unless it is the base, evaluate on a split."""
    config = study.read_cell(args.recipe)
    path = Path(config.run.output)
    if args.tied:
        study.end_with_parent()
    with lock.hold(path, wait=True):  # for one of a comparison that was killed, which ends after its step
        return _cell(args, config, path, new_display())


def _cell(args: argparse.Namespace, config: Config, path: Path, display: Display) -> int:
    """Go on with what is in the folder, if it holds a run."""
    samples = samples_of(config, args.split)
    begun = (path / "config.json").exists()
    if args.base:
        run, model, step = (RunFolder.open(path) if begun else RunFolder.create(path, config, {})), config.model.path, 0
    else:
        finished = path / "model"
        if not finished.exists() and train_model(config, str(path) if begun else None, display) != finished:
            return INTERRUPTED
        run, model = RunFolder.open(path), str(finished)
        step = run.steps()[-1].step
    run.log_evaluation(step, args.split, evaluate_model(config, model, samples, display))
    return 0
