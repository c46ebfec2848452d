"""Commands that look at a model or a run: eval, diagnose, report."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dyme.advice import advice
from dyme.commands.common import eval_config, evaluate_model, new_display, samples_of, write_json
from dyme.display import show_kinds, show_results
from dyme.report.page import write_page


def eval(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Evaluate a model."""
    config = eval_config(args, rest)
    display = new_display()
    chosen = samples_of(config, args.split)[: args.samples or None]
    result = evaluate_model(config, args.model, chosen, display, k=args.k)
    show_results(display.console, {args.model: result})
    if result["by_kind"]:
        show_kinds(display.console, result["by_kind"])
    write_json(args.json, {"model": args.model, "task": config.task.name, "split": args.split, **result})
    return 0


def diagnose(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Sample from a model and say what that means for SFT, GRPO and DyME."""
    config = eval_config(args, rest)
    display = new_display()
    chosen = samples_of(config, args.split)[: args.samples or 200]
    result = evaluate_model(config, args.model, chosen, display, k=args.k, sampled=len(chosen))
    show_results(display.console, {args.model: result}, every=True)
    lines = advice({name: figure["value"] for name, figure in result["metrics"].items()}, args.k)
    for line in lines:
        display.note(f"- {line}")
    write_json(args.json, {"model": args.model, "task": config.task.name, "advice": lines, **result})
    return 0


def report(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Write a run's page."""
    print(write_page(args.run))
    return 0
