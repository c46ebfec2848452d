"""A study: the trials of its arms, then its blocks of cells, each from its file if it is there.

What is wanted next is a function of the design and of the cell files that are there, so the same command continues a study that was
stopped or killed at any moment, and the files may come from several machines. Written into the study's folder:

    cells/<id>.json   one training each, figures and items; the only memory of the study
    choices.json      how each arm was tuned            plan.json   the design, and which cell answers what
    study.json, .md, .html   the report                 runs/       scratch: logs, and run folders without weights
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dyme.comparison.cells import Cell, Cells, read_job
from dyme.comparison.design import BASE, Arm, Block, Design, Settings, budget_of, named
from dyme.comparison.findings import write_report
from dyme.comparison.processes import Note, run_cells
from dyme.comparison.tuning import Outcome, Trial, tune
from dyme.errors import ConfigError, DymeError, RunError
from dyme.system import lock
from dyme.system.files import write_whole


@dataclass
class Study:
    """A design with the cells that are done."""

    design: Design
    _cells: dict[str, Cell] = field(default_factory=dict)

    @cached_property
    def cells(self) -> Cells:
        """Return the cell files."""
        return Cells([self.design.out / "cells", *([self.design.cells] if self.design.cells else [])])

    def chosen(self, name: str) -> dict[str, Any] | None:
        """Return the settings that tuning chose for an arm; {} if it is not tuned, None if that is not decided yet."""
        arm = self.design.arms[name]
        if (taken := self.taken(arm)) is None or not arm.grid:
            return taken
        outcome = self.outcome(arm, taken)
        return None if outcome.winner is None or self.refusal(arm, outcome) else {**taken, **outcome.winner}

    def taken(self, arm: Arm) -> dict[str, Any] | None:
        """Return the settings that an arm takes from what other arms chose; None if that is not decided yet."""
        out: dict[str, Any] = {}
        own = self.design.method_of(arm).settings
        for leader in arm.leaders:
            if (led := self.chosen(leader)) is None:
                return None
            if leader == arm.tuned_as:
                out |= {key: value for key, value in led.items()
                        if key not in arm.settings and (not key.startswith("method.") or hasattr(own, key.partition(".")[2]))}  # fmt: skip
            rate = self.design.configure(self.design.arms[leader], 0, {}, led).train.learning_rate
            out |= dict.fromkeys((key for key, name in arm.takes.items() if name == leader), rate)
        return out

    def outcome(self, arm: Arm, taken: Settings) -> Outcome:
        """Return how far the tuning of an arm with a grid has come; `taken` are settings that follow other arms."""
        rule = self.design.tuning
        assert rule is not None

        def score(trial: Trial) -> float | None:
            found = self.cells.get(self.trial_cell(arm, trial, taken))
            return None if found is None else float(found["metrics"]["think_accuracy"]["value"])

        def allowed(settings: Settings) -> bool:
            try:
                return bool(self.trial_cell(arm, Trial(settings=settings, seed=rule.seeds[0], share=1.0, round=0), taken))
            except ConfigError:
                return False

        return tune(arm.grid, rule, score, allowed)

    def refusal(self, arm: Arm, outcome: Outcome) -> str:
        """Return the line that refuses a winner at the edge of its grid, under open_edges = 0; else ""."""
        refuses = self.design.tuning is not None and self.design.tuning.open_edges == 0 and outcome.winner is not None
        if refuses and (edges := [edge for edge in outcome.edges if not edge["bound"]]):
            edge = edges[0]
            return (
                f"{self.design.where}: [arms.{arm.name}] grid: {edge['setting']} {edge['value']} won at the edge of its values; add one "
                "beyond it, or set [tuning] open_edges"
            )
        return ""

    def trial_cell(self, arm: Arm, trial: Trial, taken: Settings) -> Cell:
        """Return the cell of a trial."""
        rule = self.design.tuning
        assert rule is not None
        settings = {**taken, **trial.settings}
        return self._cell("trial", arm.name, "", trial.seed, rule.settings, settings, trial.share)

    def test_cell(self, arm: str, condition: str, layer: Settings, seed: int, chosen: Settings) -> Cell:
        """Return a cell of a block."""
        return self._cell("test", arm, condition, seed, layer, chosen, 1.0)

    def base_cell(self, condition: str, layer: Settings) -> Cell:
        """Return the cell of the untrained model in a condition."""
        key = json.dumps(["base", layer], sort_keys=True)
        if key not in self._cells:
            config = self.design.base_config(layer)
            self._cells[key] = Cell(arm=BASE, condition=condition, stage="base", config=config, settings=layer, split=self.design.split)
        return self._cells[key]

    def _cell(self, stage: Any, name: str, condition: str, seed: int, layer: Settings, chosen: Settings, share: float) -> Cell:
        key = json.dumps([stage, name, condition, seed, layer, chosen, share], sort_keys=True)
        if key not in self._cells:
            arm = self.design.arms[name]
            config = self.design.configure(arm, seed, layer, chosen, share=share)
            split = "validation" if stage == "trial" else self.design.split
            shown = chosen if stage == "trial" else {**layer, **arm.settings, **chosen}
            self._cells[key] = Cell(arm=name, condition=condition, stage=stage, config=config, settings=shown, split=split)
        return self._cells[key]

    def trials(self, arms: Sequence[Arm]) -> Iterator[Cell]:
        """Yield the trials of these arms that are known so far, done or not."""
        for arm in arms:
            if arm.grid and (taken := self.taken(arm)) is not None:
                yield from (self.trial_cell(arm, trial, taken) for trial in self.outcome(arm, taken).trials)

    def rows(self, blocks: Sequence[Block]) -> Iterator[tuple[Block, str, str, int, Cell | None]]:
        """Yield block, condition, arm, seed and cell of all test cells, whole seeds first; None for a cell whose arm is not tuned yet."""
        chosen = {name: self.chosen(name) for name in self.design.arms}
        for block in blocks:
            for seed in block.seeds:
                for condition, layer in block.conditions.items():
                    for arm in block.arms:
                        settings = chosen[arm]
                        cell = None if settings is None else self.test_cell(arm, condition, layer, seed, settings)
                        yield block, condition, arm, seed, cell

    def bases(self, blocks: Sequence[Block]) -> Iterator[tuple[Block, str, Cell]]:
        """Yield the cells of the untrained model."""
        for block in blocks if self.design.base else ():
            for condition, layer in block.conditions.items():
                yield block, condition, self.base_cell(condition, layer)

    def wanted(self, only: Sequence[str] = ()) -> list[Cell]:
        """Return the cells that are not done and can be run now, in order: trials, bases, blocks."""
        blocks, arms = named(self.design, only)
        known = [*self.trials(arms), *(cell for _, _, cell in self.bases(blocks))]
        known += [cell for *_, cell in self.rows(blocks) if cell is not None]
        return [cell for cell in {cell.id: cell for cell in known}.values() if self.cells.get(cell) is None]

    def choices(self) -> dict[str, Any]:
        """Return how each arm with a grid was tuned, for choices.json."""
        out = {}
        for arm in self.design.arms.values():
            if not arm.grid or (taken := self.taken(arm)) is None:
                continue
            found = self.outcome(arm, taken)
            trials = []
            for trial in found.trials:
                cell = self.trial_cell(arm, trial, taken)
                held = self.cells.get(cell)
                trials.append({
                    "settings": dict(trial.settings), "seed": trial.seed, "budget": budget_of(cell.config), "round": trial.round,
                    "accuracy": held["metrics"]["think_accuracy"]["value"] if held else None, "id": cell.id,
                })  # fmt: skip
            out[arm.name] = {
                "trials": trials, "survivors": found.survivors, "winner": found.winner, "opened": found.opened, "edges": found.edges,
            } | ({"taken": taken} if taken else {})  # fmt: skip
        return out

    def plan(self, command: str) -> dict[str, Any]:
        """Return the design and the ids of its cells, for plan.json."""
        design = self.design
        blocks: dict[str, Any] = {}
        for block in design.blocks.values():
            blocks[block.name] = {
                "question": block.question, "arms": block.arms, "seeds": block.seeds, "conditions": block.conditions,
                "compare": block.compare, "then": block.then, "cells": {condition: {} for condition in block.conditions}, "bases": {},
            }  # fmt: skip
        for block, condition, arm, seed, cell in self.rows(list(design.blocks.values())):
            if cell is not None:
                blocks[block.name]["cells"][condition].setdefault(arm, {})[str(seed)] = cell.id
        for block, condition, cell in self.bases(list(design.blocks.values())):
            blocks[block.name]["bases"][condition] = cell.id
        arms = {}
        for name, own in design.arms.items():
            chosen = self.chosen(name)
            arms[name] = {
                "method": own.method, "label": own.label, "settings": {**own.settings, **(chosen or {})}, "tuned": chosen is not None,
            } | ({"tuned_as": own.tuned_as} if own.tuned_as else {})  # fmt: skip
        rule = design.tuning
        return {
            "title": design.title, "recipe": design.recipe, "budget": next((budget_of(config) for _, config in design.variants()), ""),
            "command": command, "settings": design.settings,
            "tuning": {"seeds": rule.seeds, "settings": rule.settings, "first": rule.first, "keep": rule.keep,
                       "open_edges": rule.open_edges} if rule else None,
            "arms": arms, "blocks": blocks, "predictions": design.predictions,
        }  # fmt: skip

    def every(self) -> list[Cell]:
        """Return all cells of the design that are known so far."""
        blocks, arms = list(self.design.blocks.values()), list(self.design.arms.values())
        cells = [*self.trials(arms), *(cell for _, _, cell in self.bases(blocks)), *(cell for *_, cell in self.rows(blocks) if cell)]
        return list({cell.id: cell for cell in cells}.values())

    def write(self, command: str) -> None:
        """Write plan.json and choices.json; cell files that lie elsewhere are copied here."""
        if len(self.cells.folders) > 1:
            for cell in self.every():
                self.cells.adopt(cell)
        for name, content in (("plan.json", self.plan(command)), ("choices.json", self.choices())):
            write_whole(self.design.out / name, (json.dumps(content, indent=1) + "\n").encode())

    def unused(self) -> int:
        """Return the number of cell files that belong to no cell of this design."""
        used = {cell.id for cell in self.every()}
        return len({file.stem for file in self.cells.files()} - used)


def tidy(runs: Path) -> None:
    """Remove what is left of the run folders of cells that are done, as by a process that was killed at its very end."""
    for file in sorted(runs.glob("*.json")):
        job = read_job(file)
        with suppress(RunError), lock.hold(job.run):  # else the process of a killed study is still at work there
            if job.done():
                job.clean()


def run_study(design: Design, command: str, note: Note, *, only: Sequence[str] = (), wait: bool = False) -> Path:
    """Run every cell that is not done, rewrite the report and return it; raises DymeError at the end for cells that failed twice."""
    study = Study(design)
    with lock.hold(design.out, wait=wait):
        if count := study.unused():
            note(f"{count} cell files belong to other settings than the study's now and are not used")

        tidy(design.out / "runs")

        def wanted() -> list[Cell]:
            study.write(command)
            return study.wanted(only)

        try:
            failed = run_cells(design, wanted, study.cells, command, note)
        finally:
            study.write(command)
            report = write_report(design.out)
        for arm in named(design, only)[1]:
            if arm.grid and (taken := study.taken(arm)) is not None and (line := study.refusal(arm, study.outcome(arm, taken))):
                failed.append(line)
    if failed:
        raise DymeError(f"{failed[0]}{f', and {len(failed) - 1} more' if len(failed) > 1 else ''}; the same command runs them again")
    return report
