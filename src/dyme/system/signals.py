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
    """While open, those signals set `requested` instead of ending the process; another one, later, ends it at once.

    Signals less than GRACE seconds after the first count as one: launchers send on what the terminal has sent to all.
    """

    GRACE = 2.0

    def __init__(self) -> None:
        self.requested = False
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        """Take over the signals (main thread only; elsewhere they stay as they are)."""
        self._before = _take_over(self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give the signals back."""
        _give_back(self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.requested:
            self.requested, self._since = True, time.monotonic()
        elif time.monotonic() - self._since > self.GRACE:
            raise KeyboardInterrupt("stopped at once; the last checkpoint is intact")


@contextmanager
def stopping() -> Iterator[None]:
    """Within it, all those signals end the work as Ctrl-C does, so that what is to be cleaned up is."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = _take_over(stop)
    try:
        yield
    finally:
        _give_back(before)


def _take_over(handler: Handler) -> dict[int, Any]:
    """Have `handler` called for the signals; those before it. One that is ignored, as under nohup, stays so."""
    try:
        return {number: signal.signal(number, handler) for number in _ASKING if signal.getsignal(number) not in (signal.SIG_IGN, None)}
    except ValueError:  # not the main thread
        return {}


def _give_back(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)
