"""Commands that look at a model or a run: eval, diagnose, report."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from dyme.cli.common import eval_config, evaluate_model, first_samples, new_display, split_of, write_json
from dyme.config import Config
from dyme.evaluation.advice import advice
from dyme.evaluation.items import STYLES, ItemFolder, Plan, fingerprint
from dyme.report.page import write_page
from dyme.system.launch import is_main
from dyme.system.processes import alone, check_shared, from_main, together
from dyme.tracking.display import Display, show_answer_kinds, show_kinds, show_results
from dyme.types import Sample


def eval(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Evaluate a model; with --out, keep each item and go on where an earlier call stopped."""
    config = together(lambda: eval_config(args, rest))
    display = new_display()
    args.split = split_of(args, config, display)
    if out := _out(args, config):
        check_shared(out, "--out")
        from_main(lambda: ItemFolder.check(out))
    chosen = first_samples(config, args, display)
    plan = Plan(prompts=STYLES if args.prompt == "both" else (args.prompt,), k=args.k, batch_tokens=args.batch_tokens)
    with alone(out) if out else nullcontext():
        return _evaluate(args, config, chosen, plan, out, display)


def _evaluate(args: argparse.Namespace, config: Config, samples: Sequence[Sample], plan: Plan, out: Path | None, display: Display) -> int:
    """Ask what `out` does not hold, write the figures and show them, even if the disk is full."""
    folder = ItemFolder(out) if out else None
    if folder and (there := from_main(lambda: _held(folder.path, config, args, samples, plan))):
        display.note(f"going on: {there} answers are in {out} already")
    try:
        result = evaluate_model(config, args.model, samples, display, plan=plan, folder=folder)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; the same command goes on from what is in {out}" if out else "") from None
    if not is_main():
        return 0
    whole = {"model": args.model, "task": config.task.name, "split": args.split, **result}
    try:
        write_json(args.json, whole)
        if folder:
            folder.finish(whole)
    finally:
        _show(display, args.model, result)
    if folder:
        display.note(f"items    {folder.path / 'items.jsonl'}\nfigures  {folder.path / 'figures.json'}")
    return 0


def _show(display: Display, model: str, result: dict[str, Any], *, every: bool = False) -> None:
    """The tables of an evaluation."""
    show_results(display.console, {model: result}, every=every)
    if result["by_answer_kind"]:
        show_answer_kinds(display.console, result["by_answer_kind"])
    if result["by_kind"] and not every:
        show_kinds(display.console, result["by_kind"])


def _out(args: argparse.Namespace, config: Config) -> Path | None:
    """The folder of --out; without a name, one that tells task, split and model."""
    if args.out is None or args.out:
        return Path(args.out) if args.out else None
    name = re.sub(r"[^\w.+-]+", "-", args.model).strip("-.")
    return Path("evals") / f"{config.task.name}-{args.split}-{name}"


def _held(out: Path, config: Config, args: argparse.Namespace, samples: Sequence[Sample], plan: Plan) -> int:
    """Open the folder of an evaluation, or make it; the number of answers that it holds."""
    from dyme.model.loading import resolve
    from dyme.model.precision import device, settled

    model = resolve(replace(config.model, path=args.model))
    known = fingerprint(settled(config, device()), model, samples, args.split, plan)
    return len(ItemFolder.open(out, known).items())


def diagnose(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Sample from a model and say what that means for SFT, GRPO and DyME."""
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
        _show(display, args.model, result, every=True)
        for line in lines:
            display.note(f"- {line}")
    return 0


def report(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Write a run's page."""
    new_display().note(str(write_page(args.run)))
    return 0
