"""Tasks: where samples come from. `task.name` in a recipe is a key of TASKS; `dyme tasks` lists them.

To add one, write a file like `charts.py` (drawn here) or `gsm8k.py` (a published data set) that ends in a `TASK`, and name it here.
"""

from __future__ import annotations

from dyme.config import TaskConfig
from dyme.tasks import aokvqa, chartqa, charts, geometry, gsm8k, jsonl, loading, slake, tabmwp, vqa_rad
from dyme.tasks.task import Task

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        charts.TASK, jsonl.TASK, chartqa.TASK, slake.TASK, vqa_rad.TASK, geometry.TASK, aokvqa.TASK, gsm8k.TASK, tabmwp.TASK,
    )
}  # fmt: skip


def has_test(config: TaskConfig) -> bool:
    """Whether the settings name data to report on; task.path is prepared for that if it has to be."""
    published = TASKS[config.name].published
    return published is None or bool(loading.with_path(published, config).test)
