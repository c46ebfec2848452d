"""dyme diagnose: sample from a model and say what that means for each method."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dyme.api import evaluate_model
from dyme.cli.common import eval_config, first_samples, split_of, write_json
from dyme.cli.looking.arguments import add_model_arguments
from dyme.evaluation.advice import advice
from dyme.evaluation.items import Plan
from dyme.system.launch import is_main
from dyme.system.processes import together
from dyme.tracking.display import new_display, show_evaluation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add_model_arguments(parser)


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Sample from a model and say what that means for each method."""
    config = together(lambda: eval_config(args, rest))
    display = new_display()
    args.split = split_of(args, config, display)
    chosen = first_samples(config, args, display, 200)
    result = evaluate_model(config, args.model, chosen, display, plan=Plan(k=args.k, sampled=len(chosen)))
    if not is_main():
        return 0
    lines = advice({name: figure["value"] for name, figure in result["metrics"].items()}, args.k)
    try:
        write_json(args.json, {"model": args.model, "task": config.task.name, "advice": lines, **result})
    finally:
        show_evaluation(display, args.model, result, every=True)
        for line in lines:
            display.note(f"- {line}")
    return 0
