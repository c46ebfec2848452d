"""The command line: parse, build a config, call one function."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dyme import cpu
from dyme.errors import ConfigError, DymeError

_DESCRIPTION = """Teach a small vision-language model to think (DyME, ICLR 2026).

Start with `dyme demo`: an embedded tiny model learns to read charts step by step, in minutes on a laptop."""
_OVERRIDES = "Any setting of the recipe can be overridden: --section.key value. `dyme settings` lists them all."


def build_parser() -> argparse.ArgumentParser:
    """All commands with their help."""
    parser = argparse.ArgumentParser(prog="dyme", description=_DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, text: str, *, settings: bool = False) -> argparse.ArgumentParser:
        epilog = _OVERRIDES if settings else None
        return commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=epilog)

    demo = add("demo", "watch the embedded model learn to think: base, DyME, table, page", settings=True)
    demo.add_argument("--out", default="runs/demo", help="run folder (default: %(default)s)")
    train = add("train", "train by a recipe, or go on with a run", settings=True)
    train.add_argument("recipe", nargs="?", help="a TOML recipe, e.g. recipes/charts-dyme.toml")
    train.add_argument("--resume", metavar="RUN", help="go on with the run in this folder from its last checkpoint")
    evaluate = add("eval", "evaluate a model: thinking, direct, pass@K, format, true statements, length", settings=True)
    diagnose = add("diagnose", "look before you train: what a model can do, and what that means for each method", settings=True)
    for command in (evaluate, diagnose):
        command.add_argument("model", help="a checkpoint folder, a run folder, a hub id, or embedded")
        command.add_argument("--task", help="task (`dyme tasks` lists them); default: the run's own, or charts")
        command.add_argument("--recipe", help="take the other settings from this TOML recipe")
        command.add_argument("--split", default="test", choices=("train", "validation", "test"), help="default: %(default)s")
        command.add_argument("--samples", type=int, default=0, help="use the first N samples (default: all; diagnose: 200)")
        command.add_argument("--k", type=int, default=8, help="samples per prompt for pass@K (default: %(default)s)")
        command.add_argument("--json", metavar="FILE", type=Path, help="also write the figures to FILE")
    compare = add("compare", "train several methods from one base under one budget: one table, one page", settings=True)
    compare.add_argument("recipe", help="a TOML recipe")
    compare.add_argument("--methods", default="base,sft,grpo,two_stage,dyme", help="default: %(default)s")
    compare.add_argument("--seeds", default="0,1,2", help="default: %(default)s")
    compare.add_argument("--budget", default="", help="120s or 2000prompts, for each training (default: the recipe's)")
    compare.add_argument("--traces", default="", help="qualities of the charts' traces, e.g. low,high (default: the recipe's)")
    compare.add_argument("--learning-rates", default="", help="a grid to choose from on the validation split, e.g. 1e-4,3e-4,1e-3")
    compare.add_argument("--jobs", type=int, default=1, help="trainings at a time (default: %(default)s)")
    compare.add_argument("--out", default="runs/compare", help="folder of the comparison; done cells are kept (default: %(default)s)")
    report = add("report", "write the HTML page of a run folder")
    report.add_argument("run", type=Path, help="a run folder")
    add("tasks", "list the tasks")
    add("methods", "list the methods")
    add("settings", "list every setting of a recipe with its default")
    cell = commands.add_parser("cell")  # one training of a comparison; called by study.py, not shown
    cell.add_argument("recipe", type=Path)
    cell.add_argument("split")
    cell.add_argument("--base", action="store_true")
    cell.add_argument("--resume", action="store_true")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it went well, 2 with one line for an error that the user can mend."""
    words = list(sys.argv[1:] if argv is None else argv)
    args, rest = build_parser().parse_known_args(words)
    cpu.tune()
    try:
        if rest and args.command in ("report", "tasks", "methods", "settings", "cell"):
            raise ConfigError(f"dyme {args.command} does not take {rest[0]!r}; see dyme {args.command} --help")
        from dyme import commands

        command: int = getattr(commands, args.command)(args, rest)
        return command
    except DymeError as error:
        print(f"dyme: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("dyme: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
