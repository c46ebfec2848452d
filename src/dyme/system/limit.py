"""A time limit on a call in the main thread that may never return, such as a request without a timeout."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNAL = getattr(signal, "SIGVTALRM", None)
"""Hardly any library uses it; SIGALRM is what math-verify limits itself by."""


class Overdue(BaseException):
    """Raised in a call that took too long. No subclass of Exception, so that `except Exception` within the call does not catch it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise Overdue inside, after that many seconds. No limit outside the main thread, and on Windows, which has no such signals."""
    main = threading.main_thread()
    if threading.current_thread() is not main or _SIGNAL is None or not hasattr(signal, "pthread_kill"):
        yield
        return
    running = True

    def ring(number: int, frame: FrameType | None) -> None:
        if running:
            raise Overdue

    before = signal.signal(_SIGNAL, ring)
    timer = threading.Timer(seconds, lambda: signal.pthread_kill(main.ident or 0, _SIGNAL))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        running = False
        timer.cancel()
        timer.join()  # after this no signal can come
        signal.signal(_SIGNAL, before)
