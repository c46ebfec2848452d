"""The groups of a run as a notebook and a script show them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dyme.config import Config
from dyme.tracking.run_folder import RunFolder
from dyme.types import Branch, Completion, Group, Route, Sample, Verdict


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Two steps of two groups each, one of them without a picture."""
    run = RunFolder.create(tmp_path / "run", Config())
    verdicts = (
        Verdict(parsed=True, correct=True, answer="3", thinking="", reward=2.5),
        Verdict(parsed=False, correct=False, answer=None, thinking=""),
    )
    completions = (Completion(text="Three <b>cars</b>\nAnswer: 3", token_ids=(1, 2)), Completion(text="none\x1b[2J", token_ids=(1,)))
    for step in (1, 2):
        groups = [
            Group(sample=Sample(id=f"s{k}", question="How many?", answer="3", images=images), completions=completions, verdicts=verdicts)  # type: ignore[arg-type]
            for k, images in enumerate((Image.new("RGB", (5, 4), (step, 0, 0)), ()))
        ]
        explored = Route(mode="explore", branches=(Branch(term="policy", completion=0, advantage=1.0),), reason="1 of 2 correct")
        run.log_rollouts(step, groups, [explored, Route(mode="skip", reason="why not")])
    return run


def test_groups_are_chosen_by_step_mode_and_number(run: RunFolder) -> None:
    assert [(row.step, row.id) for row in run.groups()] == [(1, "s0"), (1, "s1"), (2, "s0"), (2, "s1")]
    assert [(row.step, row.id) for row in run.groups(step=-1, mode="explore")] == [(2, "s0")]
    assert len(run.groups(most=3)) == 3 and run.groups(step=7) == []
    [row] = run.groups(step=1, mode="explore")
    assert [(one.correct, one.reward, one.advantage) for one in row.completions] == [(True, 2.5, 1.0), (False, 0.0, None)]
    assert [Image.open(file).size for file in row.pictures] == [(5, 4)]


def test_groups_are_shown_as_plain_text_and_as_escaped_html(run: RunFolder) -> None:
    shown = repr(run.groups(step=1))
    assert shown.startswith(
        "step 1, explore (1 of 2 correct): How many? -> 3\n    right 2.50 Three <b>cars</b> Answer: 3\n    wrong 0.00 none"
    )
    assert "\x1b" not in shown
    html = run.groups(step=1)._repr_html_()
    assert "Three &lt;b&gt;cars&lt;/b&gt;" in html and html.count("data:image/png;base64,") == 1


def test_groups_of_a_run_without_rollouts(tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path / "run", Config()).groups(step=-1) == []
