"""Trackers, which get what a run records, besides its folder and the display: TensorBoard, W&B, trackio, or your own class.

Each tracker runs on its own thread, so that a slow one does not delay training. One that raises, hangs or falls behind is left out from
then on: an event and a line report it once, the metric `trackers_failed` counts it, and the run and the other trackers continue.
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
"""Trackers with a table of samples; each name is also that of the package that the tracker needs."""
OTHERS = ("aim", "clearml", "comet_ml", "dvclive", "mlflow", "swanlab")
"""Further trackers that accelerate knows: they get metrics, evaluations and the settings."""
START_SECONDS, FINISH_SECONDS = 120.0, 120.0
"""Time limits, in seconds: for trackers to start, and to finish their remaining calls when the run ends."""
MOST_WAITING = 1000
"""Maximum number of calls that may wait for a tracker."""
SAMPLES = 4
"""Number of groups of a step that trackers get as samples."""


class Tracker:
    """Base class of trackers. Derive from it and write the methods that you need; the others do nothing.

    The main process alone calls the methods, in the order of the steps, on the tracker's own thread.
    """

    def start(self, config: Config, run: RunFolder) -> None:
        """Start tracking a run; if the run is resumed, `run.steps()` holds its earlier steps, and later steps are logged again."""

    def log_step(self, record: StepRecord) -> None:
        """Log the figures of an optimizer step."""

    def log_evaluation(self, step: int, name: str, result: Mapping[str, Any]) -> None:
        """Log an evaluation of the model after `step`: `result["metrics"]` holds, by name, a value, its interval (low, high) and n."""

    def log_samples(self, step: int, groups: Sequence[Group], routes: Sequence[Route]) -> None:
        """Log some of a step's groups (sample with pictures, completions, verdicts) and the method's route for each."""

    def finish(self) -> None:
        """Finish tracking, after everything was logged."""


METHODS = tuple(name for name in vars(Tracker) if not name.startswith("_"))
"""Names of the methods that a tracker must have."""


class Reports:
    """The trackers of a run: passes each record on to every tracker that has not failed."""

    def __init__(self, make: Callable[[], Mapping[str, Tracker | type[Tracker]]] = dict) -> None:
        """`make` returns the trackers by name; it is called when the run starts."""
        self.failed = 0
        """Number of trackers that failed and were left out."""
        self._make = make
        self._workers: list[_Worker] = []
        self._every = 0
        self._tell: Callable[[str, str, str], None] = lambda name, call, error: None

    def __enter__(self) -> Reports:
        """Return the reports; `start` starts the trackers, and the end of the block finishes them."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Finish the trackers; after an error their time limit is shorter."""
        self._pass_on("finish")
        self._wait(FINISH_SECONDS if kind is None else FINISH_SECONDS / 10)
        self._workers = []

    def start(self, config: Config, run: RunFolder, note: Callable[[str], None]) -> None:
        """Start all trackers; `note` gets a line about each tracker that fails, now or later."""

        def tell(name: str, call: str, error: str) -> None:
            run.log_event("tracker_failed", tracker=name, call=call, error=error)
            note(f"tracker {name} failed ({call}: {error}); the run continues without it")

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
        """Return what trackers add to a step's metrics: the number of failed trackers, if any failed."""
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
        """Report each tracker that has failed, once, and leave it out."""
        for worker in [worker for worker in self._workers if worker.error]:
            self._workers.remove(worker)
            worker.put("finish")  # which ends its thread
            self.failed += 1
            self._tell(worker.name, *worker.error)


class _Worker:
    """A tracker on its own thread; the process does not wait for the thread when it ends."""

    def __init__(self, name: str, tracker: Tracker | type[Tracker]) -> None:
        """Start the thread; if `tracker` is a class, the thread creates the tracker."""
        self.name = name
        self.error: tuple[str, str] | tuple[()] = ()
        """The call that failed, and why."""
        self._tracker, self._current = tracker, ""
        self._waiting: queue.Queue[tuple[str, tuple[Any, ...]]] = queue.Queue(MOST_WAITING)
        threading.Thread(target=self._run, name=f"tracker {name}", daemon=True).start()

    def put(self, call: str, values: tuple[Any, ...] = ()) -> None:
        """Queue a call of the tracker's method `call`."""
        try:
            self._waiting.put_nowait((call, values))
        except queue.Full:
            self.error = self.error or (call, f"it is {MOST_WAITING:,} calls behind")

    def wait(self, seconds: float) -> None:
        """Wait until all calls are done, at most `seconds`; after that the tracker counts as failed."""
        with self._waiting.all_tasks_done:
            if not self._waiting.all_tasks_done.wait_for(lambda: not self._waiting.unfinished_tasks, seconds):
                self.error = self.error or (self._current, f"it takes longer than {seconds:.0f} seconds")

    def _run(self) -> None:
        """Make the queued calls in order, up to `finish`; after an error, none."""
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
    """Raise ConfigError for a given tracker (without any, one that `run.report_to` names) that is unknown or not installed."""
    for tracker in given:
        _check_methods(tracker, f"trackers: {type(tracker).__name__}")
    for name in () if given else named(config):
        if name not in SERVICES + OTHERS:
            own(name)
        elif (spec := find_spec(name)) is None or spec.origin is None:  # without an origin it is a folder, such as W&B makes
            raise ConfigError(f"run.report_to: {name} is not installed; pip install {name.replace('_', '-')}")


def named(config: Config) -> list[str]:
    """Return the names in `run.report_to`, each once, without TRL's "none"."""
    return [name for name in dict.fromkeys(config.run.report_to) if name != "none"]


def own(name: str) -> Tracker | type[Tracker]:
    """Return the tracker, or its class, for a name in `run.report_to` that is none of SERVICES or OTHERS.

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
