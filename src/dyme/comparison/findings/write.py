"""The report of a study and the map of regimes, written from its folder at any time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dyme.comparison.findings.blocks import ALPHA, block_figures, prediction, tuning
from dyme.comparison.findings.folder import MAIN, Block, Folder, Row, setting
from dyme.comparison.findings.pairs import MARGIN, contrast
from dyme.comparison.findings.regimes import regimes, shipped
from dyme.comparison.findings.rules import sentences
from dyme.errors import DataError
from dyme.report.study import write_page
from dyme.report.study_table import write_table
from dyme.system.files import write_whole
from dyme.tracking.json_lines import strict

_CONTROLS = ("yoked_random", "inverse", "constant_mix")
"""Methods that test a claim and are recommended to nobody; the rule "switch" speaks of the first."""
_DIGITS = 6


def write_report(out: Path) -> Path:
    """Write study.json, study.md and study.html in a study's folder from the cells that are done, and return the page's path.

    Raises DataError if the folder has no plan.
    """
    found = figures(Folder.open(out))
    write_whole(out / "study.json", (json.dumps(strict(found), indent=1) + "\n").encode())
    write_table(found, out / "study.md")
    return write_page(found, out / "study.html")


def write_map(out: Path, file: Path) -> None:
    """Write the map of regimes that a study measured to `file`; raises DataError if no condition has a diagnosed base and two seeds."""
    study = Folder.open(out)
    found = shipped(study, regimes(study))
    if not found["measured"]:
        raise DataError(f"{out} has no condition yet with a diagnosed base and an arm of two seeds, so there is no map to write")
    write_whole(file, (json.dumps(_rounded(strict(found)), indent=1) + "\n").encode())


def figures(study: Folder) -> dict[str, Any]:
    """Return all figures of a study, for JSON."""
    some = next(iter(study.cells.values()), {})
    found: dict[str, Any] = {
        **{key: study.plan.get(key) for key in ("title", "question", "recipe", "budget", "command", "settings")},
        "alpha": ALPHA, "margin": MARGIN, "cells": len(study.cells), "missing": list(study.missing()),
        "arms": {name: {**arm, "label": study.label(name)} for name, arm in study.plan["arms"].items()},
        "blocks": [block_figures(study, block) for block in study.blocks],
        "predictions": [prediction(study, name, plan) for name, plan in (study.plan.get("predictions") or {}).items()],
        "averaging": averaging(study), "rivals": rivals(study), "regimes": regimes(study), "tuning": tuning(study),
        "versions": some.get("versions", {}), "hardware": some.get("hardware", {}),
        "commits": sorted({str(cell["commit"]) for cell in study.cells.values() if cell.get("commit")}),
    }  # fmt: skip
    return found | {"sentences": sentences(found)}


def averaging(study: Folder) -> list[dict[str, Any]]:
    """Return the lead of each DyME arm over the two-stage training in its condition, with its averaging (objective.normalize)."""
    rival, out = study.arm_of("two_stage"), []
    for block, condition, arm, cells in _arms(study):
        if rival and study.method(arm) == MAIN and (found := contrast(cells, study.done(block, condition, rival))):
            name = setting(next(iter(cells.values())), "objective.normalize")
            out.append({"arm": arm, "label": study.label(arm), "normalize": name, **{key: found[key] for key in ("mean", "low", "high")}})
    return list({(one["arm"], one["normalize"]): one for one in reversed(out)}.values())[::-1]


def rivals(study: Folder) -> list[dict[str, Any]]:
    """Return the difference of the main arm to every arm of another rule, controls left out, in the first block's first condition.

    Another rule is another method, or the main arm's with another softness (method.tau).
    """
    out: dict[str, dict[str, Any]] = {}
    if not study.blocks:
        return []
    first = study.blocks[0]
    condition = next(iter(first.conditions))
    ours = study.done(first, condition, study.main)

    def rule(arm: str, cells: Mapping[int, Row]) -> tuple[str, Any]:
        return study.method(arm), setting(next(iter(cells.values())), "method.tau") or None

    for block, name, arm, cells in _arms(study):
        if (
            arm in out
            or study.method(arm) in _CONTROLS
            or (ours and rule(arm, cells) == rule(study.main, ours))
            or block.conditions[name] != first.conditions[condition]
        ):
            continue
        if found := contrast(ours, cells):
            out[arm] = {"arm": arm, "label": study.label(arm), **{key: found[key] for key in ("mean", "low", "high")}}
    return list(out.values())


def _arms(study: Folder) -> Iterable[tuple[Block, str, str, Mapping[int, Row]]]:
    """Yield every block, condition and arm with cells."""
    for block in study.blocks:
        for condition in block.conditions:
            for arm in block.arms:
                if cells := study.done(block, condition, arm):
                    yield block, condition, arm, cells


def _rounded(value: Any) -> Any:
    """Return JSON with its numbers rounded, so that the file that ships is short."""
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list) else value
