"""A process that compares expressions with math-verify, and is killed when one takes too long.

SymPy can compute without end, and a thread cannot be stopped; a process can. It is started once, in a fresh interpreter (about a
second), replies with one line to each line, and runs `algebra.py` alone, without importing this package. Each request has a number,
which its reply repeats. The reply of an interrupted exchange (Ctrl-C, an alarm) stays unread, so the process is replaced before the
next one: no verdict belongs to another question.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import logging
import os
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from typing import Any

from dyme.errors import ConfigError

WALL_SECONDS = 3.0
"""Longest time for one comparison, in seconds; a usual one takes 0.01 to 0.4 s."""
START_SECONDS = 120.0
"""Longest time for starting up, in seconds, on a busy machine."""
INSTALL = "comparing mathematical answers needs math-verify; pip install 'dyme[math]'"

_log = logging.getLogger(__name__)


def check_installed() -> None:
    """Raise ConfigError, which says what to install, if math-verify is missing; nothing is imported."""
    if importlib.util.find_spec("math_verify") is None:
        raise ConfigError(INSTALL)


class Worker:
    """One process, started at the first comparison, again after an overrun or an interrupt, and again in a fork.

    Safe to call from several threads.
    """

    def __init__(self, seconds: float = WALL_SECONDS) -> None:
        self.seconds = seconds
        self.overruns = 0
        """Number of comparisons that were stopped at the wall limit."""
        self.starts = 0
        self._process: subprocess.Popen[str] | None = None
        self._asked = 0
        self._answered = 0
        """Numbers of the last request and the last reply; they differ while one is under way, and after one that was interrupted."""
        self._owner = 0
        self._lock = threading.RLock()

    def same(self, target: str, prediction: str) -> bool | None:
        """Return whether two expressions in plain LaTeX are equal; None if it takes longer than `seconds`. Raises ConfigError as above."""
        with self._lock:
            if self._asked != self._answered:
                self.stop()
            if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
                self._start()
            reply = self._ask({"target": target, "prediction": prediction}, self.seconds)
            if reply is None:
                self.overruns += 1
                message = "comparing %r with %r took over %g s and counts as wrong (%d so far)"
                _log.warning(message, prediction, target, self.seconds, self.overruns)
                return None
            return bool(reply["same"])

    def stop(self) -> None:
        """End the process, if this process started one."""
        if self._process is not None and self._owner == os.getpid():
            self._process.kill()
            self._process.wait()
        self._process = None

    def _start(self) -> None:
        check_installed()
        self._answered = self._asked
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).with_name("algebra.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            env=environment,
        )
        self._owner = os.getpid()
        self.starts += 1
        if (reply := self._ask({"target": "1", "prediction": "1"}, START_SECONDS)) is None or not reply["same"]:
            self.stop()
            raise ConfigError(f"math-verify cannot be run; {INSTALL} --force-reinstall")

    def _ask(self, request: dict[str, str], seconds: float) -> dict[str, Any] | None:
        """Return the reply, or None if there is none in time or the process has ended; then the process is stopped."""
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        self._asked += 1
        timer = threading.Timer(seconds, process.kill)
        timer.daemon = True
        timer.start()
        number, reply = self._asked, dict[str, Any]()
        try:
            process.stdin.write(json.dumps(request | {"number": number}) + "\n")
            process.stdin.flush()
            while reply.get("number") != number and (line := process.stdout.readline()).endswith("\n"):
                reply = _reply(line)
        except OSError:
            pass
        finally:
            timer.cancel()
        if reply.get("number") != number:
            process.kill()
            process.wait()
            return None
        self._answered = number
        return reply


def _reply(line: str) -> dict[str, Any]:
    """Return the reply in a line of the process; empty for a line that is not a reply."""
    try:
        read = json.loads(line)
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}


@cache
def shared() -> Worker:
    """Return the worker of this process; it ends when this process ends."""
    one = Worker()
    atexit.register(one.stop)
    return one
