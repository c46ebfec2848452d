"""The verifier's rules of a recipe: the tolerance of its task and its own."""

from __future__ import annotations

from dyme.config import Config
from dyme.tasks import TASKS
from dyme.verify.rules import Rules


def rules_of(config: Config) -> Rules:
    """The one verifier of a recipe, for training and evaluation alike: a task's own tolerance is for kind auto, the recipe's for all."""
    given = config.task.tolerance
    own = TASKS[config.task.name].tolerance if given is None else given
    return Rules(marker=config.task.marker, tolerance=own, reward=config.reward, other_tolerance=given or 0.0)
