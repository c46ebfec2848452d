"""The places that record a run: its folder, the display, and trackers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dyme.config import Config
from dyme.tracking.display import Display
from dyme.tracking.run_folder import RunFolder
from dyme.tracking.trackers import Reports
from dyme.types import Group, Route, StepRecord


@dataclass(frozen=True, slots=True)
class Recorder:
    """The places that get each step and each evaluation; the main process alone records."""

    run: RunFolder
    display: Display
    reports: Reports

    def start(self, config: Config) -> None:
        """Start the trackers."""
        self.reports.start(config, self.run, self.display.note)

    def step(self, record: StepRecord, everyone: Sequence[tuple[Group, Route]], stage: str) -> None:
        """Record a step, with how many trackers have failed, if any has."""
        record = replace(record, metrics={**record.metrics, **self.reports.figures()})
        groups, routes = [group for group, _ in everyone], [route for _, route in everyone]
        self.run.log_step(record)
        self.run.log_rollouts(record.step, groups, routes)
        self.display.step(record, stage)
        self.reports.log_step(record, groups, routes)

    def evaluation(self, step: int, name: str, result: Mapping[str, Any], metric: str, *, best: bool) -> None:
        """Record an evaluation of the model after a step, shown by `metric`; `best`: none was better before."""
        self.run.log_evaluation(step, name, result)
        self.display.evaluation(step, result, metric, best=best)
        self.reports.log_evaluation(step, name, result)

    def note(self, line: str) -> None:
        """Show a line and record it."""
        self.display.note(line)
        self.run.log_event("note", message=line)
