"""Calls of a user's function with a time limit: the result is checked, and a failure is reported with its file and line."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dyme.errors import quoted
from dyme.plugins import failure, place_of
from dyme.system.limit import Overdue, time_limit


@dataclass(frozen=True, slots=True)
class Failed:
    """A failed call, without a usable result; `why` is the reason, with file and line."""

    why: str


def call(function: Callable[..., Any], seconds: float, *arguments: Any) -> Any:
    """Call a function and return its result, or Failed if it raised an error or took longer than `seconds`."""
    try:
        with time_limit(seconds):
            return function(*arguments)
    except Overdue as error:
        return overdue(error, function, seconds)
    except (Exception, SystemExit) as error:
        return Failed(failure(error, function))


def overdue(error: BaseException, function: Callable[..., Any], seconds: float) -> Failed:
    """Return the failure of a call that took longer than `seconds`, at the line where it was."""
    place = failure(error, function).partition(": ")[0]
    return Failed(f"{place}: no answer within {seconds:g} s (reward.timeout_seconds)")


def number(value: Any, function: Callable[..., Any]) -> float | Failed:
    """Return a function's result as a finite float, or Failed; NumPy numbers and tensors of one number are accepted."""
    if hasattr(type(value), "__float__"):
        try:
            read = float(value)
        except Exception as error:  # an array of several numbers, an integer beyond all floats
            return Failed(f"{place_of(function)}: returned {quoted(value)}, which is no number ({type(error).__name__})")
        if math.isfinite(read):
            return read
    return Failed(f"{place_of(function)}: returned {quoted(value)}, which is no finite number")
