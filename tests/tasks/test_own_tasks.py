"""A task of one's own: what it may be, what is said where it is wrong, and that it proves itself as our own do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dyme import plugins
from dyme.checks import check_config
from dyme.cli.listing import tasks as listing
from dyme.config import Config, TaskConfig
from dyme.errors import ConfigError, DataError
from dyme.recipe import build
from dyme.samples import load
from dyme.tasks import held_out, task_of
from dyme.tasks.rules import rules_of
from dyme.tasks.task import Task
from dyme.types import Sample

HERE = Path(__file__).name
SAMPLES = [Sample(id=str(k), question="How many?", answer=str(k), rationale="I count.") for k in range(4)]


def rows(config: TaskConfig, split: str) -> list[Sample]:
    return SAMPLES if split != "test" else []


def of(task: Any, **settings: Any) -> tuple[Config, Any]:
    return build({"task": {"name": "mine", **settings}}), plugins.offered("tasks", {"mine": task})


@pytest.mark.parametrize("task", [rows, Task(name="mine", load=rows)], ids=["function", "task"])  # type: ignore[arg-type]
def test_a_task_is_a_function_or_a_task(task: Any) -> None:
    config, offered = of(task, train_size=3)
    with offered:
        assert load(config, "train") == (SAMPLES[:3], "") and load(config, "validation")[0] == SAMPLES
        assert held_out(config.task) == "validation", "it has no test samples"
        assert task_of(config.task).tolerance == 0.0 and rules_of(config).verifier is None
        with pytest.raises(DataError, match="^task .* has no test samples; return some, or take another split than test$"):
            load(config, "test")


def test_its_verifier_serves_unless_the_recipe_names_another() -> None:
    config, offered = of(Task(name="mine", load=rows, verifier=lambda p, s: p == s.answer))  # type: ignore[arg-type]
    with offered:
        check_config(config)
        judged = rules_of(config).judge("03", SAMPLES[3])
        assert not judged.correct and rules_of(Config()).judge("03", SAMPLES[3]).correct
        with plugins.given(config, verifier=lambda p, s: int(p) == int(s.answer)) as other:
            assert rules_of(other).judge("03", SAMPLES[3]).correct


def broken(config: TaskConfig, split: str) -> list[Sample]:
    return [Sample(id="0", question="", answer={}["train"])]


@pytest.mark.parametrize(
    ("task", "kind", "words"),
    [
        (broken, DataError, rf"cannot load its train split: {HERE}, line {broken.__code__.co_firstlineno + 1}: KeyError: 'train'"),
        (lambda config, split: [{"question": "How many?"}], DataError, r"its train split holds {'question': 'How many\?'}; return Sample"),
        (lambda config, split: [], DataError, "has no train samples; it must have some to train on"),
        (lambda config, split: [Sample(id="0", question="?", answer=3)], DataError, r"task mine, train\[0\]: answer"),  # type: ignore[arg-type]
        (lambda config, split: None, DataError, "cannot load its train split: .* TypeError"),
        (Task(name="mine", load=rows, verifier=lambda p, s: True), ConfigError, "says that every answer is right"),  # type: ignore[arg-type]
        (Task(name="mine", load=rows, verifier=lambda p, s: p == "1"), DataError, "row 0: answer '0' is not right by the verifier of task"),  # type: ignore[arg-type]
        (3, ConfigError, "task.name: mine is 3, and a dyme.Task or a function"), (Task, ConfigError, "a dyme.Task or a function"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(task: Any, kind: type[Exception], words: str) -> None:
    config, offered = of(task)
    with offered, pytest.raises(kind, match=words) as caught:
        load(config, "train")
    assert "\n" not in str(caught.value)


def test_unknown_names_and_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="^unknown task 'chart'; did you mean 'charts'"):
        check_config(build({"task": {"name": "chart"}}))
    (tmp_path / "mine.py").write_text("import nothing_of_this_name\n")
    for name, words in {
        f"{tmp_path}/mine.py:TASK": r"cannot be imported \(mine.py, line 1\)",
        "no.such.module:TASK": "cannot be imported",
    }.items():
        with pytest.raises(ConfigError, match=f"^task.name: .*{words}"):
            check_config(build({"task": {"name": name}}))


def test_tasks_of_installed_packages_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: Callable[..., Any] = (tmp_path / "clocks-1.0.dist-info").mkdir
    made()
    (tmp_path / "clocks-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: clocks\nVersion: 1.0\n")
    (tmp_path / "clocks-1.0.dist-info/entry_points.txt").write_text(
        "[dyme.tasks]\nclocks = clocks_of_mine:TASK\nlost = nowhere_at_all:TASK\n"
    )
    (tmp_path / "clocks_of_mine.py").write_text(
        "from dyme import Sample, Task\n"
        "TASK = Task(name='clocks', summary='what time is it?', load=lambda config, split: [Sample(id='0', question='?', answer='3')])\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert listing.run(None, []) == 0  # type: ignore[arg-type]
    shown = capsys.readouterr().out
    assert "what time is it?" in shown and "charts" in shown and "lost" in shown and "cannot be imported" in " ".join(shown.split())
    assert load(build({"task": {"name": "clocks"}}), "train")[0][0].answer == "3"
    with pytest.raises(ConfigError, match="unknown task 'clock'; did you mean 'clocks'"):
        check_config(build({"task": {"name": "clock"}}))
