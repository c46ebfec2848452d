"""The paper's tables as study files, in miniature and in full: each is valid, and has the cells of its table."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import ROOT

from dyme.cli.main import main
from dyme.comparison.study import Study
from dyme.comparison.study_file import read_study

CELLS = {
    "table1": 4 * 3 * 3, "table1b": 6 * 3, "table2": 4 * 2 * 3, "table3": 5 * 3, "table4": 3 * 3,
    "table1-full": 4 * 3, "table1b-full": 6, "table2-full": 4 * 3 * 3, "table3-full": 5 * 3, "table4-full": 4,
}  # fmt: skip
"""Arms x conditions x seeds of each."""


def test_each_file_is_a_table() -> None:
    assert {file.stem for file in (ROOT / "studies").glob("*.toml")} == set(CELLS)


@pytest.mark.parametrize("name", CELLS)
def test_a_table_is_valid_without_running(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = ROOT / f"studies/{name}.toml"
    assert file.read_text(encoding="utf-8").startswith(f"# dyme study studies/{name}.toml\n") and "Cost" in file.read_text(encoding="utf-8")
    assert main(["study", str(file), "--check"]) == 0
    assert "no errors" in capsys.readouterr().out and not list(tmp_path.iterdir())
    study = Study(read_study(file))
    rows = list(study.rows(list(study.design.blocks.values())))
    assert len(rows) == CELLS[name]
    known = [cell.id for *_, cell in rows if cell is not None]
    assert len(set(known)) == len(known) == (0 if study.design.tuning else len(rows)), "cells of their own, but for arms to be tuned"
