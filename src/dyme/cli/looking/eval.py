"""dyme eval: evaluate a model on a split; with --out, each item is kept and an interrupted evaluation can be continued."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from dyme.api import evaluate_model
from dyme.cli.common import eval_config, first_samples, split_of, write_json
from dyme.cli.looking.arguments import add_model_arguments
from dyme.config import Config
from dyme.evaluation.items import BATCH_TOKENS, STYLES, ItemFolder, Plan, fingerprint
from dyme.system.launch import is_main
from dyme.system.processes import alone, check_shared, from_main, together
from dyme.tasks import task_of
from dyme.tracking.display import Display, new_display, show_evaluation
from dyme.types import Sample


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--prompt", default="both", choices=("think", "direct", "both"), help="instruction to the model (default: %(default)s)"
    )
    parser.add_argument(
        "--out",
        nargs="?",
        const="",
        metavar="DIR",
        help="keep every item in DIR (default without DIR: evals/TASK-SPLIT-MODEL); after a kill, the same command continues from there",
    )
    parser.add_argument(
        "--batch-tokens", type=int, default=BATCH_TOKENS, help="most tokens of a batch; fewer need less memory (default: %(default)s)"
    )
    add_model_arguments(parser)


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Evaluate a model; with --out, keep each item and continue where an earlier call stopped."""
    config = together(lambda: eval_config(args, rest))
    display = new_display()
    args.split = split_of(args, config, display)
    if out := _out(args, config):
        check_shared(out, "--out")
        from_main(lambda: ItemFolder.check_place(out))
    chosen = first_samples(config, args, display)
    plan = Plan(prompts=STYLES if args.prompt == "both" else (args.prompt,), k=args.k, batch_tokens=args.batch_tokens)
    with alone(out) if out else nullcontext():
        return _evaluate(args, config, chosen, plan, out, display)


def _evaluate(args: argparse.Namespace, config: Config, samples: Sequence[Sample], plan: Plan, out: Path | None, display: Display) -> int:
    """Ask the items that `out` does not hold, write the figures, and show them even if the disk is full."""
    folder = ItemFolder(out) if out else None
    if folder and (there := from_main(lambda: _held(folder.path, config, args, samples, plan))):
        display.note(f"going on: {there} answers are in {out} already")
    try:
        result = evaluate_model(config, args.model, samples, display, plan=plan, folder=folder)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; the same command continues from the answers in {out}" if out else "") from None
    if not is_main():
        return 0
    whole = {"model": args.model, "task": config.task.name, "split": args.split, **result}
    try:
        write_json(args.json, whole)
        if folder:
            folder.finish(whole)
    finally:
        show_evaluation(display, args.model, result)
    if folder:
        display.note(f"items    {folder.path / 'items.jsonl'}\nfigures  {folder.path / 'figures.json'}")
    return 0


def _out(args: argparse.Namespace, config: Config) -> Path | None:
    """Return the folder of --out; without a name, one that is named after task, split and model."""
    if args.out is None or args.out:
        return Path(args.out) if args.out else None
    task, model = (re.sub(r"[^\w.+-]+", "-", name).strip("-.") for name in (task_of(config.task).name, args.model))
    return Path("evals") / f"{task}-{args.split}-{model}"


def _held(out: Path, config: Config, args: argparse.Namespace, samples: Sequence[Sample], plan: Plan) -> int:
    """Open or create the folder of an evaluation and return the number of answers that it holds."""
    from dyme.model.loading import resolve
    from dyme.model.precision import device, settled

    model = resolve(replace(config.model, path=args.model))
    known = fingerprint(settled(config, device()), model, samples, args.split, plan)
    return len(ItemFolder.open(out, known).items())
