"""What a user sees while a run goes on: a live panel on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from dyme.config import Config
from dyme.types import StepRecord

_WINDOW = 10
"""Steps that shown figures are averaged over."""


class Display:
    """Progress, time left, mode shares, accuracy, reward and tokens per second of a training run."""

    def __init__(self, console: Console | None = None, *, every: int = 10) -> None:
        self.console = console or Console()
        self.every = every
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._recent: deque[StepRecord] = deque(maxlen=_WINDOW)
        self._config, self._total = Config(), 0

    @classmethod
    def quiet(cls) -> Display:
        """A display that shows nothing."""
        return cls(Console(quiet=True))

    def note(self, message: str) -> None:
        """One line for the user."""
        self.console.print(message, highlight=False, markup=False, soft_wrap=True)

    @contextmanager
    def training(self, config: Config, total: int) -> Iterator[None]:
        """Show progress towards `total` prompts (or max_seconds) while open."""
        self._config, self._total = config, total
        self._recent.clear()
        if not self.console.is_terminal:
            yield
            return
        columns = (
            TextColumn("[bold]{task.description}"), BarColumn(bar_width=18), TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[figures]}"),
        )  # fmt: skip
        with Progress(*columns, console=self.console) as self._progress:
            self._task = self._progress.add_task(config.method.name, total=1.0, figures="")
            yield
        self._progress = None

    def step(self, record: StepRecord, stage: str) -> None:
        """Show one finished step."""
        self._recent.append(record)
        share = record.prompts / self._total if self._total else 0.0
        if limit := self._config.train.max_seconds:
            share = max(share, record.seconds / limit)
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=min(1.0, share), description=stage, figures=self._figures())
        elif record.step % self.every == 0 or share >= 1:
            left = record.seconds * (1 / share - 1) if share else 0.0
            self.note(f"step {record.step} {stage} {share:.0%} {record.seconds:.0f}s, {left:.0f}s left, {self._figures()}")

    def _figures(self) -> str:
        def mean(name: str) -> float:
            values = [r.metrics[name] for r in self._recent if name in r.metrics]
            return sum(values) / len(values) if values else 0.0

        shares = " ".join(f"{mode} {mean('share_' + mode):.0%}" for mode in ("memorize", "explore", "mixed", "skip") if mean("share_" + mode))
        seconds = mean("seconds_rollout") + mean("seconds_update")
        rate = (mean("rollout_tokens") + mean("trained_tokens")) / seconds if seconds else 0.0
        if not mean("rollout_tokens"):
            return f"{shares} | loss {mean('loss'):.3f} | {rate:,.0f} tok/s"
        return f"{shares} | correct {mean('accuracy'):.1%} format {mean('format_rate'):.0%} reward {mean('reward'):.2f} | {rate:,.0f} tok/s"
