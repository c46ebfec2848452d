"""Comparisons: methods x traces x seeds from one base, on one data set, with one verifier and one budget.

Each training has its own process and its own run folder, so a comparison that was stopped can be continued, and a
crash costs one cell. The learning rate of each method comes from the same grid, chosen by think accuracy on the validation
split at the first seed and the first trace quality; the held-out split is only reported on.

A method may have its own settings, written NAME+reward.thinking_weight=0, and is then a separate row.
"""

from __future__ import annotations

import json
import os
import platform
import time
from typing import Any

from dyme.comparison.cells import Cell, Note, evaluation, run_cells
from dyme.comparison.plan import BASE, Study, traces_of
from dyme.comparison.rates import choose_rates
from dyme.comparison.statistics.pooled import summarize
from dyme.system import lock
from dyme.system.files import write_whole
from dyme.tracking.run_folder import RunFolder


def run_study(study: Study, note: Note, command: str) -> dict[str, Any]:
    """Train and evaluate every cell that is not done yet; write and return `comparison.json`."""
    study.check()
    with lock.hold(study.out):
        return _run(study, note, command)


def _run(study: Study, note: Note, command: str) -> dict[str, Any]:
    started = time.time()
    chosen, tried = choose_rates(study, note)
    cells = [
        Cell(method=method, traces=traces, seed=seed, learning_rate=chosen[method][0], tuned=chosen[method][1], split=study.split)
        for method in study.methods
        for traces in traces_of(study, method)
        for seed in (study.seeds if method != BASE else study.seeds[:1])
    ]
    run_cells(study, cells, note)
    rows = [row(study, cell) for cell in cells]
    result = {
        "command": command,
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {study.jobs} runs at a time",
        "versions": RunFolder.open(study.out / cells[-1].name).versions(),
        "seconds": round(time.time() - started, 1),
        "learning_rates": {method: [rate, dict(tuned)] for method, (rate, tuned) in chosen.items()},
        "validation": tried,
        "rows": rows,
        "summary": summarize(rows),
    }
    write_whole(study.out / "comparison.json", json.dumps(result, indent=1).encode())
    return result


def row(study: Study, cell: Cell) -> dict[str, Any]:
    """Return a cell's figures and its curve of sampled accuracy over prompts."""
    run = RunFolder.open(study.out / cell.name)
    steps = run.steps()
    found = evaluation(study, cell) or {"metrics": {}}
    return {
        "method": cell.method, "traces": cell.traces, "seed": cell.seed, "learning_rate": cell.learning_rate,
        **dict(cell.tuned),
        "prompts": steps[-1].prompts if steps else 0, "seconds": round(steps[-1].seconds, 1) if steps else 0.0,
        "metrics": found["metrics"], "by_kind": found.get("by_kind", {}),
        "curve": [[s.prompts, s.metrics["accuracy"]] for s in steps if "accuracy" in s.metrics],
        "run": cell.name,
    }  # fmt: skip
