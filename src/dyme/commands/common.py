"""What several commands share: settings, samples, a model's evaluation, files; torch is imported only where a model is needed."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from dyme.config import Config
from dyme.display import Display, open_console
from dyme.errors import ConfigError, ModelError, RunError
from dyme.recipe import build, load_recipe, nearest
from dyme.record import RunFolder
from dyme.route import ROUTERS
from dyme.supervise.build import load
from dyme.tasks import TASKS
from dyme.tasks.task import Split
from dyme.types import Sample
from dyme.verify.rules import rules_of


def new_display() -> Display:
    """A display on the terminal; quiet in all but the main process."""
    return Display(open_console(quiet=not main_process()))


def main_process() -> bool:
    """Whether this is the only process of a run, or the first."""
    return os.environ.get("RANK", "0") == "0"


def check_names(config: Config) -> None:
    """Whether names exist, before anything slow."""
    if config.task.name not in TASKS:
        raise ConfigError(f"unknown task {config.task.name!r}; {nearest(config.task.name, TASKS)}")
    if config.method.name not in ROUTERS:
        raise ConfigError(f"unknown method {config.method.name!r}; {nearest(config.method.name, ROUTERS)}")


def check_fresh(config: Config) -> None:
    """Raise RunError unless the run folder is new and can be made."""
    path = Path(config.run.output)
    RunFolder.check_new(path)
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise RunError(f"{path}: no folder can be made in {above}; choose another --run.output")


def samples_of(config: Config, split: Split) -> list[Sample]:
    """A split's samples; read before torch is imported, so that bad rows are found at once."""
    display = new_display()
    with progress_bars(display) as progress:
        samples, trouble = load(config, split, progress)
    if trouble:
        display.note(trouble)
    return samples


def train_model(config: Config, resume: str | None, display: Display) -> Path:
    """Train by `config`, or go on with the run that it names, and return the folder of the model."""
    if not resume:
        check_fresh(config)
    samples = samples_of(config, "train")
    from dyme.train import train as run_training

    return run_training(config, samples=samples, resume=bool(resume), display=display)


def evaluate_model(
    config: Config, model: str, samples: Sequence[Sample], display: Display, *, k: int = 8, sampled: int = 300
) -> dict[str, Any]:
    """`evaluate`'s figures of the checkpoint at `model`."""
    from dyme.evaluate import evaluate
    from dyme.policy import Policy

    policy = Policy.load(replace(config.model, path=model))
    with progress_bars(display) as progress:
        return evaluate(policy, samples, config, rules_of(config), k=k, sampled=sampled, progress=progress)


@contextmanager
def progress_bars(display: Display) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each thing that is counted; none where nobody watches."""
    with Progress(console=display.console, transient=True, disable=not display.console.is_terminal) as bar:
        bars: dict[str, Any] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in bars:
                bars[what] = bar.add_task(what, total=total)
            bar.update(bars[what], completed=done)

        yield progress


def helper_config(args: argparse.Namespace, rest: Sequence[str]) -> Config:
    """Settings for facts and judge: a recipe's or the defaults."""
    if args.json:
        check_writable(args.json)
    config = load_recipe(args.recipe, rest) if args.recipe else build({}, rest)
    config = replace(config, task=replace(config.task, name=args.task)) if args.task else config
    check_names(config)
    return config


def eval_config(args: argparse.Namespace, rest: Sequence[str]) -> Config:
    """Settings for eval and diagnose: a recipe's, the run's own if the model is a run folder, or the defaults."""
    if args.k < 2 or args.samples < 0:
        raise ConfigError("--k must be at least 2" if args.k < 2 else "--samples must not be negative")
    if args.json:
        check_writable(args.json)
    run = run_of(Path(args.model))
    if args.recipe:
        config = load_recipe(args.recipe, rest)
    elif run:
        config = build(run.settings(), rest, where=str(run.path))
    else:
        config = build({}, rest)
    if args.task:
        config = replace(config, task=replace(config.task, name=args.task))
    check_names(config)
    return config


def run_of(model: Path) -> RunFolder | None:
    """The run that a model folder belongs to: RUN, RUN/model or RUN/checkpoints/step-N/model."""
    for folder in (model, *model.parents[:3]):
        if (folder / "config.json").exists() and (folder / "metrics.jsonl").exists():
            run = RunFolder.open(folder)
            last = run.latest_checkpoint()
            if folder == model and not (run.path / "model").exists():
                hint = f"give {last[1] / 'model'}, or go on" if last else "go on"
                raise ModelError(f"{model}: this run has no final model yet; {hint} with dyme train --resume {model}")
            return run
    return None


def listed(text: str, kind: type, name: str) -> tuple[Any, ...]:
    """The distinct values of a comma-separated list, in order."""
    try:
        return tuple(dict.fromkeys(kind(word.strip()) for word in text.split(",") if word.strip()))
    except ValueError as error:
        raise ConfigError(f"--{name}: {text!r} is not a list of numbers separated by commas") from error


def check_writable(path: Path) -> None:
    """Make the file's folder, so that a long evaluation does not end in an error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError as error:
        raise ConfigError(f"--json {path}: cannot be written ({error.strerror})") from error


def write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write `result`, if a file was asked for."""
    if path is not None:
        path.write_text(json.dumps(result, indent=1), encoding="utf-8")
