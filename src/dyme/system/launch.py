"""This process's place in a launch, from the variables that the launcher (torchrun, accelerate launch) sets; free of torch."""

from __future__ import annotations

import os


def several() -> bool:
    """Return whether this process was launched as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def is_main() -> bool:
    """Return whether this process is the only one of a launch, or the first."""
    return os.environ.get("RANK", "0") == "0"


def local_count() -> int:
    """Return the number of the launch's processes on this computer; they share its memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or os.environ.get("WORLD_SIZE", "1"))


def node() -> int:
    """Return the index of this computer among those of the launch, from 0."""
    return int(os.environ.get("RANK", "0")) // local_count()
