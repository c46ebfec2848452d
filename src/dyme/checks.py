"""Whether a Config can work at all, whoever made it: what `train`, evaluation and a comparison ask first."""

from __future__ import annotations

from typing import Any

from dyme import recipe
from dyme.config import Config
from dyme.errors import ConfigError
from dyme.methods import Method, method_of
from dyme.tasks.rules import own_verifier


def check_config(config: Config) -> None:
    """Raise ConfigError for a wrong type, value or name in a Config; those made in Python are held to what a recipe is held to."""
    recipe.check_values(config)
    if not config.run.eval_every and (config.run.keep_best != "off" or config.run.patience):
        raise ConfigError("run.keep_best and run.patience need evaluations while training; set run.eval_every")
    if config.supervision.flip and config.supervision.checker == "off":
        raise ConfigError("supervision.flip turns grades of a checker around; set supervision.checker, or leave it at 0")
    budgets = [(f"train.{name}", getattr(config.train, name)) for name in ("max_prompts", "max_completions", "max_tokens")]
    given = [f"{name} = {value}" for name, value in budgets if value]
    if len(given) > 1:
        raise ConfigError(f"one budget is needed, and there are {' and '.join(given)}; set all but one of them to 0")
    own_verifier(config)


def check_training(config: Config) -> Method[Any]:
    """The method that a Config names. Raises ConfigError as `check_config` does, and for a method that cannot be had as asked."""
    check_config(config)
    return method_of(config)
