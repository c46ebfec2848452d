"""One writer per folder: a lock that the death of its holder releases.

The holder keeps an exclusive lock (flock; on Windows a locked byte) on the file `.lock` in the folder, which names it, and removes the
file at the end. A file that a killed process left is not locked, so it blocks nobody. Over NFS Linux sends such locks to the server, so
that they hold between machines; on a file system without locks, a line says so and the folder is not locked.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from dyme.errors import RunError

NAME = ".lock"
"""The file in the folder."""
_GLANCE = 0.2
"""Seconds between two attempts to lock a folder that is waited for."""
_BEYOND = 2**30
"""The byte that is locked on Windows: far beyond the file's end, so that the file can be read."""
_log = logging.getLogger(__name__)
_held: dict[Path, BinaryIO] = {}
"""What this process holds."""


@contextmanager
def hold(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes out of `folder`, made if it is absent; it is removed again if nothing was written to it.

    A process may hold a folder that it holds already. Raises RunError, naming the holder, if another process does, unless `wait`.
    """
    place = folder.absolute()
    if place in _held:
        yield
        return
    made = [one for one in (place, *place.parents) if not one.exists()]
    place.mkdir(parents=True, exist_ok=True)
    try:
        _held[place] = _take(place / NAME, wait)
        try:
            yield
        finally:
            _release(place / NAME, _held.pop(place))
    finally:
        with suppress(OSError):
            for one in made:
                one.rmdir()


def _take(path: Path, wait: bool) -> BinaryIO:
    """Return the open, locked file, created again if its holder removed it meanwhile."""
    while True:
        file = path.open("a+b")
        try:
            free = _lock(file)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            _log.warning("%s: this file system knows no locks (%s); start nothing else there", path.parent, error.strerror)
            return file
        if free and _current(path, file):
            file.truncate(0)
            file.write(f"{os.getpid()} on {socket.gethostname()}".encode())
            file.flush()
            return file
        file.close()
        if not free and not wait:
            raise RunError(f"{path.parent}: another process{_holder(path)} is at work there; wait until it is done, or stop it")
        time.sleep(_GLANCE if not free else 0)


def _holder(path: Path) -> str:
    """Return the holder that the file names, in brackets."""
    with suppress(OSError):
        name = path.read_text(encoding="utf-8", errors="replace")[:200]
        return f" ({name})" if name else ""
    return ""


def _current(path: Path, file: BinaryIO) -> bool:
    """Return whether `path` is still the opened file."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    return False


def _release(path: Path, file: BinaryIO) -> None:
    if sys.platform == "win32":
        file.close()  # an open file cannot be removed
    with suppress(OSError):
        path.unlink()
    file.close()


def _forget() -> None:
    """After a fork, close the parent's locks in the child: they must not outlive the parent."""
    for file in _held.values():
        file.close()
    _held.clear()


if sys.platform == "win32":
    import msvcrt

    def _lock(file: BinaryIO) -> bool:
        """Lock the file and return True, or False if another process has locked it."""
        file.seek(_BEYOND)
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
else:
    import fcntl

    os.register_at_fork(after_in_child=_forget)

    def _lock(file: BinaryIO) -> bool:
        """Lock the file and return True, or False if another process has locked it."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
