"""Whole lines of a run folder that are odd: one line says which, whatever reads them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from items import item
from pages import make_run

from dyme.errors import DymeError, RunError
from dyme.evaluation.items import ItemFolder
from dyme.evaluation.metrics import figures
from dyme.publishing import card
from dyme.report.page import write_page
from dyme.tracking.run_folder import RunFolder
from dyme.tracking.schema import LINES

FILES = ["metrics.jsonl", "rollouts.jsonl", "evaluations.jsonl", "events.jsonl"]
ODD = ["{}", "null", "3", '"x"', "[]", "true", "[" * 5000, '{"step": 1}', '{"step": "x"}', "{\\"]
VALUES: list[Any] = [None, "x", [{}], {"x": "y"}]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = make_run(tmp_path_factory.mktemp("run") / "run", steps=2)
    run.log_event("note", message="hello")
    return run.path


def read_all(folder: Path) -> None:
    """Everything that reads a run folder."""
    run = RunFolder.open(folder)
    write_page(folder)
    (folder / "model").mkdir(exist_ok=True)
    card.write(run, folder / "model")
    run.config()
    run.truncate(1)


@pytest.mark.parametrize("file", FILES)
def test_odd_lines_are_named(file: str, whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    held = (folder / file).read_text().splitlines()
    for line in ODD:
        (folder / file).write_text("\n".join([*held[:1], line, *held[1:]]) + "\n")
        with pytest.raises(RunError, match=rf"{file}, line 2: .*; remove that line to read the rest") as caught:
            list(RunFolder.open(folder)._read(file))
        assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match=rf"{file}, line 2: "):
        read_all(folder)


@pytest.mark.parametrize("file", FILES)
def test_odd_values_are_named_or_read(file: str, whole: Path, tmp_path: Path) -> None:
    """Each part of a line in turn is another thing, or absent."""
    folder = shutil.copytree(whole, tmp_path / "run")
    held = (folder / file).read_text().splitlines()
    row = json.loads(held[-1])
    refused = 0
    for name in row:
        for value in VALUES:
            (folder / file).write_text("\n".join([*held, json.dumps(row | {name: value})]) + "\n")
            try:
                list(RunFolder.open(folder)._read(file))
                write_page(folder) if file != "metrics.jsonl" else RunFolder.open(folder).steps()
            except DymeError as error:
                assert "\n" not in str(error)
                refused += 1
    assert refused >= len(LINES[file]), "the test must be able to fail"


def test_settings_that_are_none(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "run")
    for text in ("", "null", "[]", "3", '{"run": 3}', '{"model": null}', "[" * 5000, '{"task": {"name": 3}}'):
        (folder / "config.json").write_text(text)
        with pytest.raises(DymeError) as caught:
            RunFolder.open(folder).config()
        assert "\n" not in str(caught.value)
    (folder / "config.json").write_text('{"task": null}')
    with pytest.raises(RunError, match=r"config.json: cannot be read \('task' is no object\)"):
        write_page(folder)
    (folder / "versions.json").write_text("[]")
    with pytest.raises(RunError, match="versions.json: cannot be read"):
        RunFolder.open(folder).versions()


def test_items_that_are_odd(tmp_path: Path) -> None:
    folder = ItemFolder(tmp_path)
    folder.append([item(0, sampled=None), item(1, "direct", statements=(1, 2))])
    file = tmp_path / "items.jsonl"
    held = file.read_text().splitlines()
    row = json.loads(held[-1])
    lines = [*ODD, *(json.dumps(row | {name: value}) for name in row for value in VALUES), json.dumps(row | {"prompt": "sing"})]
    for line in lines:
        file.write_text("\n".join([held[0], line]) + "\n")
        try:
            figures(list(folder.items().values()))
        except RunError as error:
            assert "\n" not in str(error)
