"""Processes like subprocess.Popen's that need not import torch first: forked from a server, one a session, that did so once.

The server imports and does nothing else, so that a child is what a fresh interpreter is after the same imports. Tests of what a command
imports, or of Python's own start, start a real interpreter instead.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import reduction
from pathlib import Path
from typing import IO, Any

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["dyme.cli.training.cell", "dyme.training.loop", "dyme.evaluation.run"])


class Child:
    """A Python process; `words` begin with the interpreter, and a pipe of its output is a file, read once it has ended."""

    def __init__(
        self, words: Sequence[object], *, env: Mapping[str, str] | None = None, cwd: Path | None = None, stdin: int | None = None,
        stdout: Any = subprocess.PIPE, stderr: Any = subprocess.PIPE, text: bool = True,
    ) -> None:  # fmt: skip
        self.args, self.returncode, self._text = words, None, text
        self._out = _file() if stdout == subprocess.PIPE else stdout
        self._err = _file() if stderr == subprocess.PIPE else self._out if stderr == subprocess.STDOUT else stderr
        reader, self.stdin = _pipe() if stdin == subprocess.PIPE else (_file(), None)
        with reader:
            streams = [_Descriptor(file.fileno()) for file in (reader, self._out, self._err)]
            own = [str(word) for word in words[1:]]
            self._process = CONTEXT.Process(target=_run, args=(own, dict(env or os.environ), str(cwd or Path.cwd()), streams))
            self._process.start()
        self.pid = self._process.pid or 0
        atexit.register(self.kill)

    def poll(self) -> int | None:
        """Return the exit status, minus a signal's number for one that ended it, or None while it runs."""
        self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end and return the exit status; raises subprocess.TimeoutExpired after `timeout` seconds."""
        self._process.join(timeout)
        status = self.poll()
        if status is None:
            raise subprocess.TimeoutExpired(list(map(str, self.args)), timeout or 0.0)
        if self.stdin:
            self.stdin.close()
        return status

    def communicate(self, timeout: float | None = None) -> tuple[Any, Any]:
        """Wait for its end and return what it wrote to stdout and stderr."""
        self.wait(timeout)
        return self._read(self._out), None if self._err is self._out else self._read(self._err)

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM, unless it has ended."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL, unless it has ended."""
        self.send_signal(signal.SIGKILL)

    def _read(self, file: IO[bytes]) -> str | bytes:
        file.seek(0)
        found = file.read()
        return found.decode("utf-8", "replace") if self._text else found


class _Descriptor:
    """An open file that travels to the server."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (reduction.DupFd(self.number),)


def _arrived(descriptor: Any) -> int:
    number: int = descriptor.detach()
    return number


def _file() -> IO[bytes]:
    return tempfile.TemporaryFile()


def _pipe() -> tuple[IO[bytes], IO[bytes]]:
    reader, writer = os.pipe()
    return os.fdopen(reader, "rb"), os.fdopen(writer, "wb")


def _run(words: list[str], env: dict[str, str], cwd: str, streams: list[int]) -> None:
    """In the child: streams, environment and folder in place, then `python WORDS`."""
    for number, held in enumerate(streams):
        os.dup2(held, number)
        os.close(held)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww"))
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    sys.path[:0] = env.get("PYTHONPATH", "").split(os.pathsep)
    try:
        if words[0] == "-c":
            sys.argv = ["-c", *words[2:]]
            exec(compile(words[1], "-c", "exec"), {"__name__": "__main__"})
        elif words[0] == "-m":
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name="__main__")
    finally:
        sys.stdout.flush()
        atexit._run_exitfuncs()
