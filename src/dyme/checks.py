"""Whether a Config can work at all, whoever made it: what `train`, evaluation and a comparison ask first."""

from __future__ import annotations

from dyme import recipe
from dyme.config import Config
from dyme.errors import ConfigError
from dyme.methods import METHODS
from dyme.settings import nearest
from dyme.tasks.rules import own_verifier


def check_config(config: Config) -> None:
    """Raise ConfigError for a wrong type, value or name in a Config; those made in Python are held to what a recipe is held to."""
    recipe.check_values(config)
    own_verifier(config)
    if config.method.name not in METHODS:
        raise ConfigError(f"unknown method {config.method.name!r}; {nearest(config.method.name, METHODS)}")
