"""Published results: the study's report and the README's table say what the cells in docs/results/cells say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from runs import ROOT

from dyme.cli.main import main

COLUMNS = ("think_accuracy", "direct_accuracy", "true_statements")
"""Metrics of the README's table, from left to right."""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a report that was written anew from the cells."""
    out = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        assert main(["study", "docs/results/plan.toml", "--out", str(out), "--report"]) == 0
    return out


def primary(report: Path) -> dict[str, Any]:
    block: dict[str, Any] = json.loads((report / "study.json").read_text(encoding="utf-8"))["blocks"][0]
    return block


def percent(metric: dict[str, Any]) -> str:
    return " ".join(f"{100 * metric[end]:.1f}" for end in ("value", "low", "high"))


def test_the_published_report_is_that_of_the_cells(report: Path) -> None:
    assert (ROOT / "docs/results/study.md").read_text(encoding="utf-8") == (report / "study.md").read_text(encoding="utf-8")


def test_the_readmes_table_is_that_of_the_report(report: Path) -> None:
    block = primary(report)
    metrics = {arm["label"]: arm["metrics"] for arm in block["arms"]} | {"untrained": block["conditions"][0]["base"]["metrics"]}
    found = {}
    for line in (ROOT / "README.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip(" *") for cell in line.strip("|").split("|")]
        if (label := re.sub(r" \(.*\)", "", cells[0])) in metrics and len(cells) == 1 + len(COLUMNS):
            found[label] = [" ".join(re.findall(r"[\d.]+", cell)) for cell in cells[1:]]
    assert found == {label: [percent(own[name]) for name in COLUMNS] for label, own in metrics.items()}


def test_the_primary_block_has_all_its_seeds(report: Path) -> None:
    block = primary(report)
    assert {arm["label"]: len(arm["values"]) for arm in block["arms"]} == {arm["label"]: 10 for arm in block["arms"]}
