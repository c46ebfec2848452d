"""dyme methods: list the methods, what each of them needs, and the settings of one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from dyme.cli.common import show_list
from dyme.methods import METHODS, Method, find
from dyme.settings import documentation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("method", nargs="?", help="list the settings of this method, a name or your own (mine.py:METHOD)")


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """List the methods, or the settings of one method."""
    if args.method:
        return _one(find(args.method, "dyme methods"))
    heads = ("method", "what it does", "needs", "settings", "source")
    return show_list(heads, [(m.name, m.summary, needs(m), ", ".join(documentation(m.settings)), m.source) for m in METHODS.values()])


def needs(method: Method[Any]) -> str:
    """Return what the stages of a method need (rollouts, traces), each once, and whether the method remembers steps."""
    words = dict.fromkeys(word for stage in method.stages(method.settings) for word in stage.needs)
    return ", ".join([*words, *(["state"] if method.first_state else [])])


def _one(method: Method[Any]) -> int:
    stages = [f"{stage.name} ({stage.share:.0%})" for stage in method.stages(method.settings)]
    facts = [("name", method.name), ("what it does", method.summary), ("source", method.source), ("needs", needs(method))]
    facts += [
        ("stages", ", ".join(stages)),
        *(("where the recipe is silent", f"{key} = {value}") for key, value in method.defaults.items()),
    ]
    show_list(("method", ""), facts)
    own = [(f"--method.{key}", default, text) for key, (default, text) in documentation(method.settings).items()]
    return show_list(("setting", "default", "meaning"), own) if own else 0
