"""The embedded task proves itself: gold answers get full marks, wrong ones none, and guessing does not pay."""

import random
import re
from collections import Counter, defaultdict
from itertools import islice

import pytest

from dyme.config import RewardConfig, TaskConfig
from dyme.errors import DataError
from dyme.tasks import TASKS
from dyme.tasks.charts import charts, samples
from dyme.tasks.charts.questions import HIGHEST, LOWEST, NAMES, SPLITS, WEIGHTS, split_of
from dyme.tasks.charts.traces import QUALITIES
from dyme.types import Completion, Sample
from dyme.verify.answers import matches
from dyme.verify.rules import Rules, judge_direct, verify
from dyme.verify.thinking import fact_f1, true_statements

RULES = Rules(marker="Answer:", tolerance=0.0, reward=RewardConfig())


def by_kind(items: list[Sample]) -> dict[str, list[Sample]]:
    kinds: dict[str, list[Sample]] = defaultdict(list)
    for item in items:
        kinds[item.kind].append(item)
    return kinds


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("quality", QUALITIES)
def test_gold_is_right_and_other_answers_are_wrong(split: str, quality: str) -> None:
    items = samples(split, 500, traces=quality)
    kinds = by_kind(items)
    rng = random.Random(0)
    for sample in items:
        gold = verify(Completion(text=f"{sample.rationale} Answer: {sample.answer}", token_ids=()), sample, RULES)
        assert gold.correct and gold.answer == sample.answer, sample
        other = rng.choice([s.answer for s in kinds[sample.kind] if s.answer != sample.answer])
        wrong = verify(Completion(text=f"{sample.rationale} Answer: {other}", token_ids=()), sample, RULES)
        assert wrong.parsed and not wrong.correct, (sample, other)
        assert judge_direct(sample.answer, sample, RULES).correct and not judge_direct(other, sample, RULES).correct


def test_high_traces_are_true_and_state_every_fact() -> None:
    for sample in samples("train", 1000, traces="high"):
        assert sample.rationale
        true, stated = true_statements(sample.rationale, sample.facts)
        assert true == stated >= len(sample.facts), sample.rationale
        assert fact_f1(sample.rationale, sample.facts) == 1.0, sample.rationale


def test_qualities_are_ordered_by_truth() -> None:
    scores = {}
    for quality in QUALITIES:
        items = samples("train", 500, traces=quality)
        scores[quality] = sum(fact_f1(s.rationale or "", s.facts) for s in items) / len(items)
    assert scores["low"] < scores["medium"] < scores["high"], scores


def test_splits_share_no_chart() -> None:
    tables = {split: {chart.table for chart in islice(charts(split), 2000)} for split in SPLITS}
    for split in SPLITS:
        assert {split_of(table) for table in tables[split]} == {split}
        assert not any(tables[split] & tables[other] for other in set(SPLITS) - {split})


def test_samples_depend_on_the_seed_alone() -> None:
    assert samples("train", 50, seed=3) == samples("train", 50, seed=3)
    assert samples("train", 20, seed=3) == samples("train", 50, seed=3)[:20]
    assert [s.question for s in samples("train", 50, seed=3)] != [s.question for s in samples("train", 50, seed=4)]
    low, high = samples("train", 50, traces="low"), samples("train", 50, traces="high")
    assert [(s.id, s.question, s.answer, s.facts) for s in low] == [(s.id, s.question, s.answer, s.facts) for s in high]


def test_charts_are_well_formed() -> None:
    items = samples("test", 2000)
    assert len({s.id for s in items}) == len(items)
    assert {s.kind for s in items} == set(WEIGHTS)
    for sample in items:
        names = [fact.subject for fact in sample.facts]
        values = [int(fact.value) for fact in sample.facts]
        assert len(names) in (3, 4) and len(set(names)) == len(names) and set(names) <= set(NAMES)
        assert len(set(values)) == len(values) and all(LOWEST <= value <= HIGHEST for value in values)


def guess(sample: Sample, others: list[Sample], rng: random.Random) -> str:
    """An answer by someone who knows the question type, its answers elsewhere and the names in the chart, but no value."""
    names = [fact.subject for fact in sample.facts]
    if sample.kind == "order":
        return ", ".join(rng.sample(names, len(names)))
    drawn = rng.choice(others).answer
    return f"{rng.choice(names)}, {drawn.split(', ')[1]}" if sample.kind == "which" else drawn


def test_guessing_is_right_less_than_two_percent_of_the_time() -> None:
    train, rng = by_kind(samples("train", 4000)), random.Random(0)
    guesses, hits = Counter[str](), Counter[str]()
    for sample in samples("test", 4000):
        for _ in range(10):
            guesses[sample.kind] += 1
            hits[sample.kind] += matches(guess(sample, train[sample.kind], rng), sample.answer)
    rates = {kind: f"{hits[kind] / guesses[kind]:.2%}" for kind in WEIGHTS}
    assert hits.total() / guesses.total() < 0.02, rates


def test_data_of_another_task_is_refused() -> None:
    for setting in ("path", "train", "test"):
        with pytest.raises(DataError, match=r"draws its own data and takes none \(data/x\); set task.name"):
            TASKS["charts"].load(TaskConfig(**{setting: "data/x"}), "train")


def wrong_values(items: list[Sample]) -> float:
    """The share of the values in high traces' observations that are not the chart's."""
    wrong = total = 0
    for sample in items:
        read = (sample.rationale or "").partition("Reasoning")[0]
        wrong += sum(f"{fact.subject} {fact.value}" not in read for fact in sample.facts)
        total += len(sample.facts)
    return wrong / total


@pytest.mark.parametrize("misread", [0.0, 0.3, 0.5])
def test_misreading_is_a_setting_of_its_own(misread: float) -> None:
    high = TASKS["charts"].load(TaskConfig(traces="high", misread=misread, train_size=1000), "train")
    assert abs(wrong_values(high) - misread) < 0.05  # a misread value at the range's end may be clipped to itself
    low = TASKS["charts"].load(TaskConfig(traces="low", misread=misread, train_size=1000), "train")
    assert low != samples("train", 1000) or misread == 0.3
    assert [(s.question, s.answer) for s in high] == [(s.question, s.answer) for s in low]


def test_misreading_follows_the_quality_unless_it_is_set() -> None:
    assert TASKS["charts"].load(TaskConfig(train_size=100), "train") == samples("train", 100, misread=0.3)
    assert TASKS["charts"].load(TaskConfig(traces="high", train_size=100), "train") == samples("train", 100, traces="high", misread=0.0)


WORK = {
    "diff": r"([a-z]+ \d\d), ([a-z]+ \d\d), \d+ - \d+ = \d+",
    "sum": r"([a-z]+ \d\d), ([a-z]+ \d\d), \d+ \+ \d+ = \d+",
    "range": r"([a-z]+ \d\d), ([a-z]+ \d\d), \d+ - \d+ = \d+",
    "max": r"([a-z]+ \d\d) is the highest",
    "min": r"([a-z]+ \d\d) is the lowest",
    "which": r"([a-z]+ \d\d) is the (?:highest|lowest)",
    "order": r"([a-z]+ \d\d) < ([a-z]+ \d\d)",
    "count": r"([a-z]+ \d\d).* above \d+",
    "read": r"[a-z]+ is \d\d",
}
"""The work of each question type in a trace, with the operands that it names."""


def test_the_work_of_a_trace_names_its_operands() -> None:
    for sample in samples("train", 500, traces="high"):
        found = re.search(rf"Reasoning: {WORK[sample.kind]}", sample.rationale or "")
        assert found, sample.rationale
        facts = {f"{fact.subject} {fact.value}" for fact in sample.facts}
        assert set(found.groups()) <= facts, sample.rationale
