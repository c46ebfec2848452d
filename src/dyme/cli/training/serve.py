"""dyme serve: print or run the command that starts a recipe's vLLM server."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from collections.abc import Sequence

from dyme.checks import check_config
from dyme.errors import ConfigError
from dyme.recipe import load_recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("recipe", help="a TOML recipe, or the name of one that ships; the run of it takes --rollout.engine vllm")
    parser.add_argument(
        "--python",
        metavar="PYTHON",
        help="start the server with this Python, of an environment that has vLLM; without it, print the command",
    )
    parser.add_argument("--args", default="", metavar="WORDS", help='further arguments of the server, e.g. "--max-model-len 4096"')


def run(args: argparse.Namespace, rest: Sequence[str]) -> int:
    """Print the command, or become the server."""
    config = load_recipe(args.recipe, rest)
    check_config(config)
    try:
        more = shlex.split(args.args)
    except ValueError as error:
        raise ConfigError(f"--args {args.args!r}: {error}") from error
    python = args.python and shutil.which(args.python)
    if args.python and not python:
        raise ConfigError(f"--python {args.python}: no such program; give the Python of an environment that has vLLM, e.g. vllm/bin/python")
    from dyme.rollout.vllm.command import command

    variables, words = command(config, python or "python")
    words += more
    print(" ".join([f"{name}={value}" for name, value in variables.items()] + [shlex.quote(word) for word in words]))
    if python:
        sys.stdout.flush()
        own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | variables
        os.execve(python, words, own)
    return 0
