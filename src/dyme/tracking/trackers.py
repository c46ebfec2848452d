"""Trackers: who else gets what a run records, besides its folder and the display: TensorBoard, W&B, trackio, or a class of your own.

Each tracker runs on a thread of its own, so that a slow one does not hold up training. One that raises, hangs or falls behind is left out
from then on: an event and a line say so once, the metric `trackers_failed` counts it, and the run and the other trackers go on.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from types import TracebackType
from typing import Any

from dyme import plugins
from dyme.config import Config
from dyme.errors import ConfigError
from dyme.settings import nearest
from dyme.tracking.run_folder import RunFolder
from dyme.types import Group, Route, StepRecord

SERVICES = ("tensorboard", "wandb", "trackio")
"""Trackers with a table of samples; each is the name of the package that it needs too."""
OTHERS = ("aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab")
"""Trackers that accelerate knows besides: they get metrics, evaluations and the settings."""
START_SECONDS, FINISH_SECONDS = 120.0, 120.0
"""Longest time that trackers may take to start, and to take in what is left when the run ends."""
MOST_WAITING = 1000
"""Calls that a tracker may be behind."""
SAMPLES = 4
"""Groups of a step that trackers get as samples."""


class Tracker:
    """What a tracker does. Derive from it and write the methods that you need; the others do nothing.

    The main process alone calls it, in the order of the steps, on a thread of the tracker's own.
    """

    def start(self, config: Config, run: RunFolder) -> None:
        """Begin; of a run that is resumed, `run.steps()` holds the steps before, and those after them come anew."""

    def log_step(self, record: StepRecord) -> None:
        """Take the figures of an optimizer step."""

    def log_evaluation(self, step: int, name: str, result: Mapping[str, Any]) -> None:
        """Take an evaluation of the model after `step`: `result["metrics"]` holds, by name, a value, its interval (low, high) and n."""

    def log_samples(self, step: int, groups: Sequence[Group], routes: Sequence[Route]) -> None:
        """Take some of a step's groups: sample (with its pictures), completions and verdicts, and what the method did with each."""

    def finish(self) -> None:
        """End, once everything was logged."""


METHODS = tuple(name for name in vars(Tracker) if not name.startswith("_"))
"""What a tracker must have."""


class Reports:
    """The trackers of a run: passes on what is recorded until one after the other has finished or failed."""

    def __init__(self, make: Callable[[], Mapping[str, Tracker | type[Tracker]]] = dict) -> None:
        """`make` gives the trackers by name, once the run starts."""
        self.failed = 0
        """Trackers that were left out."""
        self._make = make
        self._workers: list[_Worker] = []
        self._every = 0
        self._tell: Callable[[str, str, str], None] = lambda name, call, error: None

    def __enter__(self) -> Reports:
        """The trackers are started by `start`, and finished at the end of the block."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Finish them; after an error there is less time for it."""
        self._pass_on("finish")
        self._wait(FINISH_SECONDS if kind is None else FINISH_SECONDS / 10)
        self._workers = []

    def start(self, config: Config, run: RunFolder, note: Callable[[str], None]) -> None:
        """Start all trackers; `note` gets a line about each that fails, now or later."""

        def tell(name: str, call: str, error: str) -> None:
            run.log_event("tracker_failed", tracker=name, call=call, error=error)
            note(f"tracker {name} failed ({call}: {error}); it gets no more of this run, which goes on")

        self._tell, self._every = tell, config.run.report_samples_every
        self._workers = [_Worker(name, tracker) for name, tracker in self._make().items()]
        self._pass_on("start", config, run)
        self._wait(START_SECONDS)

    def log_step(self, record: StepRecord, groups: Sequence[Group], routes: Sequence[Route]) -> None:
        """Pass on a step, and, every `run.report_samples_every` steps, its first groups."""
        self._pass_on("log_step", record)
        if self._every and (record.step - 1) % self._every == 0:
            self._pass_on("log_samples", record.step, groups[:SAMPLES], routes[:SAMPLES])

    def log_evaluation(self, step: int, name: str, result: Mapping[str, Any]) -> None:
        """Pass on an evaluation of the model after `step`."""
        self._pass_on("log_evaluation", step, name, result)

    def figures(self) -> dict[str, float]:
        """What trackers add to a step's metrics: how many failed, if any did."""
        return {"trackers_failed": float(self.failed)} if self.failed else {}

    def _pass_on(self, call: str, *values: Any) -> None:
        for worker in self._workers:
            worker.put(call, values)
        self._leave_out()

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        for worker in self._workers:
            worker.wait(until - time.monotonic())
        self._leave_out()

    def _leave_out(self) -> None:
        """Tell of trackers that have failed, once."""
        for worker in [worker for worker in self._workers if worker.error]:
            self._workers.remove(worker)
            worker.put("finish")  # which ends its thread
            self.failed += 1
            self._tell(worker.name, *worker.error)


class _Worker:
    """A tracker on its thread; the process does not wait for it when it ends."""

    def __init__(self, name: str, tracker: Tracker | type[Tracker]) -> None:
        """Of a class, the tracker is made on the thread."""
        self.name = name
        self.error: tuple[str, str] | tuple[()] = ()
        """The call that failed, and why."""
        self._tracker, self._current = tracker, ""
        self._waiting: queue.Queue[tuple[str, tuple[Any, ...]]] = queue.Queue(MOST_WAITING)
        threading.Thread(target=self._run, name=f"tracker {name}", daemon=True).start()

    def put(self, call: str, values: tuple[Any, ...] = ()) -> None:
        """Have a method of the tracker called, after those that wait."""
        try:
            self._waiting.put_nowait((call, values))
        except queue.Full:
            self.error = self.error or (call, f"it is {MOST_WAITING:,} calls behind")

    def wait(self, seconds: float) -> None:
        """Wait until all calls are done; a tracker whose calls are not by then has failed."""
        with self._waiting.all_tasks_done:
            if not self._waiting.all_tasks_done.wait_for(lambda: not self._waiting.unfinished_tasks, seconds):
                self.error = self.error or (self._current, f"it takes longer than {seconds:.0f} seconds")

    def _run(self) -> None:
        """Do the calls in order, up to `finish`; after an error, none."""
        while self._current != "finish":
            self._current, values = self._waiting.get()
            if not self.error:
                try:
                    self._tracker = self._tracker() if isinstance(self._tracker, type) else self._tracker
                    getattr(self._tracker, self._current)(*values)
                except (Exception, SystemExit) as error:
                    self.error = (self._current, f"{type(error).__name__}: {error}".strip().splitlines()[0])
            self._waiting.task_done()


def check(config: Config, given: Sequence[Tracker] = ()) -> None:
    """Raise ConfigError for a tracker that is given or, without any, that `run.report_to` names, and that cannot be had."""
    for tracker in given:
        _check_methods(tracker, f"trackers: {type(tracker).__name__}")
    for name in () if given else named(config):
        if name not in SERVICES + OTHERS:
            own(name)
        elif (spec := find_spec(name)) is None or spec.origin is None:  # without an origin it is a folder, such as W&B makes
            raise ConfigError(f"run.report_to: {name} is not installed; pip install {name.replace('_', '-')}")


def named(config: Config) -> list[str]:
    """The names in `run.report_to`, each once; "none", as TRL has it, is no tracker."""
    return [name for name in dict.fromkeys(config.run.report_to) if name != "none"]


def own(name: str) -> Tracker | type[Tracker]:
    """The tracker, or the class of one, that a name in `run.report_to` stands for if it is none of SERVICES or OTHERS.

    Raises ConfigError if it cannot be found or lacks a method.
    """
    if not plugins.is_place(name) and name not in (known := plugins.names("trackers")):
        raise ConfigError(f"run.report_to: {name!r} is not known; {nearest(name, (*SERVICES, *OTHERS, *known))}, or FILE.py:NAME")
    found: Tracker | type[Tracker] = plugins.find(name, "trackers", "run.report_to")
    _check_methods(found, f"run.report_to: {name}")
    return found


def _check_methods(found: object, what: str) -> None:
    if lacking := [method for method in METHODS if not callable(getattr(found, method, None))]:
        raise ConfigError(f"{what} has no {lacking[0]}(); derive it from dyme.Tracker")
