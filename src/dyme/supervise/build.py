"""The helpers that a recipe names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dyme.config import Config
from dyme.supervise.checker import LocalChecker
from dyme.supervise.refiner import LocalRefiner
from dyme.supervise.roles import Checker, Refiner
from dyme.supervise.supervisor import Supervisor


def build_supervisor(config: Config, run: Path, note: Callable[[str], None]) -> Supervisor:
    """The supervisor of a run in the folder `run`; a client of an LLM is imported and made only if the recipe has one."""
    settings, marker = config.supervision, config.task.marker
    checkers: dict[str, Callable[[], Checker]] = {"local": lambda: LocalChecker(marker=marker)}
    refiners: dict[str, Callable[[], Refiner]] = {"local": lambda: LocalRefiner(marker=marker)}
    checker, refiner = checkers.get(settings.checker), refiners.get(settings.refiner)
    return Supervisor(config, checker and checker(), refiner and refiner())
