"""The page of two runs side by side: what it says of their difference, and the prompts that both saw."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from pages import EVIL, Tags, group, make_run, metric, route

import dyme
from dyme.cli.main import main
from dyme.config import Config, MethodConfig, TaskConfig
from dyme.errors import RunError
from dyme.report.beside import write_page
from dyme.tracking.run_folder import RunFolder
from dyme.types import Sample


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one name, in folders one and two: the second has other settings and solves other prompts."""
    home = tmp_path_factory.mktemp("beside")
    make_run(home / "one" / "run", steps=4)
    other = make_run(home / "two" / "run", steps=2, config=Config(method=MethodConfig(name="grpo"), task=TaskConfig(test_size=7)))
    other.log_evaluation(2, "test", {"metrics": {"think_accuracy": {**metric(0.712), "n": 7}}})
    write_page(home / "one" / "run", home / "two" / "run")
    return home


@pytest.fixture
def page(home: Path) -> str:
    return (home / "one" / "run" / "beside-run.html").read_text()


def payload(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def test_figures_curves_and_what_differs(page: str) -> None:
    tags, text = Tags(page), re.sub(r"<[^>]+>", " ", page)
    assert all(a.startswith(("data:", "#")) for a in tags.addresses) and len(tags.ids) == len(set(tags.ids)) and not tags.unlabelled
    said = (
        "one/run beside two/run", "The task&#39;s settings differ: task.test_size: 0 and 7", "first right", "61.2 %", "71.2 %",
        "Evaluation test: 1000 questions in A and 7 in B", "+10.0 points", "B has no evaluation named validation", "method.name",
        "Curves over one another",
    )  # fmt: skip
    assert [one for one in said if one not in text] == []
    assert 'class="swatch c2 dashed"' in page and "Sampled accuracy. A: one/run: from 0 to" in page


def test_the_same_prompts_stand_beside_each_other(page: str) -> None:
    data = payload(page)
    assert len(data["groups"]) == data["total"] == 8 and "Both runs saw 8 prompts of the same name" in page
    first, last = data["groups"][0], data["groups"][-1]
    assert (first["run"], first["beside"]["run"]) == ("A: one/run", "B: two/run") and first["question"] == first["beside"]["question"]
    right = [[sum(c["correct"] for c in one["completions"]) for one in (pair, pair["beside"])] for pair in (first, last)]
    assert right == [[0, 0], [0, 2]], "from those that A has right more often to those that B has"
    assert data["images"][first["images"][0]].startswith("data:image/png")


def test_other_tasks_and_other_rows_of_the_same_name(tmp_path: Path) -> None:
    for name, task, answer in (("a", "charts", "1"), ("b", "gsm8k", "2")):
        run = RunFolder.create(tmp_path / name, Config(task=TaskConfig(name=task)))
        run.log_rollouts(1, [group(Sample(id="row", question=EVIL, answer=answer), 1, text=EVIL)], [route(1)])
    text = dyme.write_page(tmp_path / "a", tmp_path / "page.html", beside=tmp_path / "b").read_text()
    assert "Different tasks: A is charts, B is gsm8k. Their figures cannot be compared." in text
    assert "1 of those that were to be shown have another question, answer or picture in B" in text and payload(text)["groups"] == []
    text = dyme.write_page(tmp_path / "a", tmp_path / "page.html", beside=RunFolder.create(tmp_path / "new", Config())).read_text()
    assert "The runs have no prompt in common" in text and "Both runs have the same task with the same settings." in text
    assert EVIL not in text


def test_what_cannot_be_beside(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match="is the same run; give another run folder after --beside"):
        write_page(home / "one" / "run", home / "one" / ".." / "one" / "run")
    with pytest.raises(RunError, match="not a run folder"):
        write_page(home / "one" / "run", tmp_path)
    assert main(["report", str(home / "one" / "run"), "--beside", str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err
