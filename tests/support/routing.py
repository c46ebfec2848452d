"""What a method decides for a group under a config, its advantages computed."""

from __future__ import annotations

from dataclasses import replace

from dyme.config import Config, MethodConfig
from dyme.methods import METHODS
from dyme.methods.routes import settle
from dyme.methods.state import MethodState
from dyme.types import Group, Route


def route(group: Group, config: Config, method: str = "", stage: int = -1, batch_std: float = 0.0) -> Route:
    """The route of a stage, the last unless it is named, of the config's method or another one."""
    return settle(asked(group, config, method, stage), group, config.objective, batch_std)


def asked(group: Group, config: Config, method: str = "", stage: int = -1) -> Route:
    """The same with its advantages open."""
    found = METHODS[method or config.method.name]
    if found.name != config.method.name:  # the config's settings are not this method's
        config = replace(config, method=MethodConfig(name=found.name))
    return found.plan(config)[stage].route(group, MethodState(found, config).context(1, 0.0))
