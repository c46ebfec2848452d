"""The command line: parse, build a config, call one function."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from dyme.errors import ConfigError, DymeError, system_error, told
from dyme.recipe import documentation
from dyme.settings import nearest
from dyme.system import processes, tuning
from dyme.system.signals import stopping
from dyme.system.terminal import one_line, outlets, status_of

_DESCRIPTION = """Teach a small vision-language model to think (DyME, ICLR 2026).

Start with `dyme demo`: an embedded tiny model learns to read charts step by step, in minutes on a laptop."""
_OVERRIDES = "Any setting of the recipe can be overridden: --section.key value. `dyme settings` lists them all."
_EXIT = (
    "Exit status: 0 done; 2 wrong input or an error of the system such as a full disk, with one line that says what to do; 130 "
    "interrupted, and saved if training had begun; 141 done, but the reader of the output (| head) was closed."
)


@dataclass(frozen=True, slots=True)
class Command:
    """A command: the module with its `add_arguments` and `run`, and a line that says what the command does."""

    module: str
    summary: str
    settings: bool = False
    """Whether its command line can override settings of the recipe."""


COMMANDS = {
    "demo": Command(
        "training.demo", "train the embedded model with DyME and compare it with its base: live display, table, page", settings=True
    ),
    "new": Command("data.new", "from your rows to a recipe: look at them, ask what they do not say, write the recipe, diagnose the model"),
    "prepare": Command(
        "data.prepare",
        "convert a published data set to rows and pictures for a task, check them and report what was dropped; never converts twice",
        settings=True,
    ),
    "train": Command("training.train", "train by a recipe, or resume a run; Ctrl-C saves and says how to resume", settings=True),
    "eval": Command(
        "looking.eval", "evaluate a model: accuracy (thinking, direct), pass@K, format, true statements, length", settings=True
    ),
    "diagnose": Command(
        "looking.diagnose", "before training, measure what a model can do and say what that means for each method", settings=True
    ),
    "play": Command(
        "looking.play", "ask a model about pictures on a page of this machine, and watch it think, beside its base", settings=True
    ),
    "facts": Command("data.facts", "extract the facts of a task's images, once, before training; resumes where it stopped", settings=True),
    "judge": Command("data.judge", "measure how far a checker can be trusted: it grades true and corrupted traces", settings=True),
    "compare": Command("training.compare", "train several methods from one base under one budget: one table, one page", settings=True),
    "study": Command(
        "training.study", "tune and train the arms that a study file plans, write its report; a stopped study continues", settings=True
    ),
    "serve": Command(
        "training.serve", "print, or run, the command that starts a vLLM server for a recipe (rollout.engine vllm)", settings=True
    ),
    "report": Command("looking.report", "write the HTML page of a run folder"),
    "export": Command("sharing.export", "write a plain checkpoint: merge a LoRA adapter into its base, or convert the precision"),
    "push": Command("sharing.push", "upload a run's model with its card to the Hugging Face hub"),
    "tasks": Command("listing.tasks", "list the tasks"),
    "methods": Command("listing.methods", "list the methods"),
    "recipes": Command("listing.recipes", "list the recipes that ship, or write one of them, with its rows, to a folder"),
    "settings": Command("listing.settings", "list every setting of a recipe with its default"),
}
"""Commands that a user can type after `dyme`."""
CELL = Command("training.cell", "")
"""One training of a study, started by `dyme study` and `dyme compare`; the help pages do not show it."""


class _Parser(argparse.ArgumentParser):
    """A parser that raises its errors as ConfigError, in one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all commands; with `only`, add the arguments of that command alone and import no other command's module."""
    parser = _Parser(
        prog="dyme", description=_DESCRIPTION, epilog=_EXIT, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        text, epilog = command.summary, _OVERRIDES if command.settings else None
        own = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=epilog, allow_abbrev=False)
        if only in (name, None):
            module_of(command).add_arguments(own)
    if only == "cell":
        module_of(CELL).add_arguments(commands.add_parser("cell"))
    return parser


def module_of(command: Command) -> Any:
    """Import and return the module of a command: `add_arguments(parser)`, and `run(args, overrides)`, which returns the exit status."""
    return importlib.import_module(f"dyme.cli.{command.module}")


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the command's own words, and the overrides (--section.key value), which may stand anywhere among them."""
    own, overrides, rest = [], [], list(words)
    while rest:
        word = rest.pop(0)
        name, equals, _ = word.partition("=")
        if not (name.startswith("--") and "." in name):
            own.append(word)
            continue
        overrides.append(word)
        if not equals and rest:
            overrides.append(rest.pop(0))
    return own, overrides


def _refuse(args: argparse.Namespace, rest: Sequence[str], overrides: Sequence[str]) -> None:
    """Raise ConfigError for words that the command does not take, naming the nearest option or setting."""
    settings = COMMANDS.get(args.command, CELL).settings
    for word in [*rest, *([] if settings else overrides)]:
        keys = {key: f"--{section}.{key}" for section, table in reversed(documentation().items()) for key in table} if settings else {}
        names = keys | {name: "--" + name.replace("_", "-") for name in vars(args)}
        near = difflib.get_close_matches(word.strip("-").replace("-", "_"), names, n=1) if word.startswith("-") else []
        hint = f"did you mean {names[near[0]]}?" if near else f"see dyme {args.command} --help"
        raise ConfigError(f"dyme {args.command} does not take {word!r}; {hint}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status: 0 done, 2 an error that the user can correct, 130 interrupted, 141 output not read."""
    with outlets() as shown, stopping():
        status, line = _outcome(list(sys.argv[1:] if argv is None else argv) or ["--help"])
        processes.leave()
        shown.flush()
        status, more = status_of(shown, status)
        for text in filter(None, (line, more)):
            print(f"dyme: {one_line(text)}", file=sys.stderr)
    return status


def _outcome(words: list[str]) -> tuple[int, str]:
    """Run a command; return its exit status, and the line about its error or ""."""
    try:
        return _run(words), ""
    except DymeError as error:
        return 2, str(error)
    except SystemExit as end:  # argparse, after a help page
        return int(end.code or 0), ""
    except KeyboardInterrupt as stop:
        return 130, str(stop) or "interrupted"
    except Exception as error:
        found = system_error(error)
        if found is None:
            raise
        return 2, told(found)


def _run(words: list[str]) -> int:
    """Run a command and return its exit status."""
    if odd := next((word for word in words if "\0" in word), None):
        raise ConfigError(f"{odd!r} holds a NUL character; remove it")
    if not words[0].startswith("-") and words[0] not in (*COMMANDS, "cell"):
        raise ConfigError(f"unknown command {words[0]!r}; {nearest(words[0], COMMANDS)}")
    words, overrides = split_overrides(words)
    args, rest = build_parser(words[0]).parse_known_args(words)
    _refuse(args, rest, overrides)
    tuning.tune()
    status: int = module_of(COMMANDS.get(args.command, CELL)).run(args, overrides)
    return status
