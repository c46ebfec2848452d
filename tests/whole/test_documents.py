"""Every command and every Python block that README.md and docs/ show, run as a reader would: in a folder of one's own, with relative paths.

What would take long is made short by more settings (`SHORT`), the documents' placeholders by what lies in the folder (`FILLED`).
What cannot run here stands in `NOT_RUN` with the reason; if it is one of ours, its words and its recipe are checked all the same.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import published
import pytest
from runs import ROOT

from dyme.cli import main as cli
from dyme.comparison import processes
from dyme.recipe import find, load_recipe

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SETTINGS = [
    "--train.max_prompts=4", "--train.prompts_per_step=4", "--rollout.num_generations=2", "--rollout.max_completion_length=8",
    "--task.train_size=4", "--task.validation_size=2", "--task.test_size=2",
]  # fmt: skip
SHORT = {
    "demo": SETTINGS,
    "train": SETTINGS,
    "eval": ["--samples=2", "--k=2", "--rollout.max_completion_length=8"],
    "diagnose": ["--samples=2", "--k=2", "--rollout.max_completion_length=8"],
    "facts": ["--task.train_size=2", "--task.test_size=2"],
    "judge": ["--traces=8"],
    "compare": [
        *SETTINGS,
        "--budget=2prompts",
        "--train.prompts_per_step=2",
        "--seeds=0",
        "--traces=low",
        "--learning-rates=1e-3",
        "--jobs=1",
    ],
    "study": ["--check"],
    "new": ["--samples=1"],
}
"""Words added to a command, the last of which count."""
FILLED = {
    "MODEL": "embedded", "RECIPE": "charts-dyme", "RUN": "runs/demo", "FOLDER": "llama", "PATH": "published", "DIR": "exported",
    "TASK": "chartqa", "T": "charts", "NAME": "own-data", "a,b": "sft,dyme", "data|ocr|llm": "data", "FILE": "mine.toml",
    "DATA": "rows/train.jsonl",
}  # fmt: skip
"""What stands in the documents for something of the reader's."""
PUBLISHED = {"jsonl": "rows", "geometry": "published-geometry", "slake": "published-slake", "gsm8k": "published-gsm8k"}
"""Task -> what PATH is in its commands."""
NOT_RUN = {
    "make ": "set up the environment that runs this test",
    "python benchmarks/": "of the repository, not of the package: tests/benchmarks",
    "python tests/": "of the repository, not of the package: tests/tasks/test_gold.py",
    "python -m dyme.embedded.": "hours; tests/embedded/test_embedded.py runs them in small",
    "dyme judge URL": "wants an endpoint: tests/cli/test_cli.py",
    "dyme serve RECIPE": "wants a checkpoint that vLLM reads: tests/rollout/test_vllm.py",
    "dyme play": "serves a page until it is interrupted: tests/play, tests/real/real_play.py",
    "dyme push": "wants a hub: tests/publishing/test_hub.py",
    "dyme study FILE --map": "wants a study that has measured a condition: tests/comparison/test_findings.py",
    "accelerate launch": "wants several devices",
    "srun": "wants Slurm",
    "torchrun": "two processes: tests/training/test_invariances.py",
}
"""Beginnings of commands, and why they are not run here."""
MENTION = r"dyme (new|serve|prepare|train|eval|diagnose|play|facts|judge|compare|study|report|export|push)"
"""A command's name in the prose, not something to type."""


def commands(text: str) -> Iterator[str]:
    """Commands of a document: the lines of its `sh` blocks, and texts in backquotes that begin as one of them does."""
    for block in re.findall(r"^ *```sh\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        lines = (line.partition(" #")[0].strip() for line in block.replace("\\\n", "").splitlines())
        yield from (line for line in lines if line and not line.startswith("#"))
    prose = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL).replace("\\|", "|")
    for span in re.findall(r"`([^`]+)`", prose):
        if re.match(r"(\w+=\w+ )?(dyme|accelerate|torchrun|python|make) ", span) and not re.fullmatch(MENTION, span):
            yield " ".join(span.split())


FOUND = list(dict.fromkeys(command.removeprefix(".venv/bin/") for file in DOCUMENTS for command in commands(file.read_text("utf-8"))))


def reason(command: str) -> str:
    """Why a command is not run here; empty if it is."""
    return next((why for start, why in NOT_RUN.items() if re.sub(r"^\w+=\w+ ", "", command).startswith(start)), "")


def words_of(command: str) -> list[str]:
    """The words after `dyme` or `-m dyme`, placeholders filled in."""
    words = shlex.split(command)
    start = words.index("dyme")
    own = FILLED | next(({"PATH": folder} for task, folder in PUBLISHED.items() if task in words), {})
    return [own.get(word, word) for word in words[start + 1 :]]


class Here:
    """Stands in for the process of a comparison's cell: the same words in this one."""

    def __init__(self, words: list[str], **_: object) -> None:
        self.returncode = cli.main([word for word in words[words.index("dyme") + 1 :] if word != "--tied"])

    def poll(self) -> int:
        return self.returncode


def parsed(words: list[str]) -> argparse.Namespace:
    """What the command line makes of the words; raises ConfigError for what it does not take, in a recipe's settings too."""
    own, overrides = cli.split_overrides(words)
    args, rest = cli.build_parser().parse_known_args(own)
    cli._refuse(args, rest, overrides)
    if recipe := getattr(args, "recipe", None):
        load_recipe(recipe, overrides)
    return args


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, checkpoints: object) -> Path:
    """A folder of the reader's, with a published data set and a checkpoint in it."""
    folder = tmp_path_factory.mktemp("reader")
    published.chartqa(folder / "published")
    published.geo170k(folder / "published-geometry")
    published.slake(folder / "published-slake")
    published.gsm8k(folder / "published-gsm8k")
    shutil.copytree(find("own-data").with_suffix(""), folder / "rows")
    (folder / "llama").symlink_to(checkpoints("llama"))  # type: ignore[operator]
    (folder / "docs").mkdir()
    (folder / "docs/results").symlink_to(ROOT / "docs/results")
    named = re.compile(r"^```(?:python|toml)\n(# \w+\.(?:py|toml)\n.*?)^```", re.M | re.S)
    for block in (block for file in DOCUMENTS for block in named.findall(file.read_text("utf-8"))):
        (folder / block.partition("\n")[0].removeprefix("# ")).write_text(block, encoding="utf-8")  # a file of the reader's
    return folder


def test_the_documents_show_commands_and_no_reason_is_left_over() -> None:
    assert len(FOUND) > 35
    for start in NOT_RUN:
        assert any(re.sub(r"^\w+=\w+ ", "", command).startswith(start) for command in FOUND), start


@pytest.mark.parametrize("command", [c for c in FOUND if not reason(c)])
def test_command_runs(command: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr(processes, "subprocess", SimpleNamespace(Popen=Here, DEVNULL=None, PIPE=None))
    words = words_of(command)
    parsed(words)
    words += ["--out", f"runs/compare-{FOUND.index(command)}"] if words[0] == "compare" else []
    assert cli.main([*words, *([] if "--resume" in words else SHORT.get(words[0], []))]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("command", [c for c in FOUND if reason(c) and ("-m dyme " in c or c.startswith("dyme "))])
def test_command_that_cannot_run_here_is_one(command: str) -> None:
    parsed(words_of(command))
