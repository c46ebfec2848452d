"""dyme facts: the facts of a split's images, read once, before training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, replace

from dyme.cli.common import helper_config, split_of, write_json
from dyme.cli.data.arguments import add_split_arguments
from dyme.recipe import check_values
from dyme.samples import gather_facts
from dyme.tasks import load
from dyme.tracking.display import new_display, progress_bars, show_listing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("--source", choices=("data", "ocr", "llm"), help="source of the facts (default: the recipe's, else data)")
    add_split_arguments(parser)


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Extract the facts of a split's images, and show how many were found."""
    config = helper_config(args, rest)
    config = replace(config, supervision=replace(config.supervision, facts=args.source or config.supervision.facts))
    check_values(config)
    display = new_display()
    args.split = split_of(args, config, display)
    loaded = load(config.task, args.split)
    with progress_bars(display) as progress:
        samples, counts = gather_facts(loaded, config, progress)
    figures = {**asdict(counts), "facts": sum(len(s.facts) for s in samples)}
    rows = [(name.replace("_", " "), str(value)) for name, value in figures.items() if name != "failures"]
    try:
        write_json(args.json, figures)
    finally:
        show_listing(display.console, (f"facts: {config.supervision.facts}", ""), [*rows, ("failures", str(len(counts.failures)))])
        for name, reason in counts.failures[:10]:
            display.note(f"- {name}: {reason}")
    return 0
