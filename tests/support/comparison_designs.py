"""Designs of small studies, and a stand-in for the processes of their cells."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from dyme.comparison import processes
from dyme.comparison.cells import Cell
from dyme.comparison.design import Design
from dyme.comparison.study_file import design_of
from dyme.system.files import write_whole

TINY = {
    "task.train_size": 8, "task.validation_size": 2, "task.test_size": 2, "rollout.num_generations": 4, "rollout.max_completion_length": 12,
    "train.prompts_per_step": 4,
}  # fmt: skip


def tree(**more: Any) -> dict[str, Any]:
    """Tables of a study of two tuned arms and a control in one block; `more` are sections to replace."""
    return {
        "study": {"recipe": "charts-dyme", "budget": "24prompts"},
        "settings": TINY,
        "arms": {
            "sft": {"grid": {"train.learning_rate": [3e-4, 1e-3]}},
            "dyme": {"grid": {"train.learning_rate": [3e-4, 1e-3], "method.memorize_weight": ["code", "paper"]}},
            "control": {"method": "dyme", "settings": {"method.all_correct": "explore"}, "tuned_as": "dyme"},
        },
        "tuning": {"seeds": [100, 101], "halving": {"first": 0.3333, "keep": 2}, "open_edges": 1},
        "blocks": {"primary": {"arms": ["dyme", "sft", "control"], "seeds": [1, 2], "compare": [["dyme", "sft"]]}},
    } | more


def design(out: Path, content: Mapping[str, Any] | None = None, **options: Any) -> Design:
    return design_of(content or tree(), "s.toml", Path("s.toml"), out=out, **options)


def figures(value: float) -> dict[str, Any]:
    return {"think_accuracy": {"value": value, "low": value, "high": value, "n": 50}}


class Fake:
    """Stands in for the processes of cells: writes a cell file at once, with the accuracy that `score` gives, or fails."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        score: Callable[[Cell], float] = lambda cell: 0.5,
        fails: Callable[[Cell], int] = lambda cell: 0,
    ) -> None:
        self.started: list[Cell] = []
        self.reruns: list[str] = []
        self.alive = self.most = 0
        self.score, self.fails = score, fails
        monkeypatch.setattr(processes, "_start", self)
        monkeypatch.setattr(processes.time, "sleep", lambda seconds: None)

    def __call__(self, design: Design, cell: Cell, command: str, rerun: str = "") -> Any:
        self.started.append(cell)
        self.reruns += [rerun] if rerun else []
        self.alive += 1
        self.most = max(self.most, self.alive)
        fake, status = self, self.fails(cell)
        (design.out / "runs").mkdir(parents=True, exist_ok=True)
        (design.out / "runs" / f"{cell.id}.log").write_text("loading\ndyme: no space left\n", encoding="utf-8")
        if not status:
            row = {"id": cell.id, "arm": cell.arm, "metrics": figures(self.score(cell)), "config": cell.identity, "wall_seconds": 60.0}
            (design.out / "cells").mkdir(exist_ok=True)
            write_whole(design.out / "cells" / f"{cell.id}.json", json.dumps(row).encode())

        class Process:
            returncode = status

            def poll(self) -> int:
                fake.alive -= 1
                return status

            def terminate(self) -> None: ...

            def wait(self) -> None: ...

        return Process()
