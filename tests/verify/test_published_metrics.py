"""The table of docs/metrics.md: every verdict recomputed, every kind and trap in it, and what is said of the published metrics."""

from __future__ import annotations

from collections import Counter

import pytest
from published_metrics import (
    TASKS,
    Pair,
    closed,
    fill,
    gsm8k,
    open_recall,
    pairs,
    reference,
    relaxed,
    sample_of,
    soft_vqa,
    tabmwp,
    verdicts,
)
from runs import ROOT

from dyme.verify.answers import VERIFIERS, judge
from dyme.verify.answers.vqa import any_of

DOCUMENT = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
TABLE = pairs(DOCUMENT)


def test_every_verdict_is_the_computed_one() -> None:
    for line, (pair, cells) in TABLE.items():
        assert tuple(cells[4:7]) == verdicts(pair), f"line {line + 1}: {pair}"
    assert fill(DOCUMENT) == DOCUMENT


def test_the_table_is_large_and_holds_every_task_and_both_verdicts() -> None:
    assert len(TABLE) >= 120 and DOCUMENT.count("\n| ") - DOCUMENT.count("\n| kind") >= len(TABLE)
    assert len({pair for pair, _ in TABLE.values()}) == len(TABLE)
    ours = Counter((pair.task, cells[4].split(",")[0]) for pair, cells in TABLE.values())
    assert set(ours) == {(task, verdict) for task in TASKS for verdict in ("right", "wrong")}
    kinds = {sample_of(pair).answer_kind for pair, _ in TABLE.values()}
    assert kinds == set(VERIFIERS)
    assert "| ? |" not in DOCUMENT


@pytest.mark.parametrize(("prediction", "target"), [("1,000", "1000"), ("$5", "5"), ("5%", "5"), ("0.0", "0")])
def test_the_reference_codes_mistakes_are_in_it(prediction: str, target: str) -> None:
    assert verdicts(Pair("chartqa", "", target, prediction)) == ("right", "wrong", "wrong")
    assert Pair("chartqa", "", target, prediction) in [pair for pair, _ in TABLE.values()]


def test_where_ours_differs_from_the_published_metric_the_table_says_why() -> None:
    differing = [(pair, cells) for pair, cells in TABLE.values() if cells[5] not in ("-", cells[4].split(", ")[-1])]
    assert len(differing) > 40 and [pair for pair, cells in differing if not cells[7]] == []


def test_published_metrics_by_hand() -> None:
    assert relaxed("105", "100") and not relaxed("105.1", "100") and relaxed("5%", "0.05") and not relaxed("0.0", "0")
    assert relaxed("yes", "Yes") and not relaxed("yes ", "Yes")
    assert gsm8k("1,800 dollars", "1800") and not gsm8k("18.0", "18") and not gsm8k("x", "y")
    assert tabmwp("$1,000.00", "1000", "") and tabmwp("1/3", "0.333", "") and tabmwp("4 racks", "4", "racks")
    assert not tabmwp("1/0", "1", "")
    assert open_recall("the lung", "right lung") == 0.5 and open_recall("lung lung lung", "right lung") == 0.75
    assert open_recall("", "x") == open_recall("x", "") == 0.0
    assert closed("Yes, it is", "yes") and closed("normal", "no") and not closed("diffuse", "diffuse")
    assert soft_vqa("a", ("a", "a", "b")) == pytest.approx(2 / 3) and soft_vqa("a", ("a",) * 10) == 1.0


def test_any_of_ten_is_the_references_form() -> None:
    for pair, _ in TABLE.values():
        if pair.task == "a-okvqa":
            sample = sample_of(pair)
            assert any_of(pair.prediction, sample.answers) >= reference(pair.prediction, sample)
            assert any_of(pair.prediction, sample.answers) == (judge(pair.prediction, sample, tolerance=0.0).score > 0)


def test_on_plain_numbers_ours_is_relaxed_accuracy() -> None:
    numbers = ["1", "1.04", "1.05", "1.06", "-1", "95", "100", "104", "105", "106", "2010", "2100", "0.57", "0.6"]
    for target in numbers:
        for prediction in numbers:
            ours, published, _ = verdicts(Pair("chartqa", "", target, prediction))
            exact = published == "right" and (target, ours) in [("2010", "wrong, 1.00"), ("2100", "wrong, 1.00")]  # years
            assert ours == published or exact or abs(abs(float(prediction) / float(target) - 1) - 0.05) < 1e-9, (prediction, target)
