"""Signals that ask a process to end: Ctrl-C, SIGTERM, and SIGHUP, which a terminal sends when it is closed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

_ASKING = [number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
Handler = Callable[[int, FrameType | None], None]


class Interrupt:
    """While open, those signals set `requested` instead of ending the process; a second signal ends the process at once.

    Signals less than GRACE seconds after the first count as one: launchers pass on signals that the terminal has sent to all processes.
    """

    GRACE = 2.0

    def __init__(self) -> None:
        self.requested = False
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        """Handle the signals (main thread only; in other threads nothing changes)."""
        self._before = _take_over(self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Restore the earlier handlers."""
        _give_back(self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._since = True, time.monotonic()
        elif time.monotonic() - self._since > self.GRACE:
            raise KeyboardInterrupt("stopped at once; the last checkpoint is intact")


@contextmanager
def stopping() -> Iterator[None]:
    """Inside, all those signals raise KeyboardInterrupt as Ctrl-C does, so that clean-up code runs."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = _take_over(stop)
    try:
        yield
    finally:
        _give_back(before)


def _take_over(handler: Handler) -> dict[int, Any]:
    """Set `handler` for the signals and return the handlers before it. A signal that is ignored, as under nohup, stays ignored."""
    try:
        return {number: signal.signal(number, handler) for number in _ASKING if signal.getsignal(number) not in (signal.SIG_IGN, None)}
    except ValueError:  # not the main thread
        return {}


def _give_back(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
