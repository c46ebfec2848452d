"""Files and folders that exist whole or not at all, even if the process that writes them is killed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dyme.errors import RunError, at
from dyme.system import lock


def write_whole(file: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(file) as temporary:
        temporary.write_bytes(content)


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """Yield a temporary file beside `file`, which replaces `file` after a block without an error, else is removed."""
    temporary = file.with_name(f".{file.name}.tmp")
    try:
        with at(file):
            yield temporary
            temporary.replace(file)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a new folder beside `out`, which replaces `out` after a block without an error; `out` must be absent or empty.

    The remains of a killed process or of an error are removed.
    """
    out = out.resolve()
    if os.path.ismount(out) or out == Path.cwd():
        raise RunError(f"{out}: is a mount point or the working directory, and cannot be replaced; name a folder in it")
    part = out.with_name(f".{out.name}.part")
    try:
        with lock.hold(part):
            _empty(part)
            try:
                with at(part):
                    yield part
            except BaseException:
                _empty(part)
                raise
    except BaseException:
        with suppress(OSError):
            part.rmdir()
        raise
    with suppress(FileNotFoundError):
        out.rmdir()
    part.rename(out)


def _empty(folder: Path) -> None:
    """Remove everything in a folder except its lock."""
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != lock.NAME:
            entry.unlink()


def check_place(path: Path, option: str) -> None:
    """Raise RunError if no folder can be made at `path`, the value of `option`."""
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not (above.is_dir() and os.access(above, os.W_OK)):
        raise RunError(f"{path}: no folder can be made in {above}; choose another {option}")
