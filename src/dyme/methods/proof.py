"""Check, before anything runs, that an object is a usable method: types, names, defaults, bounds; a fault is a one-line error."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from dyme import settings
from dyme.config import Config
from dyme.errors import ConfigError, quoted
from dyme.methods.method import Method, Stage
from dyme.plugins import failure


def prove(method: Any, where: str) -> None:
    """Raise ConfigError unless `method` is a complete Method; `where` is the setting that named it."""
    if not isinstance(method, Method):
        raise ConfigError(f"{where} is {quoted(method)}, and a dyme.Method is needed")
    for name in ("name", "summary", "source"):
        value = getattr(method, name)
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(f"{where}: its {name} must be text, not {quoted(value)}")
    if ":" in method.name or "+" in method.name:
        raise ConfigError(f"{where}: its name may hold neither ':' nor '+', as {method.name!r} does")
    for name in ("stages", "first_state", "next_state"):
        value = getattr(method, name)
        if not callable(value) and (value is not None or name == "stages"):
            raise ConfigError(f"{where}: its {name} must be a function, not {quoted(value)}")
    if method.next_state and not method.first_state:
        raise ConfigError(f"{where}: it has a next_state, and no first_state to begin with")
    _prove_settings(method, where)
    _prove_defaults(method, where)
    _prove_stages(method, where)


def _prove_settings(method: Method[Any], where: str) -> None:
    own = method.settings
    if not dataclasses.is_dataclass(own) or isinstance(own, type) or not type(own).__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise ConfigError(f"{where}: its settings must be a frozen dataclass with its defaults, e.g. Settings(), not {quoted(own)}")
    names = [field.name for field in dataclasses.fields(own)]
    if "name" in names:
        raise ConfigError(f"{where}: a setting may not be called name, which [method] has already")
    try:
        settings.check(own, "method")
        settings.read(type(own), {}, where)
    except (TypeError, NameError) as error:
        raise ConfigError(
            f"{where}: its settings cannot be read: {error}; give each a type that a recipe can hold, and a default"
        ) from error
    if strange := [key for key in method.follows if key not in names]:
        raise ConfigError(f"{where}: follows names {strange[0]!r}, which is none of its settings")


def _prove_defaults(method: Method[Any], where: str) -> None:
    if not isinstance(method.defaults, Mapping):
        raise ConfigError(f"{where}: its defaults must be a mapping such as {{'objective.beta': 0.0}}, not {quoted(method.defaults)}")
    plain = Config()
    for name, value in method.defaults.items():
        section, _, key = str(name).partition(".")
        if section == "method" or not hasattr(plain, section):
            raise ConfigError(f"{where}: its defaults name {name!r}, and no section of a recipe but [method] is called so")
        settings.read(type(getattr(plain, section)), {key: value}, f"{where}: its defaults: [{section}]")


def _prove_stages(method: Method[Any], where: str) -> None:
    try:
        stages = method.stages(method.settings)
    except Exception as error:
        raise ConfigError(f"{where}: its stages: {failure(error, method.stages)}") from error
    if not isinstance(stages, tuple | list) or not stages or not all(isinstance(stage, Stage) for stage in stages):
        raise ConfigError(f"{where}: its stages are {quoted(stages)}, and a tuple of Stage objects is needed")
    for stage in stages:
        if not callable(stage.route) or not all(one is None or callable(one) for one in (stage.advantages, stage.replay, stage.redraw)):
            raise ConfigError(f"{where}: route, advantages, replay and redraw of stage {stage.name!r} must be functions")
        if stage.redraw and not stage.rolls_out:
            raise ConfigError(f"{where}: stage {stage.name!r} has a redraw, and declares rolls_out = False, so nothing is drawn")
        if not all(isinstance(flag, bool) for flag in (stage.rolls_out, stage.imitates, stage.reads_traces)):
            raise ConfigError(f"{where}: rolls_out, imitates and reads_traces of stage {stage.name!r} must be True or False")
        if not (_number(stage.share) and 0 <= stage.share <= 1) or not (stage.learning_rate is None or _number(stage.learning_rate)):
            raise ConfigError(
                f"{where}: share of stage {stage.name!r} must be a number from 0 to 1, and its learning_rate a number or None"
            )
    if abs(math.fsum(stage.share for stage in stages) - 1) > 1e-6:
        raise ConfigError(f"{where}: the shares of its stages add up to {math.fsum(s.share for s in stages):g}, not to 1")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
