"""One class per boundary. Each is also the standard-library error that a caller would expect; messages say what to do next.

Errors of the operating system need no class: `told` returns the line about each, with the path and the remedy.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DymeError(Exception):
    """Base of all errors that a user can cause and correct; the command line prints one line and exits with status 2."""


class ConfigError(DymeError, ValueError):
    """A recipe or an override is wrong."""


class DataError(DymeError, ValueError):
    """A data set, a row or an image is wrong."""


class ModelError(DymeError, OSError):
    """A checkpoint cannot be loaded or used."""


class RunError(DymeError, OSError):
    """A run folder cannot be used as asked."""


class Diverged(RunError):
    """Training came to numbers that are not finite, step after step."""


class SupervisionError(DymeError, RuntimeError):
    """A helper (checker, refiner, extractor of facts) gave no usable answer; its group stays unsupervised."""

    def __init__(self, message: str, *, passing: bool = False) -> None:
        """`passing`: the same question may be answered later, as by a server that is down now."""
        super().__init__(message)
        self.passing = passing


LONGEST = 80
"""Characters of a value that a message quotes."""


def quoted(value: object, longest: int = LONGEST) -> str:
    """Return `value` for a message, without its middle if it is long: a picture in base64 has tens of thousands of characters."""
    text = repr(value)
    return text if len(text) <= longest else f"{text[: longest // 2]} ... {text[-longest // 4 :]} ({len(text) - 2:,} characters)"


_ELSEWHERE = "choose another place"
_REMEDIES = {
    errno.ENOSPC: f"free some, or {_ELSEWHERE}",
    errno.EDQUOT: f"free some of your quota, or {_ELSEWHERE}",
    errno.EFBIG: f"raise the limit of a file's size (ulimit -f), or {_ELSEWHERE}",
    errno.EACCES: f"change its permissions, or {_ELSEWHERE}",
    errno.EPERM: f"change its permissions, or {_ELSEWHERE}",
    errno.EROFS: _ELSEWHERE,
    errno.ENAMETOOLONG: "choose a shorter one",
    errno.ENOENT: "correct the path",
    errno.ENOTDIR: "a part of the path is a file; correct it",
    errno.EISDIR: "name a file",
    errno.EEXIST: "choose another name",
    errno.ENOTEMPTY: "choose another name",
    errno.ELOOP: "its links lead in a circle; correct them",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.ENOMEM: "close other programs, or take a larger machine",
    errno.EAGAIN: "raise the limit of processes (ulimit -u), or close other programs",
    errno.EIO: "look after the disk",
    errno.ESTALE: "mount the file system again",
}
_CODE = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")
"""How safetensors and shutil's errors for several files quote an error of the operating system."""
_LOOP = "Symlink loop from"
"""What pathlib says of links that lead in a circle, before Python 3.13."""
_TORCH = ("inline_container", "PytorchStreamWriter", "iostream error")
"""What torch says where it cannot write a file; it does not say why."""


def system_error(error: BaseException) -> OSError | None:
    """The error of the operating system that an exception is or stands for, as torch and safetensors have errors of their own.

    None for others, and for a DymeError, which says what to do already.
    """
    text = str(error)
    if isinstance(error, DymeError):
        return None
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if found := _CODE.search(text):
        return OSError(int(found[1] or found[2]), os.strerror(int(found[1] or found[2])))
    if isinstance(error, RuntimeError) and text.startswith(_LOOP):
        return OSError(errno.ELOOP, os.strerror(errno.ELOOP), text.removeprefix(_LOOP).strip("' "))
    if isinstance(error, RuntimeError) and any(word in text for word in _TORCH):
        return OSError(errno.ENOSPC, "a file cannot be written; the disk may be full")
    return error if isinstance(error, OSError) else None


def told(error: OSError) -> str:
    """Return the line about an error of the operating system: path, reason, remedy."""
    places = [os.fsdecode(place) for place in (error.filename, error.filename2) if isinstance(place, str | bytes | os.PathLike)]
    reason = error.strerror or str(error) or type(error).__name__
    remedy = _REMEDIES.get(error.errno or 0)
    return f"{' -> '.join(places)}{': ' if places else ''}{reason}{'; ' if remedy else ''}{remedy or ''}"


@contextmanager
def at(path: Path) -> Iterator[None]:
    """Name `path` in an error of the operating system that names no place, as that of a full disk does not."""
    try:
        yield
    except Exception as error:
        if (found := system_error(error)) is None:
            raise
        if found.filename is None:
            found.filename = str(path)
        raise found from (None if found is error else error)
