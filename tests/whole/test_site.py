"""The documentation as a site: it builds without a warning, holds all that the code offers, and loads nothing from elsewhere."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from runs import ENVIRONMENT, ROOT

import dyme
from dyme.cli.main import COMMANDS
from dyme.methods import METHODS
from dyme.recipe import documentation, shipped
from dyme.tasks import TASKS

QUESTIONS = {
    "without a GPU": ("start", "make demo"),
    "on my own rows": ("data", "dyme new"),
    "Which models": ("models", "SmolVLM-500M"),
    "fit into memory": ("models", "masters"),
    "Which method is best": ("guides/comparing", "dyme compare"),
    "When is an answer right": ("metrics", "within 5 %"),
    "a reward of my own": ("rewards", "reward.functions"),
    "How does it go on": ("trouble", "dyme train --resume"),
    "this message mean": ("reference/messages", "is not an override"),
    "a TRL script": ("trl", "DyMETrainer"),
    "Several GPUs": ("scale", "torchrun"),
}
"""What a newcomer asks on the first page -> the page that it leads to, and what must stand there."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; mkdocs ends with an error at any warning, such as a dead link or a page that no menu has."""
    out = tmp_path_factory.mktemp("site")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--config-file",
        str(ROOT / "mkdocs.yml"),
        "--site-dir",
        str(out),
    ]
    done = subprocess.run(command, env=ENVIRONMENT | {"NO_MKDOCS_2_WARNING": "1"}, cwd=out, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return out


def text_of(site: Path, page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", "", (site / page / "index.html").read_text(encoding="utf-8")))


def test_every_command_setting_method_task_recipe_and_name_is_there(site: Path) -> None:
    pages = {name: text_of(site, f"reference/{name}") for name in ("commands", "settings", "methods", "tasks", "recipes", "api")}
    assert all(f"usage: dyme {name}" in pages["commands"] for name in COMMANDS)
    settings = [f"{section}.{key}" for section, keys in documentation().items() for key in keys]
    assert all(name in pages["settings"] for name in settings) and len(settings) > 100
    assert all(name in pages["methods"] for name in METHODS) and all(name in pages["tasks"] for name in TASKS)
    assert all(f"dyme train {name}" in pages["recipes"] for name in shipped())
    assert all(name in pages["api"] for name in dyme.__all__)


def test_messages_can_be_found(site: Path) -> None:
    """Some of those that users meet, as they are printed, by the words around what is filled in."""
    shown = text_of(site, "reference/messages")
    for words in (
        "is not an override; write --section.key value", "no such folder; give a local folder, a hub id such as org/name, or embedded",
        "no vLLM server answers at", "holds other files", "is prepared already; name it as task.path",
    ):  # fmt: skip
        assert words in shown, words
    index = (site / "search/search_index.json").read_text(encoding="utf-8")
    assert "no vLLM server answers at" in index and "memorize_weight" in index


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_a_newcomer_asks_is_one_click_away(question: str, site: Path) -> None:
    page, said = QUESTIONS[question]
    first = (site / "index.html").read_text(encoding="utf-8")
    [row] = [row for row in re.findall(r"<tr>.*?</tr>", first, re.S) if question in row]
    assert f'href="{page}/' in row
    assert said in text_of(site, page)


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(
            r"<(?:script|img|iframe)[^>]+src=\"([^\"]+)\"|<link[^>]+rel=\"(?:stylesheet|preconnect|icon)\"[^>]+href=\"([^\"]+)\"", text
        )
        away = [one for pair in loaded for one in pair if re.match(r"(?:https?:)?//", one)]
        assert not away, (page, away)
    assert sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) < 30 * 2**20
    assert not os.path.lexists(ROOT / "site"), "the repository is left as it was"
