"""docs/schema.md against what reads the files (`tracking/schema.py`) and against a real run and a real evaluation: no field that is not
documented, none that is documented and nowhere."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from runs import ROOT

from dyme.cli.main import main
from dyme.tracking.schema import LINES

PAGE = (ROOT / "docs/schema.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
FIELDS = {file: dict(re.findall(r"^\| `([^`]+)` \|.*\| ([^|]*) \|$", text, re.M)) for file, text in SECTIONS.items()}
"""By file: each field, and when it is present."""
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src/dyme").rglob("*.py"))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps with local helpers, which explores and memorizes, its evaluation, and one with items."""
    home = tmp_path_factory.mktemp("schema")
    size = ["--task.train_size=16", "--task.test_size=4", "--rollout.num_generations=4", "--rollout.max_completion_length=48"]
    short = ["--train.prompts_per_step=4", "--train.max_prompts=12", "--method.all_correct=explore", "--run.save_every=0"]
    helpers = ["--supervision.checker=local", "--supervision.refiner=local"]
    assert main(["train", "charts-dyme", f"--run.output={home}/run", *size, *short, *helpers]) == 0
    assert main(["eval", str(home / "run"), "--samples=4", "--k=2", "--out", str(home / "items")]) == 0
    return home


def flat(value: Any, name: str = "") -> Iterator[str]:
    """Names of the leaves of a value: a.b, a[], a[].b."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from flat(part, f"{name}.{key}" if name else key)
        if not value:
            yield name
    elif isinstance(value, list):
        for part in value:
            yield from flat(part, f"{name}[]") if isinstance(part, dict) else [f"{name}[]"]
        if not value:
            yield name
    else:
        yield name


def documented(name: str, fields: dict[str, str]) -> bool:
    """Whether a field, or an empty or a null whole of which parts are documented, is on the page."""
    name = re.sub(r"\.(value|low|high|n)$", "", name)
    if any(field == name or field.startswith((f"{name}.", f"{name}[]")) for field in fields):
        return True
    patterns = (re.escape(field).replace(r"\*", ".+").replace("_K", r"_\d+").replace("NAME", ".+") for field in fields)
    return any(re.fullmatch(rf"{pattern}(\..+)?", name) for pattern in patterns)


@pytest.mark.parametrize("file", [file for file in FIELDS if FIELDS[file]])
def test_a_real_run_has_no_field_that_is_not_there(file: str, written: Path) -> None:
    [found] = list(written.glob(f"*/{file}"))
    text = found.read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()] if file.endswith(".jsonl") else [json.loads(text)]
    names = {name for row in rows for name in flat(row)}
    assert rows and [name for name in sorted(names) if not documented(name, FIELDS[file])] == []
    always = [field for field, present in FIELDS[file].items() if present == "always"]
    stem = [re.sub(r"\[\].*|\.\*", "", field) for field in always]
    assert [field for field in stem if not any(name.startswith(field) for name in names)] == []


@pytest.mark.parametrize("file", LINES)
def test_what_is_read_is_what_is_documented(file: str) -> None:
    def leaves(shape: Any, name: str) -> Iterator[str]:
        if isinstance(shape, dict):
            for key, part in shape.items():
                yield from leaves(part, f"{name}.{key.removesuffix('?')}".removeprefix("."))
        elif isinstance(shape, list) and isinstance(shape[0], dict):
            yield from leaves(shape[0], f"{name}[]")
        else:
            yield f"{name}[]" if isinstance(shape, list) else name

    read = set(leaves(LINES[file], ""))
    assert [name for name in sorted(read) if name.rpartition(".")[2] != "*" and not documented(name, FIELDS[file])] == []
    known = {name.split(".")[0].split("[")[0] for name in read}
    extra = {field.split(".")[0].split("[")[0] for field in FIELDS[file]} - known
    others = {"message", "step", "in_a_row", "metrics", "tracker", "call", "error"} if file == "events.jsonl" else set()
    assert extra == others, "documented, and not checked as it is read"


def test_every_name_on_the_page_is_in_the_code() -> None:
    """A field that was renamed or dropped, if the small run does not have it."""
    words = {part for fields in FIELDS.values() for field in fields for part in re.split(r"[.\[\]/]+", field)} - {"", "*", "NAME"}
    gone = [word for word in sorted(words) if not re.search(rf"\b{re.escape(word.removesuffix('_K'))}(?![a-z])", SOURCES)]
    assert len(words) > 80 and gone == []
