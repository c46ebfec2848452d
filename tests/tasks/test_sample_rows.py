"""Each task proves itself on real rows: its gold answers are right by its own verifier, the answers of other rows are wrong.

The rows lie beside the repository, are not part of it, and nothing of them is written into it.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from runs import ROOT

from dyme.config import TaskConfig
from dyme.data.prepare import Report, prepare
from dyme.tasks import TASKS
from dyme.types import Sample
from dyme.verify.answers import judge

DATA = ROOT.parent / "shared/data"
ROWS = {
    "chartqa": ("chartqa", {"train": 939, "test": 251}),
    "vqa_rad": ("vqa_rad", {"train": 863, "test": 290}),
    "geometry3k": ("geometry", {"train": 200, "test": 60}),
    "mathverse": ("geometry", {"test": 120}),
    "tabmwp": ("tabmwp", {"train": 160, "test": 40}),
    "gsm8k": ("gsm8k", {"train": 240, "test": 60}),
}
"""Folder -> its task, and how many rows it has."""
EXCEPTIONS: dict[str, set[str]] = {}
"""Folder -> ids of rows whose gold answer their own verifier does not take, or that another row's different answer answers; why."""

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there: real rows are not shipped with the project")


def prepared(name: str, out: Path) -> Report:
    task = ROWS[name][0]
    published = TASKS[task].published
    assert published is not None
    return prepare(published, TaskConfig(name=task), str(DATA / name), out)


def direct(name: str) -> list[Sample]:
    """All samples of a folder, its files named one by one, as recipes that do not prepare have it."""
    task, counts = ROWS[name]
    files = {"train": "train.jsonl", "test": "eval.jsonl"}
    found = []
    for split in counts:
        samples = TASKS[task].load(TaskConfig(name=task, test=str(DATA / name / files[split])), "test")
        assert len(samples) == counts[split]
        found += samples
    return found


def apart(one: str, other: str) -> bool:
    """Whether two answers differ whichever way they are looked at: as numbers by more than a tenth, or as words without one in common."""
    try:
        a, b = (float(text.translate({ord(c): None for c in "$%, "})) for text in (one, other))
        return abs(a - b) > 0.1 * max(abs(a), abs(b))
    except ValueError:
        return not {*one.casefold().split()} & {*other.casefold().split()}


def wrong(sample: Sample, others: list[Sample], rng: random.Random) -> str | None:
    """Another option, or the answer of another row with the same kind of answer."""
    if sample.choices:
        return rng.choice([choice for k, choice in enumerate("ABCDEFGHIJ"[: len(sample.choices)]) if choice not in sample.answer])
    rng.shuffle(others)
    return next((other.answer for other in others if apart(sample.answer, other.answer)), None)


@pytest.mark.parametrize("name", ROWS)
def test_gold_answers_are_right_and_others_are_wrong(name: str) -> None:
    task, samples = TASKS[ROWS[name][0]], direct(name)
    rng, missed = random.Random(name), []
    kinds = {
        sample.answer_kind: [one for one in samples if one.answer_kind == sample.answer_kind and not one.choices] for sample in samples
    }
    for sample in samples:
        gold = judge(sample.answer, sample, tolerance=task.tolerance)
        other = wrong(sample, list(kinds[sample.answer_kind]), rng)
        assert other is not None
        if not gold.correct or gold.score != 1 or judge(other, sample, tolerance=task.tolerance).correct:
            missed.append((sample.id, sample.answer, other))
    assert {sample_id for sample_id, *_ in missed} == EXCEPTIONS.get(name, set()), missed


@pytest.mark.parametrize("name", ROWS)
def test_prepared_rows_are_the_same_samples(name: str, tmp_path: Path) -> None:
    report = prepared(name, tmp_path / "out")
    assert not report.dropped
    task, counts = ROWS[name]
    assert sum(report.rows.values()) == sum(counts.values())
    config = TaskConfig(name=task, path=str(tmp_path / "out"))

    def told(samples: list[Sample]) -> list[object]:
        fields = [
            (s.question, s.answer, s.answer_kind, s.choices, s.unit, s.rationale, s.kind, s.facts, [i.key for i in s.images])
            for s in samples
        ]
        return sorted(fields, key=repr)

    assert told([sample for split in report.rows for sample in TASKS[task].load(config, split)]) == told(direct(name))
    assert not report.images or report.images == len(list((DATA / name / "images").iterdir()))
    splits = {split: {image.key for sample in TASKS[task].load(config, split) for image in sample.images} for split in report.rows}
    assert not splits.get("train", set()) & splits.get("validation", set())


def test_what_the_rows_bring() -> None:
    tables, diagrams, texts = direct("tabmwp"), direct("geometry3k"), direct("gsm8k")
    assert all(sample.facts and sample.rationale for sample in tables)
    assert all(sample.facts for sample in diagrams)
    assert all(sample.rationale and "<<" not in sample.rationale and not sample.images for sample in texts)
    assert {sample.answer_kind for sample in direct("vqa_rad")} == {"yes_no", "open", "text"}
    assert {sample.kind for sample in direct("vqa_rad")} == {"closed", "open"}
    assert {sample.answer_kind for sample in direct("mathverse")} == {"choice", "math"}
    assert "given" not in {fact.subject for sample in diagrams for fact in sample.facts}
