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

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from dyme.checks import check_config
from dyme.config import Config
from dyme.errors import ConfigError, ModelError, RunError, at
from dyme.evaluation.items import ItemFolder, Plan
from dyme.recipe import build, load_recipe
from dyme.samples import load
from dyme.system.launch import is_main
from dyme.system.processes import from_main, main_first
from dyme.tasks import held_out
from dyme.tasks.task import Split
from dyme.tracking.display import Display, Pace, open_console, show_answer_kinds, show_kinds, show_listing, show_results
from dyme.tracking.run_folder import RunFolder
from dyme.types import Sample

INTERRUPTED = 130
"""Exit status after Ctrl-C, as shells have it; what was trained is saved."""


def new_display() -> Display:
    """A display on the terminal; quiet in all but the main process."""
    return Display(open_console(quiet=not is_main()))


def check_fresh(config: Config) -> None:
    """Raise RunError unless the run folder is new and can be made."""
    path = Path(config.run.output)
    RunFolder.check_new(path)
    check_place(path, "--run.output")


def check_place(path: Path, option: str) -> None:
    """Raise RunError if no folder can be made at `path`, which `option` named."""
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise RunError(f"{path}: no folder can be made in {above}; choose another {option}")


def samples_of(config: Config, split: Split) -> list[Sample]:
    """A split's samples; read before torch is imported, so that bad rows are found at once.

    Of several processes the main one reads first, as reading may prepare data or extract facts, which the others then find.
    """
    display = new_display()
    with progress_bars(display) as progress:
        samples, trouble = main_first(lambda: load(config, split, progress))
    if trouble:
        display.note(trouble)
    return samples


def split_of(args: argparse.Namespace, config: Config, display: Display) -> Split:
    """The split that --split names; without it the test split, or, told, the validation split of data that has no test rows."""
    if args.split:
        return args.split  # type: ignore[no-any-return]
    split = from_main(lambda: held_out(config.task)) or "test"
    if split != "test":
        display.note("no test data: the validation split is taken")
    return split


def train_model(config: Config, resume: str | None, display: Display) -> Path:
    """Train by `config`, or go on with the run that it names, and return the folder of the model."""
    if not resume:
        from_main(lambda: check_fresh(config))
    samples = samples_of(config, "train")
    from dyme.training.loop import train as run_training

    return run_training(config, samples=samples, resume=bool(resume), display=display)


def evaluate_model(
    config: Config, model: str, samples: Sequence[Sample], display: Display, *, plan: Plan | None = None, folder: ItemFolder | None = None
) -> dict[str, Any]:
    """Figures of the checkpoint at `model`, by all processes of the launch; see `evaluate.run_evaluation`."""
    from dyme.evaluation.run import run_evaluation

    config = replace(config, model=replace(config.model, path=model))
    with progress_bars(display) as progress:
        return run_evaluation(config, samples, plan or Plan(), folder=folder, progress=progress, note=display.note)


@contextmanager
def progress_bars(display: Display) -> Iterator[Callable[[str, int, int], None]]:
    """A bar with rate and time left for each thing that is counted; where there is no terminal, now and then a line."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[pace]}"))
    with Progress(*columns, console=display.console, transient=True, disable=not display.console.is_terminal) as bar:
        bars: dict[str, Any] = {}
        paces: dict[str, Pace] = {}

        def progress(what: str, done: int, total: int) -> None:
            pace = paces.setdefault(what, Pace())
            words = pace.report(done, total)
            if what not in bars:
                bars[what] = bar.add_task(what, total=total or None, pace=words)
            bar.update(bars[what], completed=done, pace=words)
            if not display.console.is_terminal and pace.due():
                display.note(f"{what}: {done}{f' of {total}' if total else ''}, {words}")

        yield progress


def helper_config(args: argparse.Namespace, rest: Sequence[str]) -> Config:
    """Settings for facts and judge: a recipe's or the defaults."""
    if args.json:
        check_writable(args.json)
    config = load_recipe(args.recipe, rest) if args.recipe else build({}, rest)
    config = with_task(config, args.task, rest) if args.task else config
    check_config(config)
    return config


def eval_config(args: argparse.Namespace, rest: Sequence[str]) -> Config:
    """Settings for eval and diagnose: a recipe's, the run's own if the model is a run folder, or the defaults."""
    if args.k < 2 and (args.k or args.command != "eval"):
        raise ConfigError("--k must be at least 2" + (", or 0 for no sampling" if args.command == "eval" else ""))
    if args.samples < 0:
        raise ConfigError("--samples must not be negative")
    if args.command == "eval" and args.batch_tokens < 1:
        raise ConfigError("--batch-tokens must be at least 1")
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
        config = with_task(config, args.task, rest)
    check_config(config)
    return config


def first_samples(config: Config, args: argparse.Namespace, display: Display, most: int | None = None) -> list[Sample]:
    """The first `--samples` of a split, or `most`, or all; told where there are fewer than were asked for."""
    size = f"{args.split}_size"
    if args.samples > getattr(config.task, size) > 0:  # a run's own size is for its own evaluations
        config = replace(config, task=replace(config.task, **{size: args.samples}))
    found = samples_of(config, args.split)[: args.samples or most]
    if len(found) < args.samples:
        display.note(f"{args.samples} samples were asked for, and {config.task.name}'s {args.split} split has {len(found)}")
    return found


_ROOM = 65_536
"""Bytes that figures take at most, roughly."""
_MODELS_OWN = ("input", "think_prompt", "direct_prompt", "marker", "prepared")
"""Settings of a task that are kept for another one: how the model is asked, and where to prepare."""


def with_task(config: Config, name: str, rest: Sequence[str]) -> Config:
    """`config` for task `name`: the data, sizes, tolerance and other settings that belong to a task are those of the command line, or
    the defaults; how the model is asked stays.
    """
    if name == config.task.name:
        return config
    given = build(config.to_dict() | {"task": {}}, rest).task
    kept = {key: getattr(config.task, key) for key in _MODELS_OWN}
    return replace(config, task=replace(given, name=name, **kept))


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
    """Make the file's folder and see that the file can be written, so that a long evaluation does not end in an error."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() or path.is_dir():
            path.open("ab").close()
        elif not path.exists():  # else a pipe or a device, which is left alone
            try:
                path.write_bytes(bytes(_ROOM))
            finally:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"--json {path}: cannot be written ({error.strerror})") from error


def write_json(path: Path | None, result: dict[str, Any]) -> None:
    """Write `result`, if a file was asked for; the caller shows it whether or not that works."""
    if path is not None:
        with at(path):
            path.write_text(json.dumps(result, indent=1), encoding="utf-8")


def show_list(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Show rows under their heads; the exit status 0."""
    show_listing(open_console(), heads, rows)
    return 0


def show_evaluation(display: Display, model: str, result: dict[str, Any], *, every: bool = False) -> None:
    """The tables of an evaluation."""
    show_results(display.console, {model: result}, every=every)
    if result["by_answer_kind"]:
        show_answer_kinds(display.console, result["by_answer_kind"])
    if result["by_kind"] and not every:
        show_kinds(display.console, result["by_kind"])
