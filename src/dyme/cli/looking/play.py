"""dyme play: a page on this machine, on which a model is asked about pictures and shows how it thinks."""

from __future__ import annotations

import argparse
import atexit
import importlib.util
import os
import shutil
import socket
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dyme import plugins
from dyme.api import samples_of
from dyme.cli.common import model_config, split_of
from dyme.config import Config
from dyme.errors import ConfigError, DymeError, ModelError
from dyme.system.launch import several
from dyme.tasks.rules import rules_of
from dyme.tracking.display import Display, new_display
from dyme.tracking.run_folder import RunFolder
from dyme.types import Sample

if TYPE_CHECKING:
    from dyme.play.asking import Model

HOST = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("model", help="a checkpoint folder, a run folder, a hub id, or embedded")
    parser.add_argument(
        "--beside", metavar="MODEL", help="a second model that is asked the same (default: the base that the run began with)"
    )
    parser.add_argument("--task", help="task whose samples can be chosen (`dyme tasks` lists them); default: the run's own, or charts")
    parser.add_argument("--recipe", help="take the other settings from this recipe")
    parser.add_argument(
        "--split", choices=("train", "validation", "test"), help="split of the task's samples (default: test, else validation)"
    )
    parser.add_argument("--samples", type=int, default=24, help="samples to choose from (default: %(default)s)")
    parser.add_argument("--port", type=int, default=7860, help=f"port on {HOST} (default: %(default)s)")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Load the models, serve the page until Ctrl-C, and return the exit status."""
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError("dyme play needs gradio: pip install 'dyme[play]'")
    if several():
        raise ConfigError("dyme play runs in one process; start it without torchrun or accelerate launch")
    if args.samples < 1:
        raise ConfigError("--samples must be at least 1")
    config, display = model_config(args, rest), new_display()
    _stay_here([args.model, args.beside or "embedded"])
    with _bound(args.port) as listening:
        samples = _samples(config, args, display)
        from dyme.play.asking import Play

        models = _models(config, args, display)
        source = f"{plugins.label(config.task.name)}, {args.split}" if samples else ""
        play = Play(models=models, config=config, samples=samples, rules=rules_of(config), source=source)
        from dyme.play.page import serve

        display.note(f"page   http://{HOST}:{listening.getsockname()[1]}   (on this machine alone; Ctrl-C ends it)")
        serve(play, listening)
    return 0


def _stay_here(models: Sequence[str]) -> None:
    """Keep gradio and the libraries of the hub from asking other machines, unless a model is named by its hub id; its files are then looked
    for there, as in other commands.
    """
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
    if all(Path(model).exists() or model == "embedded" for model in models):
        os.environ["HF_HUB_OFFLINE"] = "1"
    folder = tempfile.mkdtemp(prefix="dyme-play-")  # for pictures that are uploaded
    os.environ["GRADIO_TEMP_DIR"] = folder
    atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _bound(port: int) -> socket.socket:
    """Return a socket that listens at a port of this machine. Raises ConfigError if it cannot be had."""
    if not 0 <= port < 2**16:
        raise ConfigError(f"--port is {port}; give a number from 0 (any free one) to 65535")
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
        listening.listen()
    except OSError as error:
        listening.close()
        raise ConfigError(f"--port {port}: cannot be used ({error.strerror}); give another, or 0 for any free one") from error
    return listening


def _samples(config: Config, args: argparse.Namespace, display: Display) -> list[Sample]:
    """Return samples to choose from; none, with a note, if the data of a run are gone. Facts that an LLM would give are left out."""
    if config.supervision.facts == "llm":
        display.note("facts by an LLM are not asked for here; the page can read pictures by OCR")
        config = replace(config, supervision=replace(config.supervision, facts="data"))
    asked_for = args.task or args.recipe or args.split
    try:
        args.split = split_of(args, config, display)
        sized = replace(config, task=replace(config.task, **{f"{args.split}_size": args.samples}))  # before facts are read from pictures
        return samples_of(sized, args.split, display)[: args.samples]
    except DymeError as error:
        if asked_for:
            raise
        display.note(f"no samples to choose from: {error}")
        return []


def _models(config: Config, args: argparse.Namespace, display: Display) -> tuple[Model, ...]:
    """Return the model and the one beside it: that of --beside, else the base of the run, if it can be loaded. Raises ModelError."""
    from dyme.evaluation.run import load
    from dyme.play.asking import Model

    def opened(path: str, name: str, settings: Config) -> Model:
        return Model(name=name, policy=load(replace(settings, model=replace(settings.model, path=path)), display.note))

    run, bare = RunFolder.of_model(Path(args.model)), replace(config, model=replace(config.model, lora_rank=0))
    first = opened(args.model, f"{_called(args.model)}, trained" if run else _called(args.model), config)
    if args.beside:
        return first, opened(args.beside, _called(args.beside), bare)
    base = run.config().model.path if run else args.model
    if base == args.model:
        return (first,)
    try:
        return first, opened(base, f"{_called(base)}, its base", bare)
    except ModelError as error:
        display.note(f"without the base that the run began with: {error}")
        return (first,)


def _called(model: str) -> str:
    """Return a model's name for headings: of a folder its last part, of a run's model that of the run."""
    place = Path(model)
    if not place.exists():
        return model
    parts = [part for part in place.resolve().parts if part not in ("model", "checkpoints")]
    return parts[-1] if parts else model
