"""What each command does, one function a command: (arguments, overrides) -> exit status."""

from dyme.commands.helping import facts, judge
from dyme.commands.listing import methods, recipes, settings, tasks
from dyme.commands.looking import diagnose, eval, report
from dyme.commands.preparing import prepare
from dyme.commands.publishing import export, push
from dyme.commands.training import cell, compare, demo, train

__all__ = [
    "cell", "compare", "demo", "diagnose", "eval", "export", "facts", "judge", "methods", "prepare", "push", "recipes", "report",
    "settings", "tasks", "train",
]  # fmt: skip
