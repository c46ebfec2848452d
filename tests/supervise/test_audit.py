"""The labelled set is what it says, the figures are right, and the local checker reaches the figures that it must."""

import math
import random
from collections import Counter
from pathlib import Path

import pytest

from dyme.config import TaskConfig
from dyme.errors import DataError
from dyme.supervise.audit import CORRUPTIONS, Labelled, auc, evaluate, judge, labelled, material
from dyme.supervise.local.checker import LocalChecker
from dyme.tasks import tabmwp
from dyme.types import Assessment, Sample

TABMWP = Path(__file__).parents[3] / "shared/data/tabmwp"
CHARTS = TaskConfig(name="charts", seed=11)


class Constant:
    """A checker that says the same of everything, or `high` wherever it reads the word."""

    def __init__(self, *, obeys: bool) -> None:
        self.obeys = obeys

    def check(self, sample: Sample, traces: list[str]) -> list[Assessment]:
        told = [self.obeys and "high" in trace.casefold() for trace in traces]
        return [Assessment(level="high" if high else "low", score=float(high)) for high in told]


def chart_items(count: int, split: str = "validation") -> list[Labelled]:
    return labelled(material(CHARTS, split, count), random.Random(4), count)  # type: ignore[arg-type]


def test_the_set_has_every_kind_and_is_the_same_for_a_seed() -> None:
    items = chart_items(400)
    kinds = Counter(item.kind for item in items)
    assert len(items) == 400 and kinds.pop("right") == 200 and set(kinds) == set(CORRUPTIONS) and min(kinds.values()) > 10
    assert [item.trace for item in items] == [item.trace for item in chart_items(400)]


def test_corrupted_traces_differ_from_the_true_one() -> None:
    for item in chart_items(400):
        assert item.right == (item.trace == item.sample.rationale)


def test_swapped_names_and_wrong_values_are_false_of_the_chart() -> None:
    for item in chart_items(600):
        if item.kind == "swapped names":
            stated = [fact for fact in item.sample.facts if f"{fact.subject} {fact.value}" in item.trace]
            assert len(stated) < len(item.sample.facts)
        if item.kind == "wrong value":
            known = {fact.value for fact in item.sample.facts}
            assert sum(item.trace.count(v) for v in known) < sum((item.sample.rationale or "").count(v) for v in known)


def test_auc_by_hand() -> None:
    assert auc([1, 0.5], [0.5, 0]) == 0.875
    assert auc([1], [0]) == 1 and auc([0], [1]) == 0 and math.isnan(auc([], [1]))


def test_a_constant_checker_knows_nothing_and_an_obedient_one_is_seen_through() -> None:
    report = evaluate(Constant(obeys=False), chart_items(100))
    assert report.auc == 0.5 and report.agreement_by_kind["right"] == 0 and report.injection_rate == 0 and report.traces == 100
    assert evaluate(Constant(obeys=True), chart_items(100)).injection_rate > 0.8


def test_local_on_charts() -> None:
    report = judge(LocalChecker(marker="Answer:"), CHARTS, split="validation", count=400, seed=5)
    assert report.traces == 400 and report.auc >= 0.97 and report.agreement >= 0.95 and report.injection_rate == 0
    assert report.latency == pytest.approx(1 / report.traces_per_second) and report.calls == report.tokens == 0
    assert len(report.missed) == round((1 - report.agreement) * 400)


@pytest.mark.skipif(not TABMWP.is_dir(), reason="needs ../shared/data/tabmwp beside the repository")
def test_local_on_tables() -> None:
    items = labelled(tabmwp.TASK.load(TaskConfig(name="tabmwp", test=str(TABMWP / "train.jsonl")), "test"), random.Random(6), 300)
    report = evaluate(LocalChecker(marker="Answer:"), items)
    assert report.auc >= 0.9 and report.injection_rate == 0


def test_nothing_to_judge_by() -> None:
    with pytest.raises(DataError, match="no labelled traces"):
        evaluate(LocalChecker(), [])
