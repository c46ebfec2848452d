"""The command line: parse, build a config, call one function."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from dyme.errors import ConfigError, DymeError, system_error, told
from dyme.evaluation.items import BATCH_TOKENS
from dyme.recipe import documentation, nearest
from dyme.system import processes, tuning
from dyme.system.signals import stopping
from dyme.system.terminal import one_line, outlets, status_of

_DESCRIPTION = """Teach a small vision-language model to think (DyME, ICLR 2026).

Start with `dyme demo`: an embedded tiny model learns to read charts step by step, in minutes on a laptop."""
_OVERRIDES = "Any setting of the recipe can be overridden: --section.key value. `dyme settings` lists them all."
_EXIT = (
    "Exit status: 0 done; 2 wrong input or a full disk and the like, with one line that says what to mend; 130 interrupted, saved if "
    "training had begun; 141 done, but the reader of the output (| head) went away."
)
COMMANDS = (
    "demo", "prepare", "train", "eval", "diagnose", "facts", "judge", "compare", "report", "export", "push", "tasks", "methods",
    "recipes", "settings",
)  # fmt: skip
"""What a user can type after `dyme`."""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as all other errors do."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see {self.prog} --help")


def build_parser() -> argparse.ArgumentParser:
    """All commands with their help."""
    parser = _Parser(
        prog="dyme", description=_DESCRIPTION, epilog=_EXIT, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)

    def add(name: str, text: str, *, settings: bool = False) -> argparse.ArgumentParser:
        epilog = _OVERRIDES if settings else None
        return commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", epilog=epilog, allow_abbrev=False)

    demo = add("demo", "watch the embedded model learn to think: base, DyME, table, page", settings=True)
    demo.add_argument("--out", default="runs/demo", help="run folder (default: %(default)s)")
    _add_prepare(add)
    train = add("train", "train by a recipe, or go on with a run; Ctrl-C saves and says how to go on", settings=True)
    train.add_argument("recipe", nargs="?", help="a TOML recipe, or the name of one that ships (`dyme recipes`), e.g. charts-dyme")
    train.add_argument("--resume", metavar="RUN", help="go on with the run in this folder from its last checkpoint")
    _add_looking(add)
    _add_helpers(add)
    compare = add("compare", "train several methods from one base under one budget: one table, one page", settings=True)
    compare.add_argument("recipe", help="a TOML recipe, or the name of one that ships (`dyme recipes`), e.g. charts-dyme")
    compare.add_argument(
        "--methods",
        default="base,sft,grpo,two_stage,dyme",
        help="what to compare; base is the untrained model; grpo+reward.thinking_weight=0 is grpo with a setting of its own "
        "(default: %(default)s)",
    )
    compare.add_argument("--seeds", default="0,1,2", help="one training for each seed (default: %(default)s)")
    compare.add_argument("--budget", default="", help="120s or 2000prompts, for each training (default: the recipe's)")
    compare.add_argument("--traces", default="", help="qualities of the charts' traces, e.g. low,high (default: the recipe's)")
    compare.add_argument("--learning-rates", default="", help="a grid to choose from on the validation split, e.g. 1e-4,3e-4,1e-3")
    compare.add_argument("--jobs", type=int, default=1, help="trainings at a time (default: %(default)s)")
    compare.add_argument("--out", default="runs/compare", help="folder of the comparison; done cells are kept (default: %(default)s)")
    report = add("report", "write the HTML page of a run folder")
    report.add_argument("run", type=Path, help="a run folder, e.g. runs/demo")
    _add_publishing(add)
    add("tasks", "list the tasks")
    add("methods", "list the methods")
    recipes = add("recipes", "list the recipes that ship, or write one, with its rows, to a folder of yours")
    recipes.add_argument("name", nargs="?", help="the recipe to write; without it they are listed")
    recipes.add_argument("--out", metavar="PATH", type=Path, help="a .toml file or a folder to write to (default: NAME.toml here)")
    add("settings", "list every setting of a recipe with its default")
    cell = commands.add_parser("cell")  # one training of a comparison; called by study.py, not shown
    cell.add_argument("recipe", type=Path)
    cell.add_argument("split")
    cell.add_argument("--base", action="store_true")
    cell.add_argument("--tied", action="store_true", help="end with the process that started it")
    return parser


def _add_looking(add: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands that look at a model."""
    evaluate = add("eval", "evaluate a model: thinking, direct, pass@K, format, true statements, length", settings=True)
    evaluate.add_argument("--prompt", default="both", choices=("think", "direct", "both"), help="how to ask (default: %(default)s)")
    evaluate.add_argument(
        "--out",
        nargs="?",
        const="",
        metavar="DIR",
        help="keep every item in DIR (alone: evals/TASK-SPLIT-MODEL); after a kill, the same command goes on from there",
    )
    evaluate.add_argument(
        "--batch-tokens", type=int, default=BATCH_TOKENS, help="tokens of a batch; fewer need less memory (default: %(default)s)"
    )
    diagnose = add("diagnose", "look before you train: what a model can do, and what that means for each method", settings=True)
    for command in (evaluate, diagnose):
        command.add_argument("model", help="a checkpoint folder, a run folder, a hub id, or embedded")
        command.add_argument("--task", help="task (`dyme tasks` lists them); default: the run's own, or charts")
        command.add_argument("--recipe", help="take the other settings from this recipe")
        command.add_argument(
            "--split", choices=("train", "validation", "test"), help="which of the task's samples (default: test, else validation)"
        )
        command.add_argument(
            "--samples",
            type=int,
            default=0,
            help="use the first N samples, whatever size the recipe names (default: all that it names; diagnose: 200)",
        )
        command.add_argument("--k", type=int, default=8, help="samples per prompt for pass@K (default: %(default)s; eval: 0 for none)")
        command.add_argument("--json", metavar="FILE", type=Path, help="also write the figures to FILE")


def _add_prepare(add: Callable[..., argparse.ArgumentParser]) -> None:
    """The command about data."""
    text = "turn a published data set into rows and pictures for a task, checked; says what it dropped, does nothing twice"
    prepare = add("prepare", text, settings=True)
    prepare.add_argument("task", help="task that the data set belongs to (`dyme tasks` lists them)")
    prepare.add_argument(
        "--from",
        dest="source",
        metavar="PATH",
        required=True,
        help="folder with the data set as it was published, or a hub id (owner/name)",
    )
    prepare.add_argument(
        "--out", metavar="DIR", type=Path, help="folder to make (default: one in --task.prepared, named by task and source)"
    )
    prepare.add_argument("--limit", metavar="N", type=int, default=0, help="take the first N rows of each split (default: all)")


def _add_helpers(add: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands about helpers of visual supervision."""
    facts = add("facts", "read the facts of a task's images, once, before training; goes on where it stopped", settings=True)
    facts.add_argument("--source", choices=("data", "ocr", "llm"), help="where they come from (default: the recipe's, else data)")
    judge = add("judge", "how far a checker can be trusted: true and corrupted traces, graded", settings=True)
    judge.add_argument("checker", help="local, or the URL of an OpenAI-compatible endpoint (with --supervision.model NAME)")
    judge.add_argument("--traces", type=int, default=400, help="labelled traces, about half of them true (default: %(default)s)")
    for command in (facts, judge):
        command.add_argument("--task", help="task (`dyme tasks` lists them); default: the recipe's, or charts")
        command.add_argument("--recipe", help="take the other settings from this recipe")
        command.add_argument("--split", choices=("train", "validation", "test"), help="which samples (default: test, else validation)")
        command.add_argument("--json", metavar="FILE", type=Path, help="also write the figures to FILE")


def _add_publishing(add: Callable[..., argparse.ArgumentParser]) -> None:
    """The commands that hand a model on."""
    export = add("export", "write a plain checkpoint: a LoRA adapter merged into its base, or another precision")
    export.add_argument("model", help="a run folder, a model or adapter folder, a GGUF file, a hub id, or embedded")
    export.add_argument("--out", required=True, help="folder to write; it must be new or empty")
    export.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="precision of the weights (default: the run's own)")
    push = add("push", "upload a run's model with its card to the Hugging Face hub")
    push.add_argument("model", help="a run folder or a model folder")
    push.add_argument("repository", help="where to, e.g. me/my-model; it is made if it is new")
    push.add_argument("--private", action="store_true", help="make a private repository")


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The command's own words, and the overrides (--section.key value) from wherever they stand among them."""
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
    settings = args.command in ("demo", "prepare", "train", "eval", "diagnose", "facts", "judge", "compare")
    for word in [*rest, *([] if settings else overrides)]:
        keys = {key: f"--{section}.{key}" for section, table in reversed(documentation().items()) for key in table} if settings else {}
        names = keys | {name: "--" + name.replace("_", "-") for name in vars(args)}
        near = difflib.get_close_matches(word.strip("-").replace("-", "_"), names, n=1) if word.startswith("-") else []
        hint = f"did you mean {names[near[0]]}?" if near else f"see dyme {args.command} --help"
        raise ConfigError(f"dyme {args.command} does not take {word!r}; {hint}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it went well, 2 with one line for an error that the user can mend, 130 if interrupted, 141 if done unread."""
    with outlets() as shown, stopping():
        status, line = _outcome(list(sys.argv[1:] if argv is None else argv) or ["--help"])
        processes.leave()
        shown.flush()
        status, more = status_of(shown, status)
        for text in filter(None, (line, more)):
            print(f"dyme: {one_line(text)}", file=sys.stderr)
    return status


def _outcome(words: list[str]) -> tuple[int, str]:
    """Exit status of a command, and what there is to say of an error."""
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
    """Run a command; its exit status."""
    if odd := next((word for word in words if "\0" in word), None):
        raise ConfigError(f"{odd!r} holds a NUL character; remove it")
    if not words[0].startswith("-") and words[0] not in (*COMMANDS, "cell"):
        raise ConfigError(f"unknown command {words[0]!r}; {nearest(words[0], COMMANDS)}")
    words, overrides = split_overrides(words)
    args, rest = build_parser().parse_known_args(words)
    _refuse(args, rest, overrides)
    tuning.tune()
    from dyme.cli import commands

    status: int = getattr(commands, args.command)(args, overrides)
    return status


if __name__ == "__main__":
    sys.exit(main())
