"""The trainings of a comparison: each in its own process with its own run folder, `jobs` at a time."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dyme.comparison.plan import BASE, Study
from dyme.config import Config
from dyme.data.layouts import Split
from dyme.errors import ConfigError, DymeError
from dyme.recipe import build
from dyme.system.files import write_whole
from dyme.tracking.run_folder import RunFolder

Note = Callable[[str], None]
_LONGEST_NAME = 120
"""Characters of a method in the name of a folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One training, or the base itself (method "base"); the method as written, with its settings."""

    method: str
    traces: str
    seed: int
    learning_rate: float
    tuned: tuple[tuple[str, float | None], ...] = ()
    """Settings of the method that are learning rates, with the values that the grid chose (`Method.follows`)."""
    split: Split = "test"

    @property
    def name(self) -> str:
        """Return the folder name of the cell."""
        rates = "".join(f"-{key.removesuffix('_learning_rate')}{rate:g}" for key, rate in self.tuned if rate)
        return f"{_file_name(self.method)}-{self.traces}-lr{self.learning_rate:g}{rates}-seed{self.seed}"


def _file_name(method: str) -> str:
    """Return a file name for a method: as written, if it is short and safe on any file system; else its safe characters and a digest."""
    plain = re.sub(r"[^\w.+=,-]", "_", method, flags=re.ASCII)[:_LONGEST_NAME]
    return method if plain == method else f"{plain}-{hashlib.sha256(method.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def evaluation(study: Study, cell: Cell) -> dict[str, Any] | None:
    """Return the cell's last evaluation on its split, None without one."""
    try:
        found = [e for e in RunFolder.open(study.out / cell.name).evaluations() if e["name"] == cell.split]
    except DymeError:
        return None
    return found[-1] if found else None


def run_cells(study: Study, cells: Sequence[Cell], note: Note) -> None:
    """Run the cells that have no result yet, `jobs` at a time; raises DymeError if one fails, naming its log."""
    for cell in cells:
        _check_folder(study, cell)
    waiting = [c for c in dict.fromkeys(cells) if evaluation(study, c) is None]
    running: list[tuple[Cell, subprocess.Popen[bytes]]] = []
    done = 0
    try:
        while waiting or running:
            while waiting and len(running) < study.jobs:
                cell = waiting.pop(0)
                running.append((cell, _start(study, cell)))
            time.sleep(0.2)
            for cell, process in [r for r in running if r[1].poll() is not None]:
                running.remove((cell, process))
                done += 1
                if process.returncode != 0:
                    log = study.out / f"{cell.name}.log"
                    last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
                    raise DymeError(f"{cell.name} failed (status {process.returncode}): {last}; see {log}")
                found = evaluation(study, cell)
                value = found["metrics"]["think_accuracy"]["value"] if found else math.nan
                note(f"[{done}/{done + len(waiting) + len(running)}] {cell.name}: {cell.split} think accuracy {value:.3f}")
    finally:
        for _, process in running:
            process.terminate()
        for _, process in running:
            process.wait()


def _check_folder(study: Study, cell: Cell) -> None:
    """Raise ConfigError if the cell's folder holds a run with other settings."""
    folder = study.out / cell.name
    if not (folder / "config.json").exists():
        return
    wanted, held = cell_config(study, cell), RunFolder.open(folder).config()
    method = study.method_of(cell.method)
    if method is not None:
        wanted, held = method.settled(wanted), method.settled(held)
    if wanted.train.precision == "auto":  # a run records the definite precision
        wanted = replace(wanted, train=replace(wanted.train, precision=held.train.precision))
    if replace(held, run=wanted.run) != wanted or held.run.seed != wanted.run.seed:
        raise ConfigError(f"{folder} holds a run with other settings; choose another --out, or repeat the command that made it")


def _start(study: Study, cell: Cell) -> subprocess.Popen[bytes]:
    """Start and return a process that trains the cell, or resumes it, and evaluates it on its split."""
    recipe = study.out / f"{cell.name}.json"
    write_whole(recipe, json.dumps(cell_config(study, cell).to_dict()).encode())
    threads = str(max(1, (os.cpu_count() or 1) // study.jobs))
    environment = {"OMP_NUM_THREADS": threads} | os.environ
    words = [
        sys.executable,
        "-m",
        "dyme",
        "cell",
        "--tied",
        str(recipe),
        cell.split,
        *(["--base"] if cell.method == BASE else []),
    ]
    with (study.out / f"{cell.name}.log").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.PIPE, env=environment)


def end_with_parent() -> None:
    """End this process with a checkpoint, as SIGTERM does, when stdin ends: it is a pipe from a parent that may be killed."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def cell_config(study: Study, cell: Cell) -> Config:
    """Return the recipe of a cell: the study's, with the cell's method, traces, seed and rates."""
    config = study.config_of(cell.method)
    traces = config.task.traces if cell.traces == "any" else cell.traces
    shown = f"{config.run.run_name}, {cell.name}" if config.run.run_name else ""
    return replace(
        config,
        run=replace(config.run, output=str(study.out / cell.name), seed=cell.seed, run_name=shown),
        task=replace(config.task, traces=traces),  # type: ignore[arg-type]
        method=replace(config.method, settings={**config.method.settings, **dict(cell.tuned)}),
        train=replace(config.train, learning_rate=cell.learning_rate),
    )


def read_cell(recipe: Path) -> Config:
    """Return the config that `_start` wrote."""
    return build(json.loads(recipe.read_text(encoding="utf-8")), where=str(recipe))
