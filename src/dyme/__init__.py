"""dyme: teach small vision-language models to think by dynamic memorization and exploration (arXiv 2506.23061).

The names below are the public API. Each is imported on first use, so that `import dyme` is quick and does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dyme.api import Stopped, evaluate, load_recipe, train, write_page
    from dyme.config import (
        Bounds,
        Config,
        MethodConfig,
        ModelConfig,
        ObjectiveConfig,
        RewardConfig,
        RolloutConfig,
        RunConfig,
        SupervisionConfig,
        TaskConfig,
        TrainConfig,
    )
    from dyme.errors import ConfigError, DataError, DymeError, ModelError, RunError, SupervisionError
    from dyme.methods import METHODS, Context, Method, Stage
    from dyme.model.policy import Policy
    from dyme.pictures import ImageFile, Picture
    from dyme.tasks import TASKS
    from dyme.tasks.task import Task
    from dyme.tracking.display import Display
    from dyme.tracking.run_folder import RunFolder
    from dyme.tracking.trackers import Tracker
    from dyme.types import Branch, Completion, Fact, Group, Judgement, Route, Sample, Shape, Verdict

    __version__: str

__all__ = [
    "METHODS", "TASKS", "Bounds", "Branch", "Completion", "Config", "ConfigError", "Context", "DataError", "Display", "DymeError",
    "Fact", "Group", "ImageFile", "Judgement", "Method", "MethodConfig", "ModelConfig", "ModelError", "ObjectiveConfig", "Picture",
    "Policy", "RewardConfig", "RolloutConfig", "Route", "RunConfig", "RunError", "RunFolder", "Sample", "Shape", "Stage", "Stopped",
    "SupervisionConfig", "SupervisionError", "Task", "TaskConfig", "Tracker", "TrainConfig", "Verdict", "__version__", "evaluate",
    "load_recipe", "train", "write_page",
]  # fmt: skip
_HOMES = {
    "api": ("Stopped", "evaluate", "load_recipe", "train", "write_page"),
    "config": (
        "Bounds", "Config", "MethodConfig", "ModelConfig", "ObjectiveConfig", "RewardConfig", "RolloutConfig", "RunConfig",
        "SupervisionConfig", "TaskConfig", "TrainConfig",
    ),
    "errors": ("ConfigError", "DataError", "DymeError", "ModelError", "RunError", "SupervisionError"),
    "methods": ("METHODS", "Context", "Method", "Stage"),
    "model.policy": ("Policy",),
    "pictures": ("ImageFile", "Picture"),
    "tasks": ("TASKS",),
    "tasks.task": ("Task",),
    "tracking.display": ("Display",),
    "tracking.run_folder": ("RunFolder",),
    "tracking.trackers": ("Tracker",),
    "types": ("Branch", "Completion", "Fact", "Group", "Judgement", "Route", "Sample", "Shape", "Verdict"),
}  # fmt: skip
"""The module that each name comes from."""


def __getattr__(name: str) -> Any:
    """A public name, from its module; kept, so that this is asked once."""
    if name == "__version__":
        from importlib import metadata

        value: Any = metadata.version("dyme")
    else:
        home = next((home for home, names in _HOMES.items() if name in names), None)
        if home is None:
            raise AttributeError(f"module 'dyme' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"dyme.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
