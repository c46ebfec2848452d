"""Comparisons: methods x traces x seeds from one base, on one data set, with one verifier and one budget.

Each training is a process of its own and a run folder of its own, so a comparison that is stopped goes on where it was, and a
crash costs one cell. The learning rate of each method comes from the same grid, chosen by think accuracy on the validation
split at the first seed and the first trace quality; the held-out split is only ever reported.

A method may carry settings of its own, written grpo+reward.thinking_weight=0, and is then a row of its own.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
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

from dyme.checks import check
from dyme.config import Config
from dyme.errors import ConfigError, DymeError
from dyme.evaluation.metrics import t95
from dyme.methods import METHODS
from dyme.recipe import build, nearest
from dyme.system import lock
from dyme.system.files import write_whole
from dyme.tasks.task import Split
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
    sft_learning_rate: float | None = None
    split: Split = "test"

    @property
    def name(self) -> str:
        """Folder name of the cell."""
        rate = f"-sft{self.sft_learning_rate:g}" if self.sft_learning_rate else ""
        return f"{_file_name(self.method)}-{self.traces}-lr{self.learning_rate:g}{rate}-seed{self.seed}"


def _file_name(method: str) -> str:
    """A method as written, if any file system takes it and it is not long; else what can be kept, told apart by its digest."""
    plain = re.sub(r"[^\w.+=,-]", "_", method, flags=re.ASCII)[:_LONGEST_NAME]
    return method if plain == method else f"{plain}-{hashlib.sha256(method.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What to compare and how."""

    config: Config
    methods: tuple[str, ...]
    traces: tuple[str, ...]
    seeds: tuple[int, ...]
    rates: tuple[float, ...]
    out: Path
    jobs: int = 1
    split: Split = "test"
    """What is reported on."""

    def check(self) -> None:
        """Raise ConfigError for unknown methods or qualities, empty lists, impossible numbers, or a folder of another comparison."""
        check(self.config)
        for method in self.methods:
            name, settings = parse_method(method)
            if name != "base" and name not in METHODS:
                raise ConfigError(f"unknown method {name!r}; {nearest(name, ('base', *METHODS))}")
            build(self.config.to_dict(), settings, where=f"method {method}")
        if not (self.methods and self.traces and self.seeds and self.rates):
            raise ConfigError("a comparison needs at least one method, trace quality, seed and learning rate")
        if self.jobs < 1:
            raise ConfigError("--jobs must be at least 1")
        for traces in self.traces:
            for rate in self.rates:
                build(self.config.to_dict(), [f"--task.traces={traces}", f"--train.learning_rate={rate}"], where="compare")


def parse_method(text: str) -> tuple[str, list[str]]:
    """The method's name and its own settings as overrides: "dyme+method.memorize_weight=0.125" has one."""
    name, *settings = text.split("+")
    return name, [f"--{setting}" for setting in settings]


def parse_budget(text: str) -> dict[str, Any]:
    """Settings of [train] for "120s" or "2000prompts"; raises ConfigError for anything else."""
    found = re.fullmatch(r"(\d+)prompts|(\d+(?:\.\d+)?)s", text.strip(), re.ASCII)
    if found and float(found[1] or found[2]) > 0:
        return {"max_prompts": int(found[1] or 0), "max_seconds": float(found[2] or 0)}
    raise ConfigError(f"budget {text!r} is not understood; write 120s or 2000prompts")


def run_study(study: Study, note: Note, command: str) -> dict[str, Any]:
    """Train and evaluate every cell that is not done yet; write and return `comparison.json`."""
    study.check()
    with lock.hold(study.out):
        return _run(study, note, command)


def _run(study: Study, note: Note, command: str) -> dict[str, Any]:
    started = time.time()
    chosen, tried = choose_rates(study, note)
    cells = [
        Cell(
            method=method, traces=traces, seed=seed, learning_rate=chosen[method][0], sft_learning_rate=chosen[method][1], split=study.split
        )
        for method in study.methods
        for traces in traces_of(study, method)
        for seed in (study.seeds if method != "base" else study.seeds[:1])
    ]
    run_cells(study, cells, note)
    rows = [row(study, cell) for cell in cells]
    result = {
        "command": command,
        "hardware": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, {study.jobs} runs at a time",
        "versions": RunFolder.open(study.out / cells[-1].name).versions(),
        "seconds": round(time.time() - started, 1),
        "learning_rates": chosen,
        "validation": tried,
        "rows": rows,
        "summary": summarize(rows),
    }
    write_whole(study.out / "comparison.json", json.dumps(result, indent=1).encode())
    return result


def traces_of(study: Study, method: str) -> tuple[str, ...]:
    """Methods that never read a trace are run once, and reported as such."""
    name, settings = parse_method(method)
    reward = build(study.config.to_dict(), settings).reward
    compared = reward.thinking_against == "reference" and reward.thinking_weight != 0
    return study.traces if name not in ("base", "grpo") or (name == "grpo" and compared) else ("any",)


def choose_rates(study: Study, note: Note) -> tuple[dict[str, tuple[float, float | None]], dict[str, float]]:
    """(learning rate, SFT learning rate) per method, by validation accuracy at the first seed and the first trace quality.

    two_stage takes SFT's choice for its first stage and has its own grid for the second. Also returns the validation accuracy
    of every cell that was tried.
    """
    chosen: dict[str, tuple[float, float | None]] = {}
    tried: dict[str, float] = {}
    ordered = sorted(study.methods, key=lambda m: parse_method(m)[0] == "two_stage")
    for batch in ([m for m in ordered if not m.startswith("two_stage")], [m for m in ordered if m.startswith("two_stage")]):
        grid = {
            method: [
                Cell(method=method, traces=traces_of(study, method)[0], seed=study.seeds[0], learning_rate=rate, split="validation",
                     sft_learning_rate=_sft_rate(study, method, chosen.get("sft", (None, None))[0]))
                for rate in (study.rates if method != "base" else study.rates[:1])
            ]
            for method in batch
        }  # fmt: skip
        if len(study.rates) > 1:
            run_cells(study, [cell for cells in grid.values() for cell in cells if cell.method != "base"], note)
        for method, cells in grid.items():
            scores = {c: _accuracy(study, c) for c in cells} if len(cells) > 1 else {cells[0]: 0.0}
            best = max(scores, key=lambda c: scores[c])
            chosen[method] = (best.learning_rate, best.sft_learning_rate)
            tried |= {c.name: score for c, score in scores.items() if len(cells) > 1}
            note(f"{method}: learning rate {best.learning_rate:g}")
    return chosen, tried


def _sft_rate(study: Study, method: str, chosen: float | None) -> float | None:
    """Learning rate of stages that only imitate: the recipe's unless there is a grid; for two_stage else what SFT has chosen."""
    own = study.config.method.sft_learning_rate if len(study.rates) == 1 else None
    return {"sft": own, "two_stage": own or chosen}.get(parse_method(method)[0])


def _accuracy(study: Study, cell: Cell) -> float:
    found = evaluation(study, cell)
    return found["metrics"]["think_accuracy"]["value"] if found else -1.0


def evaluation(study: Study, cell: Cell) -> dict[str, Any] | None:
    """The cell's last evaluation on its split, if there is one."""
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
    if wanted.train.precision == "auto":  # a run records what it comes to
        wanted = replace(wanted, train=replace(wanted.train, precision=held.train.precision))
    if replace(held, run=wanted.run) != wanted or held.run.seed != wanted.run.seed:
        raise ConfigError(f"{folder} holds a run with other settings; choose another --out, or repeat the command that made it")


def _start(study: Study, cell: Cell) -> subprocess.Popen[bytes]:
    """A process that trains the cell (or goes on with it) and evaluates it on its split."""
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
        *(["--base"] if cell.method == "base" else []),
    ]
    with (study.out / f"{cell.name}.log").open("ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log, stdin=subprocess.PIPE, env=environment)


def end_with_parent() -> None:
    """End this process, saved, as SIGTERM does, when stdin ends: it is a pipe from a parent that may be killed at any time."""

    def watch() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def cell_config(study: Study, cell: Cell) -> Config:
    """The recipe of a cell: the study's, with what the cell varies."""
    name, settings = parse_method(cell.method)
    config = build(study.config.to_dict(), settings)
    traces = config.task.traces if cell.traces == "any" else cell.traces
    return replace(
        config,
        run=replace(config.run, output=str(study.out / cell.name), seed=cell.seed),
        task=replace(config.task, traces=traces),  # type: ignore[arg-type]
        method=replace(config.method, name="dyme" if name == "base" else name, sft_learning_rate=cell.sft_learning_rate),
        train=replace(config.train, learning_rate=cell.learning_rate),
    )


def read_cell(recipe: Path) -> Config:
    """The config that `_start` wrote."""
    return build(json.loads(recipe.read_text(encoding="utf-8")), where=str(recipe))


def row(study: Study, cell: Cell) -> dict[str, Any]:
    """A cell's figures and its curve of sampled accuracy over prompts."""
    run = RunFolder.open(study.out / cell.name)
    steps = run.steps()
    found = evaluation(study, cell) or {"metrics": {}}
    return {
        "method": cell.method, "traces": cell.traces, "seed": cell.seed, "learning_rate": cell.learning_rate,
        "sft_learning_rate": cell.sft_learning_rate,
        "prompts": steps[-1].prompts if steps else 0, "seconds": round(steps[-1].seconds, 1) if steps else 0.0,
        "metrics": found["metrics"], "by_kind": found.get("by_kind", {}),
        "curve": [[s.prompts, s.metrics["accuracy"]] for s in steps if "accuracy" in s.metrics],
        "run": cell.name,
    }  # fmt: skip


def summarize(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean over seeds, with a 95 % interval from both the seeds' spread and the items (added in quadrature).

    With one seed only the items' share is known; `seeds` says how many there are.
    """
    out = []
    for method, traces in dict.fromkeys((r["method"], r["traces"]) for r in rows):
        own = [r["metrics"] for r in rows if (r["method"], r["traces"]) == (method, traces)]
        metrics = {}
        for name in (n for n in own[0] if all(n in m for m in own)):
            figures = [m[name] for m in own]
            metrics[name] = pooled(figures)
        out.append({"method": method, "traces": traces, "metrics": metrics})
    return out


def pooled(figures: Sequence[dict[str, float]]) -> dict[str, float]:
    """One figure from those of several seeds on the same items."""
    values = [f["value"] for f in figures]
    n, centre = len(values), math.fsum(values) / len(values)
    items = math.fsum((f["high"] - f["low"]) / 2 for f in figures) / n
    spread = 0.0
    if n > 1:
        deviation = math.sqrt(math.fsum((v - centre) ** 2 for v in values) / (n - 1))
        spread = t95(n - 1) * deviation / math.sqrt(n)
    half = math.hypot(items, spread)
    return {"value": centre, "low": centre - half, "high": centre + half, "n": figures[0]["n"], "seeds": n}
