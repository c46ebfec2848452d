"""Cells as processes, `jobs` at a time: each ends with its parent, and one that failed is run once more with the same seed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dyme.comparison.cells import Cell, Cells, write_job
from dyme.comparison.design import Design
from dyme.errors import DymeError

Note = Callable[[str], None]
MOST_IN_A_ROW = 4
"""Cells that may fail, twice each, without one that succeeds between them."""
_GLANCE = 0.2
"""Seconds between two looks at the processes."""


@dataclass(slots=True)
class _Running:
    cell: Cell
    process: subprocess.Popen[bytes]
    second: bool


def run_cells(design: Design, wanted: Callable[[], Sequence[Cell]], cells: Cells, command: str, note: Note) -> list[str]:
    """Run what is wanted, in order, until nothing is; return a line for each cell that failed twice, naming its log.

    `wanted` returns the cells that are not done and can be run now; it is asked again whenever one has ended.
    """
    running: list[_Running] = []
    failed: dict[str, str] = {}
    in_a_row = 0
    waiting = list(wanted())
    try:
        while True:
            busy = {one.cell.id for one in running} | failed.keys()
            for cell in [cell for cell in waiting if cell.id not in busy][: design.jobs - len(running)]:
                running.append(_Running(cell, _start(design, cell, command), False))
            if not running:
                return list(failed.values())
            time.sleep(_GLANCE)
            for one in [one for one in running if one.process.poll() is not None]:
                running.remove(one)
                if (found := cells.get(one.cell)) is not None:
                    in_a_row = 0
                    value = found["metrics"]["think_accuracy"]["value"]
                    waiting = list(wanted())
                    note(f"{one.cell.name}: {one.cell.split} accuracy {value:.3f}; {len(waiting)} cells known to be left")
                    continue
                trouble = _last_words(design, one)
                note(trouble)
                if one.second:
                    failed[one.cell.id] = trouble
                    in_a_row += 1
                    if in_a_row == MOST_IN_A_ROW:
                        raise DymeError(f"{trouble}; {in_a_row} cells failed one after another, so the others are not begun")
                else:
                    running.append(_Running(one.cell, _start(design, one.cell, command, trouble), True))
    finally:
        for one in running:
            one.process.terminate()
        for one in running:
            one.process.wait()


def log_of(design: Design, cell: Cell) -> Path:
    """Return the file with what a cell's process printed."""
    return design.out / "runs" / f"{cell.id}.log"


def _last_words(design: Design, one: _Running) -> str:
    log = log_of(design, one.cell)
    last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
    again = "again" if one.second else "; it is run once more"
    return f"{one.cell.name} failed (status {one.process.returncode}) {again}: {last}; see {log}".replace(") ;", ");")


def _start(design: Design, cell: Cell, command: str, rerun: str = "") -> subprocess.Popen[bytes]:
    """Start and return the process of a cell."""
    job = write_job(cell, design.out, command, keep=design.keep, diagnose=design.diagnose, rerun=rerun)
    environment = os.environ | {"OMP_NUM_THREADS": str(design.threads)}
    words = [sys.executable, "-m", "dyme", "cell", "--tied", str(job)]
    with log_of(design, cell).open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.PIPE, env=environment)


def end_with_parent() -> None:
    """End this process with a checkpoint, as SIGTERM does, when stdin ends: it is a pipe from a parent that may be killed."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()
