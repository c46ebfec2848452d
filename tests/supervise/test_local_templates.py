"""The template pool: slots, bounds, quality, and a state that comes back exactly."""

import json
import random

import pytest

from dyme.errors import RunError
from dyme.supervise.local.checker import LocalChecker
from dyme.supervise.local.refiner import LocalRefiner
from dyme.supervise.local.templates import TemplatePool, fill, generalise
from dyme.tasks import charts
from dyme.types import Assessment, Fact, Sample

DIFF = Sample(
    id="1",
    question="How much larger is fig than oat?",
    answer="69",
    facts=(Fact("ham", "47"), Fact("fig", "82"), Fact("oat", "13")),
    kind="diff",
)
OTHER = Sample(
    id="2",
    question="How much larger is pea than rye?",
    answer="21",
    facts=(Fact("rye", "21"), Fact("yam", "9"), Fact("pea", "42")),
    kind="diff",
)
TRACE = "Observation: ham 47, fig 82, oat 13. Reasoning: fig 82, oat 13, 82 - 13 = 69."
TEXT = "Observation: {facts}. Reasoning: {name1} {value1}, {name2} {value2}, {value1} - {value2} = {result1}."


def graded(score: float) -> Assessment:
    return Assessment(level="high" if score >= 0.8 else "low", score=score)


def test_a_trace_becomes_a_template_and_back() -> None:
    assert generalise(DIFF, TRACE) == TEXT
    pool = TemplatePool()
    assert pool.add(DIFF, TRACE, graded(1.0))
    template = pool.draw(OTHER, random.Random(0))
    assert template and template.text == TEXT and template.kind == "diff"
    assert fill(template, DIFF) == TRACE
    assert fill(template, OTHER) == "Observation: rye 21, yam 9, pea 42. Reasoning: pea 42, rye 21, 42 - 21 = 21."


@pytest.mark.parametrize(
    "trace",
    [
        "Observation: fig 82, oat 13. Reasoning: 82 - 13 = 69, 5 bars.",
        "Observation: ham first. fig 82, oat 13. Reasoning: 82 - 13 = 69.",
        "Observation: none. Reasoning: no fact.",
        "Observation: {a} fig 82, oat 13. Reasoning: 82 - 13 = 69.",
        "Observation: fig 82, oat 13. Reasoning: fig is not oat, 82 - 13 = 69.",
        "Observation: fig 82, oat 13. Reasoning: 82 - 13 = 69. The sky is green.",
    ],
)
def test_what_keeps_something_of_its_sample_is_no_template(trace: str) -> None:
    assert generalise(DIFF, trace) is None


def test_a_free_form_trace_is_no_template() -> None:
    assert generalise(DIFF, "Observation: fig 82, oat 13. Reasoning: 82 - 13 = 69.") is not None
    assert generalise(DIFF, "I see fig 82, oat 13, so 82 - 13 = 69.") is None
    assert generalise(DIFF, "Observation: fig 82, oat 13, so 82 - 13 = 69.") is None


def test_only_high_traces_are_taken_and_the_best_are_kept() -> None:
    pool = TemplatePool(per_kind=2)
    assert not pool.add(DIFF, TRACE, graded(0.7))
    wordings = [f"{head}: fig 82, oat 13. Work: 82 - 13 = 69." for head in ("Facts", "Values", "Observation")]
    assert [pool.add(DIFF, trace, graded(score)) for trace, score in zip(wordings, (0.85, 0.95, 0.9), strict=True)] == [True, True, True]
    assert len(pool) == 2
    assert {text.split()[0] for _, text, _, _ in pool.state()["templates"]} == {"Values:", "Observation:"}
    assert not pool.add(DIFF, wordings[0], graded(0.85))


def filled_pool(seed: int) -> TemplatePool:
    pool, checker, refiner = TemplatePool(), LocalChecker(), LocalRefiner(marker="Answer:")
    for about in charts.samples("train", 120, traces="high", seed=seed):
        for trace in (about.rationale or "", refiner.refine(about, None)):
            pool.add(about, trace, checker.check(about, [trace])[0])
    return pool


def test_the_same_traces_give_the_same_pool_and_its_state_comes_back() -> None:
    pool, again = filled_pool(1), filled_pool(1)
    assert pool.state() == again.state() and len(pool) > 9
    restored = TemplatePool()
    restored.restore(json.loads(json.dumps(pool.state())))
    assert restored.state() == pool.state()
    rows = charts.samples("validation", 60)
    assert [pool.draw(row, random.Random(k)) for k, row in enumerate(rows)] == [
        restored.draw(row, random.Random(k)) for k, row in enumerate(rows)
    ]


def test_the_refiner_stays_true_with_whatever_is_drawn() -> None:
    pool, checker, refiner = filled_pool(3), LocalChecker(), LocalRefiner(marker="Answer:")
    rng = random.Random(0)
    for about in charts.samples("validation", 150):
        assert checker.check(about, [refiner.refine(about, pool.draw(about, rng))])[0].level == "high"


def test_an_empty_pool_and_a_broken_state() -> None:
    assert TemplatePool().draw(DIFF, random.Random(0)) is None
    with pytest.raises(RunError, match="start with an empty pool"):
        TemplatePool().restore({"per_kind": 8, "templates": [["diff"]]})
