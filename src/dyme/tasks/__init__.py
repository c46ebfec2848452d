"""Tasks: where samples come from. `task.name` in a recipe is a key of TASKS; `dyme tasks` lists them.

To add one, write a file like `charts/` (drawn here) or `gsm8k.py` (a published data set) that ends in a `TASK`, and name it here.
"""

from __future__ import annotations

from dyme.config import TaskConfig
from dyme.data import rows, splits
from dyme.data.layouts import Split
from dyme.tasks import aokvqa, chartqa, charts, geometry, gsm8k, jsonl, slake, tabmwp, vqa_rad
from dyme.tasks.task import Task

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        charts.TASK, jsonl.TASK, chartqa.TASK, slake.TASK, vqa_rad.TASK, geometry.TASK, aokvqa.TASK, gsm8k.TASK, tabmwp.TASK,
    )
}  # fmt: skip


def held_out(config: TaskConfig) -> Split | None:
    """The split to report on: test, validation where there is no test data, None where nothing is held out.

    task.path is prepared for that if it has to be.
    """
    published = TASKS[config.name].published
    if published is None:
        return "test"
    named = splits.with_path(published, config)
    return "test" if named.test else "validation" if rows.has_validation(named) else None
