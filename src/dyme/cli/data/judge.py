"""dyme judge: measure how far a checker can be trusted, on true and corrupted traces."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import asdict, replace

from dyme.cli.common import helper_config, split_of, write_json
from dyme.cli.data.arguments import add_split_arguments
from dyme.errors import ConfigError
from dyme.recipe import check_values
from dyme.supervise import audit
from dyme.supervise.build import judge_endpoint
from dyme.supervise.local.checker import LocalChecker
from dyme.tracking.display import new_display, show_listing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("checker", help="local, or the URL of an OpenAI-compatible endpoint (with --supervision.model NAME)")
    parser.add_argument("--traces", type=int, default=400, help="labelled traces, about half of them true (default: %(default)s)")
    add_split_arguments(parser)


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Grade labelled traces with a checker and, for comparison, with the local one."""
    if args.checker != "local" and "://" not in args.checker:
        raise ConfigError(f"{args.checker!r} is no checker; give local, or an endpoint's URL such as http://localhost:8000/v1")
    if args.traces < 2:
        raise ConfigError("--traces must be at least 2")
    config = helper_config(args, rest)
    if args.checker != "local":
        config = replace(config, supervision=replace(config.supervision, checker="llm", url=args.checker))
        check_values(config)
    display = new_display()
    args.split = split_of(args, config, display)
    items = audit.labelled(audit.material(config.task, args.split, args.traces), random.Random(config.run.seed), args.traces)
    reports = {"local": audit.evaluate(LocalChecker(marker=config.task.marker), items)}
    if args.checker != "local":
        reports = {config.supervision.model: judge_endpoint(config, items, display.note)} | reports
    chosen = next(iter(reports.values()))
    missed = [{"kind": i.kind, "question": i.sample.question, "trace": i.trace} for i in chosen.missed]
    figures = {**asdict(replace(chosen, missed=[])), "missed": missed}
    try:
        write_json(args.json, {"checker": args.checker, "task": config.task.name, "split": args.split, **figures})
    finally:
        show_listing(display.console, ("", *reports), audit.rows(list(reports.values())))
        for line in audit.advice(chosen):
            display.note(f"- {line}")
    return 0
