"""Tasks: where samples come from. `task.name` in a recipe is a key of TASKS; `dyme tasks` lists them.

To add one, write a file like `charts.py` or `jsonl.py` that ends in a `TASK`, and name it here.
"""

from __future__ import annotations

from dyme.tasks import charts, jsonl, tabmwp
from dyme.tasks.task import Task

TASKS: dict[str, Task] = {"charts": charts.TASK, "jsonl": jsonl.TASK, "tabmwp": tabmwp.TASK}
