"""Waiting for a helper that does not answer (`supervision.on_failure = "wait"`).

Only for failures that may pass: a server that is down or busy, not a refused key, a spent budget or an answer that would not change.
A wait is reported when it begins and when it ends, and ends when the user stops the run.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from dyme.errors import SupervisionError

Answer = TypeVar("Answer")
LONGEST_WAIT = 60.0
"""Longest time between two attempts, in seconds."""
_GLANCE = 0.1
"""Seconds between two checks whether the run is to stop."""


class Patience:
    """Asks again until there is an answer; shared by the threads that wait."""

    def __init__(self, note: Callable[[str], None], interrupted: Callable[[], bool]) -> None:
        """`note` gets lines for the user; `interrupted` says whether the run is to stop."""
        self.closed = threading.Event()
        """Event to set when the run is over."""
        self._note, self._interrupted = note, interrupted
        self._lock = threading.Lock()
        self._waiting, self._since = 0, 0.0

    def answer(self, ask: Callable[[], Answer]) -> Answer:
        """Call `ask` until it answers and return the answer. Raises its SupervisionError if waiting cannot help, or the run is to stop."""
        try:
            return ask()
        except SupervisionError as error:
            if not error.passing or self._over():
                raise
            trouble = error
        with self._told(trouble):
            for attempt in itertools.count():
                if self._pause(min(LONGEST_WAIT, 2.0**attempt)):
                    break
                try:
                    return ask()
                except SupervisionError as error:
                    if not error.passing:
                        raise
                    trouble = error
        raise trouble

    @contextmanager
    def _told(self, trouble: SupervisionError) -> Iterator[None]:
        """Report the beginning of the first of several simultaneous waits, and the end of the last."""
        with self._lock:
            self._waiting += 1
            if self._waiting == 1:
                self._since = time.monotonic()
                self._note(f"waiting until the helper answers; Ctrl-C saves and stops ({trouble})")
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1
                if not self._waiting:
                    self._note(f"waited {time.monotonic() - self._since:.0f} s for the helper")

    def _pause(self, seconds: float) -> bool:
        """Wait for `seconds`; return True as soon as the run is to stop."""
        end = time.monotonic() + seconds
        while not self._over():
            left = end - time.monotonic()
            if left <= 0:
                return False
            self.closed.wait(min(left, _GLANCE))
        return True

    def _over(self) -> bool:
        return self.closed.is_set() or self._interrupted()
