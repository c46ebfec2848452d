"""What several commands share: settings, samples, files."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dyme.api import samples_of
from dyme.checks import check_config
from dyme.config import Config
from dyme.data.layouts import Split
from dyme.errors import ConfigError, at
from dyme.recipe import build, build_of_run, load_recipe
from dyme.system.processes import from_main
from dyme.tasks import held_out
from dyme.tracking.display import Display, open_console, show_listing
from dyme.tracking.run_folder import RunFolder
from dyme.types import Sample

INTERRUPTED = 130
"""Exit status after Ctrl-C, as in shells; the training so far is saved."""


def split_of(args: argparse.Namespace, config: Config, display: Display) -> Split:
    """Return the split that --split names; without it the test split, or, for data without test rows, the validation split with a note."""
    if args.split:
        return args.split  # type: ignore[no-any-return]
    split = from_main(lambda: held_out(config.task)) or "test"
    if split != "test":
        display.note("no test data: the validation split is taken")
    return split


def helper_config(args: argparse.Namespace, rest: Sequence[str]) -> Config:
    """Return the settings for facts and judge: a recipe's or the defaults."""
    if args.json:
        check_writable(args.json)
    config = load_recipe(args.recipe, rest) if args.recipe else build({}, rest)
    config = with_task(config, args.task, rest) if args.task else config
    check_config(config)
    return config


def eval_config(args: argparse.Namespace, rest: Sequence[str]) -> Config:
    """Return the settings for eval and diagnose, once their arguments are checked (`model_config`)."""
    if args.k < 2 and (args.k or args.command != "eval"):
        raise ConfigError("--k must be at least 2" + (", or 0 for no sampling" if args.command == "eval" else ""))
    if args.samples < 0:
        raise ConfigError("--samples must not be negative")
    if args.command == "eval" and args.batch_tokens < 1:
        raise ConfigError("--batch-tokens must be at least 1")
    if args.json:
        check_writable(args.json)
    return model_config(args, rest)


def model_config(args: argparse.Namespace, rest: Sequence[str]) -> Config:
    """Return the settings for a model on a task: a recipe's, the run's own if the model is a run folder, or the defaults."""
    run = RunFolder.of_model(Path(args.model))
    if args.recipe:
        config = load_recipe(args.recipe, rest)
    elif run:
        config = build_of_run(run.settings(), rest, where=str(run.path))
    else:
        config = build({}, rest)
    if args.task:
        config = with_task(config, args.task, rest)
    check_config(config)
    return config


def first_samples(config: Config, args: argparse.Namespace, display: Display, most: int | None = None) -> list[Sample]:
    """Return the first `--samples` samples of a split, or `most`, or all; note it if the split has fewer than `--samples`."""
    size = f"{args.split}_size"
    if args.samples > getattr(config.task, size) > 0:  # a run's own size is for its own evaluations
        config = replace(config, task=replace(config.task, **{size: args.samples}))
    found = samples_of(config, args.split, display)[: args.samples or most]
    if len(found) < args.samples:
        display.note(f"{args.samples} samples were asked for, and {config.task.name}'s {args.split} split has {len(found)}")
    return found


_ROOM = 65_536
"""Rough upper bound on the bytes of a file of figures."""
_MODELS_OWN = ("input", "think_prompt", "direct_prompt", "marker", "prepared")
"""Settings that are kept when the task is changed: how the model is asked, and where data are prepared."""


def with_task(config: Config, name: str, rest: Sequence[str]) -> Config:
    """Return `config` for task `name`: settings that belong to a task (data, sizes, tolerance, ...) are those of the command line or the
    defaults; those of how the model is asked are kept.
    """
    if name == config.task.name:
        return config
    given = build(config.to_dict() | {"task": {}}, rest).task
    kept = {key: getattr(config.task, key) for key in _MODELS_OWN}
    return replace(config, task=replace(given, name=name, **kept))


def listed(text: str, kind: type, name: str) -> tuple[Any, ...]:
    """Return the distinct values of a comma-separated list, in order."""
    try:
        return tuple(dict.fromkeys(kind(word.strip()) for word in text.split(",") if word.strip()))
    except ValueError as error:
        raise ConfigError(f"--{name}: {text!r} is not a list of numbers separated by commas") from error


def check_writable(path: Path) -> None:
    """Create the file's folder and check that the file can be written, so that a long evaluation does not end in an error."""
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
    """Write `result` as JSON to `path`, if a file was asked for; the caller shows the result even if writing fails."""
    if path is not None:
        with at(path):
            path.write_text(json.dumps(result, indent=1), encoding="utf-8")


def show_list(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> int:
    """Show rows under their heads and return the exit status 0."""
    show_listing(open_console(), heads, rows)
    return 0
