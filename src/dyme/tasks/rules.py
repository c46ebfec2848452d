"""The rules of a recipe: the tolerance of its task, the tolerance that it sets, and the user's verifier."""

from __future__ import annotations

from dyme import plugins
from dyme.config import Config
from dyme.tasks import task_of
from dyme.verify.rules import Rules
from dyme.verify.verifier import OwnVerifier


def rules_of(config: Config) -> Rules:
    """Return the rules of a recipe, for training and evaluation alike; a task's tolerance is for kind auto, the recipe's for all kinds.

    Raises ConfigError for a task or verifier that cannot be found or called.
    """
    given = config.task.tolerance
    own = task_of(config.task).tolerance if given is None else given
    return Rules(
        marker=config.task.marker, tolerance=own, reward=config.reward, other_tolerance=given or 0.0, verifier=own_verifier(config)
    )


def own_verifier(config: Config) -> OwnVerifier | None:
    """Return the verifier that a recipe names, else the task's own, if there is one."""
    task, name, seconds = task_of(config.task), config.task.verifier, config.reward.timeout_seconds
    if name:
        function = plugins.function(name, "verifiers", "task.verifier", ("prediction", "sample"))
        return OwnVerifier(f"task.verifier {name}", function, seconds)
    return OwnVerifier(f"the verifier of task {task.name}", task.verifier, seconds) if task.verifier else None
