"""Several processes of one launch, on one computer or on several: they decide alike, wait for each other, and end together.

The main process reads the file system for all: on network file systems each computer sees changes at a different time. An
error on one process is raised on all, so that none waits for one that has ended.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from dyme.errors import ConfigError, DymeError, RunError
from dyme.system import lock
from dyme.system.launch import asks_to_shard, is_main, several

Value = TypeVar("Value")
WAIT = timedelta(days=7)
"""Longest wait of one process for another: for a helper, an evaluation or a data set that only one of them waits for."""
PATIENCE = 5.0
"""Seconds in which a file that one computer wrote must show on another."""


def on_cpu() -> bool:
    """Return whether to compute on the CPU: if asked for, or without a CUDA device; ACCELERATE_TORCH_DEVICE names any other device."""
    import torch
    from accelerate.utils import parse_flag_from_env

    asked = "ACCELERATE_TORCH_DEVICE" in os.environ
    return bool(parse_flag_from_env("ACCELERATE_USE_CPU")) or not (asked or torch.cuda.is_available())


def state() -> Any:
    """Return accelerate's PartialState of the launch; the first call joins the processes to a group."""
    from accelerate import PartialState

    asks_to_shard()
    return PartialState(cpu=on_cpu(), timeout=WAIT)


def together(work: Callable[[], Value]) -> Value:
    """Return the result of `work` on this process, after it has ended on all processes; an error on any of them is raised on all.

    All processes must call it; `work` must not wait for another process, except in a call that fails on all of them or on none.
    """
    if not several():
        return work()
    value: Value | None = None
    own: Exception | None = None
    try:
        value = work()
    except Exception as error:
        own = error
    told = next((error for error in _gather(own and _told(own)) if error is not None), None)
    if own is not None:
        raise own
    if told is not None:
        raise told
    return value  # type: ignore[return-value]


def from_main(look: Callable[[], Value]) -> Value:
    """Return the main process's result of `look` on all processes; an error there is raised on all."""
    if not several():
        return look()
    value: Value = _gather(together(lambda: look() if is_main() else None))[0]
    return value


def main_first(work: Callable[[], Value]) -> Value:
    """Return the result of `work` on this process; the main process runs it first, and the others find the files that it wrote."""
    done = together(lambda: work() if is_main() else None)
    return together(lambda: work() if done is None else done)


def leave() -> None:
    """Leave the group of processes, before this one ends: threads of an open group can abort the process (gloo's sometimes do)."""
    if several() and (torch := sys.modules.get("torch")) is not None and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep other launches out of a folder: the main process holds its lock (`lock.hold`)."""
    with contextlib.ExitStack() as held:
        from_main(lambda: held.enter_context(lock.hold(folder)))
        yield


def check_shared(path: Path, option: str) -> None:
    """Raise ConfigError on all processes unless each sees a file that the main process writes at the place of `path`, `option`'s value.

    The file is removed again.
    """
    if not several():
        return
    inside, mark = from_main(lambda: (path.is_dir(), uuid.uuid4().hex))
    place = (path if inside else path.absolute().parent) / f".{path.name}-{mark}"  # each process may have another name for the folder
    made = from_main(lambda: _leave(place, option))
    seen = _gather((socket.gethostname(), is_main() or _shows(place)))
    blind = [(number, host) for number, (host, sees) in enumerate(seen) if not sees]
    from_main(lambda: _take_back(place, made))
    if blind:
        raise ConfigError(
            f"{option} {path}: process {blind[0][0]}, on {blind[0][1]}, does not see what process 0, on {seen[0][0]}, writes there; "
            "name a folder on a file system that all computers of the run share"
        )


def _gather(own: Any) -> list[Any]:
    """Return the values of all processes, in order."""
    from accelerate.utils import gather_object

    state()
    return list(gather_object([own]))


def _told(error: Exception) -> DymeError:
    """Return an error in the form in which the other processes raise it."""
    if isinstance(error, DymeError):
        return error
    return DymeError(f"process {os.environ.get('RANK')} on {socket.gethostname()} failed: {type(error).__name__}: {error}")


def _leave(place: Path, option: str) -> list[Path]:
    """Write an empty file, and return the folders that were made for it, the innermost first."""
    made = [folder for folder in place.parents if not folder.exists()]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    except OSError as error:
        raise RunError(f"{place.parent}: cannot be written ({error.strerror}); choose another {option}") from error
    return made


def _take_back(place: Path, made: list[Path]) -> None:
    place.unlink(missing_ok=True)
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _shows(place: Path) -> bool:
    """Return whether another process's file appears within PATIENCE; listing its folder bypasses the caches of network file systems."""
    until = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError):
            if place in place.parent.iterdir():
                return True
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
