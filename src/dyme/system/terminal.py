"""The standard streams of a command: only plain text is shown, and a failure to show it never ends the work.

Text from outside (a server's error, a row, a file's name, a model's answer) may hold control characters that a terminal obeys: they
are removed wherever text is shown. If a reader ends (`| head`, a tee that dies, a terminal that is closed) or the disk of a log is full,
the text for it is lost, never the run.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

READER_GONE = 141
"""Exit status of a command that is done but whose reader went away, as shells have it for SIGPIPE."""
_C0, _C1, _BIDI = range(0x20), range(0x7F, 0xA0), (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_TAKEN_OUT: dict[int, str | None] = dict.fromkeys(c for c in (*_C0, *_C1, *_BIDI) if c not in (0x09, 0x0A))
_TAKEN_OUT |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
_LONG = re.compile(r"\S{301,}")


def plain(text: str) -> str:
    """Return `text` without characters that a terminal obeys or that reorder a line; a lone surrogate becomes U+FFFD."""
    return text.translate(_TAKEN_OUT)


def one_line(text: str) -> str:
    """Return `plain` text on one line, without the middle of words over 300 characters, such as a long path or a picture as text."""
    return _LONG.sub(lambda word: f"{word[0][:100]} ... {word[0][-50:]} ({len(word[0]):,} characters)", plain(" ".join(text.splitlines())))


class PlainConsole(Console):
    """A console with its own colours and cursor movements, whose texts are plain."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `rich.console.Console.render`."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)


class Outlet:
    """A standard stream that never fails: text that cannot be written is dropped, and `trouble` holds the error."""

    def __init__(self, stream: TextIO) -> None:
        self.trouble: OSError | None = None
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, with escapes for characters that the stream's encoding lacks."""
        if self.trouble is None:
            try:
                self._stream.write(text)
            except UnicodeEncodeError as error:
                self.write(text.encode(error.encoding, "backslashreplace").decode(error.encoding))
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        if self.trouble is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the stream."""
        return getattr(self._stream, name)

    def _give_up(self, error: OSError) -> None:
        """Drop later text, and the text in the stream's buffer, which Python would try to write at exit."""
        self.trouble = error
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return one_line(super().format(record))


@contextmanager
def outlets() -> Iterator[Outlet]:
    """Replace stdout and stderr by outlets; yield that of stdout."""
    _occupy()
    before = sys.stdout, sys.stderr
    shown, told = (Outlet(stream) for stream in before)
    sys.stdout, sys.stderr = shown, told
    if logging.lastResort:
        logging.lastResort.setFormatter(_Plain())
    try:
        yield shown
    finally:
        for outlet in (shown, told):
            outlet.flush()
        sys.stdout, sys.stderr = before


def status_of(shown: Outlet, status: int) -> tuple[int, str]:
    """Return the exit status of a command that ended with `status`, and a line on a failure of stdout, "" if its reader ended."""
    if shown.trouble is None or status:
        return status, ""
    if shown.trouble.errno in (errno.EPIPE, errno.EINVAL, errno.EIO):  # EINVAL: Windows; EIO: a terminal that was closed
        return READER_GONE, ""
    return 2, f"standard output: {shown.trouble.strerror}; what was done is done, but not all of it was shown"


def _occupy() -> None:
    """Open the standard streams that the parent closed (`>&-`), so that no file of the run becomes stdout."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            with suppress(OSError):
                os.fstat(number)
                continue
            with suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
            if name != "stdin":
                setattr(sys, name, os.fdopen(number, "w", closefd=False))
