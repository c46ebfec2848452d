"""Methods: from the verdicts of a group to the branches that the update trains on. The method is the algorithm.

`method.name` in a recipe is a key of METHODS or names a user's method ("mine.py:METHOD"); `dyme methods` lists what ships.
All methods run through one loop, one verifier and one budget, and nothing outside this folder knows a method's name. Plain Python,
no torch. To add a method, write a file that ends in a `METHOD`, and name it here (docs/methods.md).
"""

from __future__ import annotations

from typing import Any

from dyme import plugins
from dyme.config import Config
from dyme.errors import ConfigError
from dyme.methods import dyme, grpo, sft, two_stage
from dyme.methods.controls import constant_mix, inverse, yoked_random
from dyme.methods.method import Context, Method, NoSettings, RoutingFunction, Stage
from dyme.methods.proof import prove
from dyme.methods.rivals import annealed, bread, budget, chord, ghpo, hpt, luffy, s_grpo, threshold, visurf
from dyme.settings import nearest

__all__ = ["COMPARED", "METHODS", "Context", "Method", "NoSettings", "RoutingFunction", "Stage", "find", "known_elsewhere", "method_of"]

_BASICS = (sft.METHOD, grpo.METHOD, two_stage.METHOD, dyme.METHOD)
_RIVALS = (hpt.METHOD, chord.METHOD, luffy.METHOD, s_grpo.METHOD, visurf.METHOD)
_RULES = (threshold.METHOD, annealed.METHOD, budget.METHOD)
_HINTS = (ghpo.METHOD, bread.METHOD)
_CONTROLS = (yoked_random.METHOD, constant_mix.METHOD, inverse.METHOD)
METHODS: dict[str, Method[Any]] = {one.name: one for one in (*_BASICS, *_RIVALS, *_RULES, *_HINTS, *_CONTROLS)}
COMPARED = tuple(one.name for one in _BASICS)
"""Methods that `dyme compare` compares unless it gets others."""


def find(name: str, option: str = "method.name") -> Method[Any]:
    """Return the method of that name: one that ships, or a user's, which is checked first.

    Raises ConfigError for an unknown name, naming the nearest known name, and for an object that is not a method.
    """
    given = plugins.is_known(name, "methods")
    if name in METHODS and not given:
        return METHODS[name]
    if not given:
        raise ConfigError(
            f"unknown method {name!r}; {nearest(name, [*METHODS, *plugins.names('methods')])}; FILE.py:NAME is one of your own"
        )
    method = plugins.find(name, "methods", option)
    prove(method, f"{option}: {name}")
    if method.name in METHODS and method.stages is not METHODS[method.name].stages:
        raise ConfigError(f"{option}: {name} calls itself {method.name!r}, as a method that ships does; give it another name")
    return method  # type: ignore[no-any-return]


def method_of(config: Config) -> Method[Any]:
    """Return the method that a config names. Raises ConfigError as `find` does, and for settings that the method does not have or take."""
    method = find(config.method.name)
    method.settings_of(config)
    return method


def known_elsewhere(key: str) -> list[str]:
    """Return names of shipped methods that have a setting `key`: a recipe for several methods may hold it."""
    return [name for name, method in METHODS.items() if hasattr(method.settings, key)]
