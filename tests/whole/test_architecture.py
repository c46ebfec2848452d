"""The house as docs/architecture.md draws it: rooms, names, promises; how full its rooms are, and that none imports one above it."""

from __future__ import annotations

import ast
import re
from configparser import ConfigParser
from pathlib import Path

import pytest
from runs import ROOT

PACKAGE = ROOT / "src/dyme"
PAGE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
ROOMS = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
MODULES = {path.name for path in PACKAGE.glob("*.py")}
MOST_MODULES, MOST_FILES = 14, 12


def rows(section: str) -> list[list[str]]:
    """Cells of a section's tables, without heads."""
    lines = [line for line in SECTIONS[section].splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row, below in zip(cells, [*lines[1:], ""], strict=True) if not below.startswith("|---") and row[0][:3] != "---"]


def test_the_map_is_the_tree() -> None:
    named = [row[0].strip("`") for row in rows("Rooms")]
    assert sorted(named) == sorted(MODULES | {f"{room}/" for room in ROOMS})


def test_a_room_holds_what_its_row_names() -> None:
    lost = []
    for room, holds in rows("Rooms"):
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", holds):
            lost += [] if (PACKAGE / room.strip("`") / name).exists() or (ROOT / name).exists() else [f"{room}: {name}"]
    assert lost == []


def test_every_place_that_the_page_names_is_there() -> None:
    named = set(re.findall(r"`([\w./-]+(?:\.py|\.jinja|\.css|\.toml|/))`", PAGE)) - {"tests/<room>/"}
    inside = {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*")}
    tails = {name.split("/", k)[-1] for name in inside for k in range(name.count("/") + 1)}
    assert len(named) > 100
    assert sorted(name for name in named if name.rstrip("/") not in tails and not (ROOT / name).exists()) == []
    for change, file in rows("Which file do I open for ..."):
        for name in re.findall(r"`([\w/]+/[\w.]*)`", file):
            assert (PACKAGE / name).exists(), f"{change}: {name}"


def test_every_promise_has_its_test() -> None:
    promised = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", SECTIONS["Promises, and the tests that hold them"])
    assert len(promised) >= 20
    assert all(re.search(r"`tests/[\w/]+\.py::\w+`", test) for _, test in rows("Promises, and the tests that hold them"))
    lost = [f"{file}::{name}" for file, name in promised if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")]
    assert lost == []


def test_words_are_in_order_and_each_is_there_once() -> None:
    words = [row[0] for row in rows("Words")]
    assert words == sorted(words, key=str.lower) and len(set(words)) == len(words)


def test_no_room_is_too_full() -> None:
    assert len(MODULES) <= MOST_MODULES
    flat = {str(folder.relative_to(PACKAGE)): len([f for f in folder.glob("*.py") if f.name != "__init__.py"]) for folder in folders()}
    assert {name: count for name, count in flat.items() if count > MOST_FILES} == {}
    assert max(flat.values()) > 1, "the count must be able to fail"


def folders() -> list[Path]:
    return [path for path in PACKAGE.rglob("*") if path.is_dir() and path.name != "__pycache__"]


def layers() -> dict[str, int]:
    """The height of each room by the contract; rooms of one layer have heights of their own kind, and may not import each other."""
    contract = ConfigParser()
    contract.read(ROOT / ".importlinter")
    assert not any("ignore_imports" in contract[section] for section in contract), "without exceptions"
    lines = contract["importlinter:contract:rooms"]["layers"].split("\n")
    return {room.strip(): -height for height, line in enumerate(filter(None, lines)) for room in re.split(r"[|:]", line)}


def imports(path: Path, room: str) -> set[str]:
    """Other rooms that a file imports from, wherever in it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module == "dyme":
            found |= {f"dyme.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {parts[1] for name in found if (parts := name.split("."))[0] == "dyme" and len(parts) > 1} - {room}


def test_no_import_goes_up() -> None:
    heights, back, seen = layers(), [], 0
    for path in PACKAGE.rglob("*.py"):
        room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if room == "__init__":  # which offers names of all
            continue
        for other in imports(path, room) & heights.keys():
            seen += 1
            back += [f"{path.relative_to(PACKAGE)} imports {other}"] if heights[other] >= heights[room] else []
    assert back == [] and seen > 400


@pytest.mark.parametrize("page", ["architecture.md", "schema.md"])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / "docs" / page).read_text(encoding="utf-8")):
        assert (ROOT / "docs" / target).exists(), target
