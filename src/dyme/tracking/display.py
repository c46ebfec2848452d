"""Output for the user: a live panel during a run (in a notebook one output that changes, elsewhere plain lines), and tables of results.

On a terminal and in a notebook tables fit the width. Elsewhere, as in a log, they are Markdown at full width, with nothing cut off.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dyme import plugins
from dyme.config import Config
from dyme.system.launch import is_main
from dyme.system.terminal import PlainConsole, plain
from dyme.types import StepRecord

_WINDOW = 10
"""Steps that shown figures are averaged over."""
_PIPED_WIDTH = 400
_LABELS = {
    "think_accuracy": "accuracy, thinking",
    "direct_accuracy": "accuracy, direct",
    "think_score": "score, thinking",
    "direct_score": "score, direct",
    "format_rate": "format rate",
    "truncated": "cut off",
    "unparsed": "finished, no format",
    "direct_truncated": "cut off, direct",
    "true_statements": "true statements",
    "mean_length": "length, tokens",
}
_SCORES = {"open": "recall", "vqa": "VQA accuracy"}
"""What the metric of an answer kind is called."""
_LINE_EVERY = 60.0
"""Seconds between lines about progress where there is no terminal."""
_HELPED = {"checked_groups": "checked", "refined_targets": "refined", "self_accepted": "by the policy", "helper_failures": "failed"}
"""Figures of helpers, as they are named live."""


class Display:
    """Progress, time left, mode shares, accuracy, reward and tokens per second of a training run."""

    def __init__(self, console: Console | None = None, *, every: int = 10) -> None:
        self.console = console or open_console()
        self.every = every
        self._progress: Progress | None = None
        self._cell: Cell | None = None
        self._task: TaskID | None = None
        self._recent: deque[StepRecord] = deque(maxlen=_WINDOW)

    @classmethod
    def quiet(cls) -> Display:
        """Return a display that shows nothing."""
        return cls(Console(quiet=True))

    def note(self, message: str) -> None:
        """Show one line to the user."""
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def training(self, config: Config) -> Iterator[None]:
        """Show the progress of a run while open."""
        self._recent.clear()
        self._cell = Cell() if self.console.is_jupyter and not self.console.quiet else None
        if not self.console.is_terminal:
            yield
            return
        columns = (
            TextColumn("[bold]{task.description}"), BarColumn(bar_width=24), TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        progress = self._progress = Progress(*columns, console=self.console)
        self._task = progress.add_task(plugins.label(config.method.name), total=1.0)
        try:
            with Live(get_renderable=lambda: self._panel(progress), console=self.console, refresh_per_second=4):
                yield
        finally:
            self._progress = None

    def step(self, record: StepRecord, stage: str) -> None:
        """Show one finished step."""
        self._recent.append(record)
        share = record.metrics["progress"]
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=share, description=stage)
        elif self._cell is not None or record.step % self.every == 0 or share >= 1:
            left = record.seconds * (1 / share - 1) if share else 0.0
            line = f"step {record.step} {stage} {share:.0%} {record.seconds:.0f}s, {left:.0f}s left, {self._figures()}"
            if self._cell is None:
                self.note(line)
            else:
                self._cell.show(line.replace("left, ", "left\n").replace(" | ", "\n", 1), last=share >= 1)

    def evaluation(self, step: int, result: Mapping[str, Any], metric: str, *, best: bool) -> None:
        """Show an evaluation while training: the metric that decides which model is best, and the accuracies."""
        found = result["metrics"]
        shown = [f"{_LABELS[name]} {_cell(name, found[name])}" for name in dict.fromkeys((metric, *_LABELS)) if name in found][:3]
        n = next(iter(found.values()))["n"]
        self.note(f"step {step} evaluation of {n} samples: {', '.join(shown)}{' (best so far)' if best else ''}")

    def _panel(self, progress: Progress) -> Group:
        """Return three lines: the bar, the modes, the other figures."""
        return Group(progress, Text(self._figures().replace(" | ", "\n", 1) if self._recent else "first step ..."))

    def _figures(self) -> str:
        names = dict.fromkeys(name for record in self._recent for name in record.metrics)
        mean = {name: _mean([r.metrics[name] for r in self._recent if name in r.metrics]) for name in names}
        shares = {mode: mean.get(f"share_{mode}", 0.0) for mode in ("memorize", "explore", "mixed", "skip")}
        modes = " ".join(f"{mode} {share:.0%}" for mode, share in shares.items() if share or mode != "mixed")
        seconds = mean.get("seconds_rollout", 0.0) + mean.get("seconds_update", 0.0)
        tokens = mean.get("sampled_tokens", 0.0) + mean.get("trained_tokens", 0.0)
        skipped = sum(record.metrics.get("steps_skipped_nonfinite", 0.0) for record in self._recent)
        rate = f"{tokens / seconds if seconds else 0.0:,.0f} tok/s" + (f" | {skipped:.0f} steps skipped, not finite" if skipped else "")
        if not mean.get("sampled_tokens"):
            return f"{modes} | loss {mean.get('loss', 0.0):.3f} | {rate}"
        again = f" | drawn again {mean['redrawn_groups']:.1f}" if mean.get("redrawn_groups") else ""
        right = f"correct {mean['accuracy']:.1%} format {mean['format_rate']:.0%} reward {mean['reward']:.2f}"
        return f"{modes} | {right}{again}{_helper(mean)} | {rate}"


class Cell:
    """One output of a notebook's cell, replaced each time it is shown, without a widget."""

    EVERY = 0.25
    """Shortest time between two changes, in seconds."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = 0.0

    def show(self, text: str, *, last: bool = False) -> None:
        """Replace the output by `text`, unless it has just changed and this is not the last time."""
        from IPython.display import display

        if not last and time.monotonic() - self._shown < self.EVERY:
            return
        self._shown = time.monotonic()
        bundle = {"text/plain": plain(text)}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True)


class Pace:
    """Rate and time left of a count, measured from its first report on."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start now; `clock` returns seconds."""
        self._clock = clock
        self._began: tuple[float, int] | None = None
        self._shown = clock()

    def report(self, done: int, total: int) -> str:
        """Return "12.3 a second, 1:05:00 left", or "" until something was done; without the time left if `total` is 0, for unknown."""
        now = self._clock()
        began, before = self._began = self._began or (now, done)
        if done <= before or now <= began:
            return ""
        rate = (done - before) / (now - began)
        left = f", {timedelta(seconds=round((total - done) / rate))} left" if total else ""
        return f"{rate:.3g} a second{left}"

    def due(self) -> bool:
        """Return whether another line is due; if it is, the wait starts anew."""
        now = self._clock()
        if now - self._shown < _LINE_EVERY:
            return False
        self._shown = now
        return True


@contextmanager
def progress_bars(display: Display) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar with rate and time left for each thing that is counted; without a terminal, a line from time to time."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[pace]}"))
    with Progress(*columns, console=display.console, transient=True, disable=not display.console.is_terminal) as bar:
        bars: dict[str, Any] = {}
        cell = Cell() if display.console.is_jupyter and not display.console.quiet else None
        paces: dict[str, Pace] = {}

        def progress(what: str, done: int, total: int) -> None:
            pace = paces.setdefault(what, Pace())
            words = pace.report(done, total)
            if what not in bars:
                bars[what] = bar.add_task(what, total=total or None, pace=words)
            bar.update(bars[what], completed=done, pace=words)
            line = f"{what}: {done}{f' of {total}' if total else ''}, {words}".removesuffix(", ")
            if cell is not None:
                cell.show(line, last=done == total)
            elif not display.console.is_terminal and pace.due():
                display.note(line)

        yield progress


def _helper(mean: Mapping[str, float]) -> str:
    """Return the counts of the helpers' work per step, "" without helpers."""
    counts = [f"{mean[name]:.1f} {word}" for name, word in _HELPED.items() if mean.get(name)]
    return f" | helper: {', '.join(counts)}" if counts else ""


def open_console(*, quiet: bool = False) -> Console:
    """Return a console for stdout: as wide as the terminal, or, without one, wide enough for any table."""
    console = PlainConsole(quiet=quiet, highlight=False)
    return console if console.is_terminal or console.is_jupyter else PlainConsole(quiet=quiet, highlight=False, width=_PIPED_WIDTH)


def new_display() -> Display:
    """Return a display on the terminal; only the main process's shows anything."""
    return Display(open_console(quiet=not is_main()))


def show_listing(console: Console, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Show a plain table of texts."""
    table = Table(*heads, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def show_results(console: Console, results: Mapping[str, Mapping[str, Any]], *, every: bool = False) -> None:
    """Show evaluations side by side, a line per figure with its interval and count; `every` shows the rarer figures too.

    If the terminal is too narrow for all evaluations, several tables are shown.
    """
    present = list(dict.fromkeys(name for result in results.values() for name in result["metrics"]))
    sampled = [name for name in present if name.startswith("pass_at_")]
    rest = [name for name in present if name not in _LABELS and name not in sampled] if every else []
    accuracy, other = list(_LABELS)[:4], list(_LABELS)[4:]
    names = [name for name in (*accuracy, *sampled, *other, *rest) if name in present]
    lines = {name: _LABELS.get(name, name.replace("pass_at_", "pass@").replace("_", " ")) for name in names}
    heads = list(results)
    fit = max(1, (console.width - 36) // 22)
    for start in range(0, len(heads), fit):
        chosen = heads[start : start + fit]
        table = _boxed(console, "", "n", *chosen)
        for name, label in lines.items():
            figures = [results[head]["metrics"].get(name) for head in chosen]
            table.add_row(label, _counts(figures), *(_cell(name, figure) for figure in figures))
        console.print(table)
    seeds = max((f.get("seeds", 1) for r in results.values() for f in r["metrics"].values()), default=1)
    console.print("95 % intervals in brackets" + (f"; means of {seeds} seeds" if seeds > 1 else ""))


def show_kinds(console: Console, by_kind: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Show accuracy by question type."""
    columns = [name for name in ("think_accuracy", "direct_accuracy") if any(name in figures for figures in by_kind.values())]
    table = _boxed(console, "question type", "n", *(_LABELS[name] for name in columns))
    for kind, figures in by_kind.items():
        table.add_row(Text(kind), str(figures[columns[0]]["n"]), *(f"{figures[name]['value']:.1%}" for name in columns))
    console.print(table)


def show_answer_kinds(console: Console, by_answer_kind: Mapping[str, Mapping[str, Mapping[str, float]]]) -> None:
    """Show accuracy, and the score of soft metrics, by answer kind."""
    styles = {style: label for style, label in (("think", "thinking"), ("direct", "direct"))
              if any(f"{style}_accuracy" in figures for figures in by_answer_kind.values())}  # fmt: skip
    table = _boxed(console, "answer kind", "n", *styles.values())
    for kind, figures in by_answer_kind.items():
        for metric, label in (("accuracy", "accuracy"), ("score", _SCORES.get(kind, "score"))):
            found = [figures[f"{style}_{metric}"] for style in styles if f"{style}_{metric}" in figures]
            if found:
                table.add_row(Text(f"{kind}, {label}"), _counts(found), *(_cell(metric, figure) for figure in found))
    console.print(table)


def show_evaluation(display: Display, model: str, result: Mapping[str, Any], *, every: bool = False) -> None:
    """Show the tables of an evaluation."""
    show_results(display.console, {model: result}, every=every)
    if result["by_answer_kind"]:
        show_answer_kinds(display.console, result["by_answer_kind"])
    if result["by_kind"] and not every:
        show_kinds(display.console, result["by_kind"])


def _boxed(console: Console, *heads: str) -> Table:
    table = Table(box=box.HEAVY_HEAD if console.is_terminal or console.is_jupyter else box.MARKDOWN)
    for head in heads:
        table.add_column(Text(head))
    return table


def _counts(figures: Sequence[Mapping[str, Any] | None]) -> str:
    counts = sorted({figure["n"] for figure in figures if figure})
    return "-".join(map(str, counts[:: max(1, len(counts) - 1)]))


def _cell(name: str, figure: Mapping[str, Any] | None) -> str:
    if figure is None:
        return ""
    if not figure["n"]:
        return "-"
    value, low, high = figure["value"], figure["low"], figure["high"]
    if name == "mean_length":
        return f"{value:.1f} [{low:.1f}, {high:.1f}]"
    return f"{value:.1%} [{low * 100:.1f}, {high * 100:.1f}]"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
