"""What each command does, one function a command: (arguments, overrides) -> exit status."""

from dyme.cli.evaluation import diagnose, eval, report
from dyme.cli.listing import methods, recipes, settings, tasks
from dyme.cli.prepare import prepare
from dyme.cli.publishing import export, push
from dyme.cli.supervision import facts, judge
from dyme.cli.training import cell, compare, demo, train

__all__ = [
    "cell", "compare", "demo", "diagnose", "eval", "export", "facts", "judge", "methods", "prepare", "push", "recipes", "report",
    "settings", "tasks", "train",
]  # fmt: skip
