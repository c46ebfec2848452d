"""The files of a study's folder: plan.json, choices.json and the cell files, read as they are at the moment.

    plan.json     title, budget, command; arms with their settings; blocks with arms, seeds, conditions, pairs and the ids of their cells
    choices.json  how each tuned arm was tuned
    cells/ID.json one training with its figures, its items and its curve; "base" cells have the untrained model's figures

A missing or half-known cell is never an error: what is not there is named in the report.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dyme.errors import DataError

Row = Mapping[str, Any]
ACCURACY = "think_accuracy"
"""The metric that arms are compared by."""
MAIN = "dyme"
"""The method whose first arm the others are compared with, where the plan names no pairs."""


@dataclass(frozen=True)
class Block:
    """A block of the plan."""

    name: str
    plan: Row

    @property
    def arms(self) -> list[str]:
        """Return the names of its arms."""
        return list(self.plan.get("arms", ()))

    @property
    def seeds(self) -> list[int]:
        """Return its seeds."""
        return list(self.plan.get("seeds", ()))

    @property
    def conditions(self) -> Mapping[str, Row]:
        """Return the settings of each condition, by name."""
        return self.plan.get("conditions") or {"": {}}

    def pairs(self, kind: str) -> list[tuple[str, str]]:
        """Return the pairs of arms under "compare" or "then"."""
        return [(a, b) for a, b in self.plan.get(kind, ())]


@dataclass(frozen=True)
class Folder:
    """A study's folder."""

    path: Path
    plan: Row
    choices: Row

    @classmethod
    def open(cls, path: Path) -> Folder:
        """Return the study in a folder; raises DataError if it has no plan."""
        plan = _read(path / "plan.json")
        if not isinstance(plan, dict) or not isinstance(plan.get("blocks"), dict) or not isinstance(plan.get("arms"), dict):
            raise DataError(
                f"{path} is not a study: it has no plan.json with arms and blocks; `dyme study FILE` and `dyme compare` write one"
            )
        choices = _read(path / "choices.json")
        return cls(path, plan, choices if isinstance(choices, dict) else {})

    @cached_property
    def cells(self) -> Mapping[str, Row]:
        """Return the cell files that can be read, by id."""
        found = ((file.stem, _read(file)) for file in sorted((self.path / "cells").glob("*.json")))
        return {name: cell for name, cell in found if isinstance(cell, dict) and ACCURACY in (cell.get("metrics") or {})}

    @cached_property
    def blocks(self) -> list[Block]:
        """Return the blocks, in the plan's order."""
        return [Block(name, plan) for name, plan in self.plan["blocks"].items()]

    @cached_property
    def main(self) -> str:
        """Return the arm that others are compared with: the first of method dyme in the first block, else the first arm."""
        arms = [arm for block in self.blocks for arm in block.arms]
        return next((arm for arm in arms if self.method(arm) == MAIN), arms[0] if arms else "")

    def method(self, arm: str) -> str:
        """Return the method of an arm."""
        return str(self.plan["arms"].get(arm, {}).get("method", arm))

    def label(self, arm: str) -> str:
        """Return the name of an arm as shown."""
        return str(self.plan["arms"].get(arm, {}).get("label") or arm.replace("_", " "))

    def arm_of(self, method: str) -> str | None:
        """Return the first arm of a method, None without one."""
        return next((arm for block in self.blocks for arm in block.arms if self.method(arm) == method), None)

    def done(self, block: Block, condition: str, arm: str) -> dict[int, Row]:
        """Return the cells of an arm that are done, by seed; of an arm of another block, those in the same condition."""
        for place in (block, *self.blocks):
            if arm in place.arms:
                for name, settings in place.conditions.items():
                    if settings == block.conditions[condition]:
                        ids = place.plan.get("cells", {}).get(name, {}).get(arm, {})
                        return {int(seed): self.cells[key] for seed, key in ids.items() if key in self.cells}
        return {}

    def base(self, block: Block, condition: str) -> Row | None:
        """Return the base's cell of a condition, None without one."""
        return self.cells.get(block.plan.get("bases", {}).get(condition, ""))

    def missing(self) -> Iterator[str]:
        """Yield a line for each arm and condition with cells that are not there."""
        for arm, choice in self.choices.items():
            trials = choice.get("trials") or []
            open_trials = sum(trial.get("accuracy") is None for trial in trials)
            if open_trials or not choice.get("winner"):
                yield f"tuning: {self.label(arm)} ({open_trials} of the {len(trials)} trials that are known so far)"
        for block in self.blocks:
            for condition in block.conditions:
                where = f"{block.name}{f', {condition}' if condition else ''}"
                alike: dict[str, list[str]] = {}
                for arm in block.arms:
                    lacking = [seed for seed in block.seeds if seed not in self.done(block, condition, arm)]
                    waits = not block.plan.get("cells", {}).get(condition, {}).get(arm)
                    if lacking:
                        alike.setdefault(f"seeds {_ranges(lacking)}{', until tuned' if waits else ''}", []).append(self.label(arm))
                yield from (f"{where}: {', '.join(arms)} ({what})" for what, arms in alike.items())
                if block.plan.get("bases", {}).get(condition) and self.base(block, condition) is None:
                    yield f"{where}: the untrained model"


def setting(cell: Row, name: str) -> Any:
    """Return the value of a setting ("task.misread") in a cell, None if it does not say."""
    section, _, key = name.partition(".")
    found = cell.get("config", {}).get(section, {})
    if section == "method" and key not in found:
        found = found.get("settings", {})
    return found.get(key, cell.get("settings", {}).get(name))


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _ranges(numbers: Sequence[int]) -> str:
    """Return "1-3, 7" for 1, 2, 3, 7."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(f"{part[0]}-{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts)
