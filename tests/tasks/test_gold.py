"""Every row of the real samples proves its kind: its own answer gets full marks, another row's answer none.

A word that two open answers share has its recall; what counts as none there is that the answer is not correct. Kinds, units and
choices are those that the tasks' loaders give; exceptions are listed by row, with the reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from runs import ROOT

from dyme.config import TaskConfig
from dyme.data.rows import sample_of
from dyme.tasks import TASKS
from dyme.types import Judgement, Sample
from dyme.verify.answers import judge
from dyme.verify.answers.choice import chosen
from dyme.verify.rules import check_answers

DATA = ROOT.parent / "shared/data"
SHIFTS = (1, 7, 31, 67)
"""Another row's answer is that of the row so much further on."""
ROWS = {"chartqa": 1190, "vqa_rad": 1153, "geometry3k": 260, "mathverse": 120, "tabmwp": 200, "gsm8k": 300}
TOLERANCE = {"chartqa": 0.05}
SAME_MEANING = {
    ("geometry3k/train:131", "4/3"): "the answer is written 1.333: the same number to its decimals",
    ("mathverse/eval:74", "$9 \\pi \\mathrm{cm}^{2}$"): "the answer is Area = 9 pi cm^2: the same, named",
    ("mathverse/eval:41", "$h=58$"): "the answer is 58: the same, named",
}
"""Pairs of a row and another row's answer that differ in writing alone."""


def rows(task: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for split in ("train", "eval"):
        file = DATA / task / f"{split}.jsonl"
        lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
        yield from ((f"{task}/{split}:{number}", json.loads(line)) for number, line in enumerate(lines, start=1))


def sample(task: str, name: str, row: dict[str, Any]) -> Sample:
    """The row as its task loads it."""
    loader = {"geometry3k": "geometry", "mathverse": "geometry"}.get(task, task)
    published = TASKS[loader].published
    assert published is not None
    return replace(sample_of(published.normalise(row, name, TaskConfig(name=loader)), DATA / task, name, name), id=name)


def read(task: str) -> list[Sample]:
    return [sample(task, name, row) for name, row in rows(task)]


def test_kinds_are_those_that_the_document_names() -> None:
    def kinds(task: str) -> dict[str, int]:
        return dict(Counter(sample.answer_kind for sample in read(task)))

    assert kinds("tabmwp") == {"number": 147, "choice": 53} and kinds("chartqa") == {"auto": 1190} and kinds("gsm8k") == {"number": 300}
    assert set(kinds("vqa_rad")) == {"yes_no", "text", "open"} and kinds("geometry3k") == {"math": 260}
    assert set(kinds("mathverse")) == {"choice", "math"}


def test_the_text_of_every_choice_names_it() -> None:
    several = [sample for task in ("mathverse", "tabmwp") for sample in read(task) if sample.choices]
    assert len(several) > 60
    for gold in several:
        for index, text in enumerate(gold.choices):
            for said in (text, f"{text}.", f"**{text}**", f"{'ABCDEFGH'[index]}. {text}", rf"\boxed{{{text}}}"):
                assert chosen(said, gold.choices) == {index}, (gold.id, said)


def same_at_sight(one: str, other: str, tolerance: float) -> bool:
    """Whether two gold answers plainly are one: the same letters, or numbers within the tolerance."""
    try:
        a, b = float(one.replace(",", "")), float(other.replace(",", ""))
    except ValueError:
        return one.casefold().strip(" .") == other.casefold().strip(" .")
    return abs(a - b) <= tolerance * abs(b) * (1 + 1e-12)


pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there: real rows are not shipped with the project")


@pytest.mark.parametrize("task", ROWS)
def test_every_gold_answer_gets_full_marks(task: str) -> None:
    samples = read(task)
    assert len(samples) == ROWS[task]
    check_answers(samples)
    tolerance = TOLERANCE.get(task, 0.0)
    assert [s.id for s in samples if judge(s.answer, s, tolerance=tolerance) != Judgement(True, 1.0)] == []


@pytest.mark.parametrize("task", ROWS)
def test_another_rows_answer_gets_none(task: str) -> None:
    samples, tolerance = read(task), TOLERANCE.get(task, 0.0)
    tried, accepted = 0, set()
    for index, gold in enumerate(samples):
        for shift in SHIFTS:
            other = samples[(index + shift) % len(samples)].answer
            if not same_at_sight(other, gold.answer, tolerance):
                tried += 1
                if judge(other, gold, tolerance=tolerance).correct:
                    accepted.add((gold.id, other))
    assert accepted == {pair for pair in SAME_MEANING if pair[0].startswith(task)}
    assert tried > len(samples)
