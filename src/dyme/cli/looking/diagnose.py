"""dyme diagnose: sample from a model and say what that means for each method."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from dyme.api import evaluate_model, samples_of
from dyme.cli.common import eval_config, first_samples, split_of, write_json
from dyme.cli.looking.arguments import add_model_arguments
from dyme.config import Config
from dyme.errors import DymeError
from dyme.evaluation.advice import advice, choice
from dyme.evaluation.items import Plan
from dyme.evaluation.regime import MOST_TRACES, diagnosis, read_map
from dyme.system.launch import is_main
from dyme.system.processes import together
from dyme.tracking.display import Display, new_display, show_evaluation
from dyme.types import Sample


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_model_arguments(parser)


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Sample from a model and say what that means for each method, and which one the map of measured conditions supports."""
    config = together(lambda: eval_config(args, rest))
    display = new_display()
    args.split = split_of(args, config, display)
    chosen = first_samples(config, args, display, 200)
    result = evaluate_model(config, args.model, chosen, display, plan=Plan(k=args.k, sampled=len(chosen)))
    taught = chosen if args.split == "train" else _taught(config, args.split, display) or chosen
    if not is_main():
        return 0
    regime = diagnosis(result, taught)
    lines = advice({name: figure["value"] for name, figure in result["metrics"].items()}, args.k)
    lines += choice(read_map(), regime, config.task.name)
    try:
        write_json(
            args.json, {"model": args.model, "task": config.task.name, "advice": lines, "trace_truth": regime["trace_truth"], **result}
        )
    finally:
        show_evaluation(display, args.model, result, every=True)
        for line in lines:
            display.note(f"- {line}")
    return 0


def _taught(config: Config, split: str, display: Display) -> list[Sample]:
    """Return the first training samples, whose traces a method would imitate; [] without any, or where facts must be extracted first."""
    if config.supervision.facts != "data":
        return []
    size = min(config.task.train_size or MOST_TRACES, MOST_TRACES)
    try:
        return samples_of(replace(config, task=replace(config.task, train_size=size)), "train", display)
    except DymeError as error:
        display.note(f"traces are read from the {split} split, as no training samples can be: {error}")
        return []
