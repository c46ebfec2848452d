"""Figures and their intervals by hand, and how items are counted."""

from __future__ import annotations

import itertools
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from items import item
from PIL import Image

from dyme.evaluation.items import Drawn, Item, picture_of
from dyme.evaluation.metrics import Z95, clustered, figures, mean, mean_score, pass_at_k, sampled_figures, share, t95, wilson
from dyme.pictures import ImageFile
from dyme.types import Fact, Sample

# Intervals


def test_wilson_by_hand() -> None:
    found = wilson(8, 10)  # Wilson, 1927: (0.8 + z2/20) / (1 + z2/10) -+ ...
    assert (found.value, found.n) == (0.8, 10)
    assert (found.low, found.high) == pytest.approx((0.490162, 0.943318), abs=1e-6)
    none, every = wilson(0, 10), wilson(10, 10)
    assert (none.low, every.high) == (0, 1)
    assert none.high == pytest.approx(Z95**2 / (10 + Z95**2))
    assert every.low == pytest.approx(1 - none.high)
    empty = wilson(0, 0)
    assert (empty.value, empty.low, empty.high, empty.n) == (0, 0, 1, 0)


def test_wilson_covers_what_it_says() -> None:
    for p in (0.02, 0.3, 0.5):
        chance = [math.comb(50, k) * p**k * (1 - p) ** (50 - k) for k in range(51)]
        covered = sum(c for k, c in enumerate(chance) if wilson(k, 50).low <= p <= wilson(k, 50).high)
        assert 0.92 < covered < 0.99


def test_mean_by_hand() -> None:
    found = mean([1, 2, 3, 4])
    half = Z95 * math.sqrt(5 / 3 / 4)
    assert (found.value, found.low, found.high, found.n) == pytest.approx((2.5, 2.5 - half, 2.5 + half, 4))
    assert mean([7]) == mean([7.0])
    assert (mean([7]).low, mean([]).n) == (7, 0)


def test_clusters_of_one_are_nearly_independent() -> None:
    hits = [1] * 30 + [0] * 70
    found, plain = clustered(hits, [1] * 100), wilson(30, 100)
    assert (found.value, found.n) == (0.3, 100)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.001)


def test_clusters_that_agree_count_once() -> None:
    """100 prompts whose 8 completions are all alike say no more than 100 completions."""
    alike = clustered([8] * 30 + [0] * 70, [8] * 100)
    plain = wilson(30, 100)
    assert alike.n == 800
    assert (alike.low, alike.high) == pytest.approx((plain.low, plain.high), abs=0.002), "wider by the ratio of t at 99 and 799 degrees"
    assert alike.high - alike.low > plain.high - plain.low
    rng = random.Random(0)
    apart = clustered([sum(rng.random() < 0.3 for _ in range(8)) for _ in range(100)], [8] * 100)
    assert apart.high - apart.low == pytest.approx(wilson(240, 800).high - wilson(240, 800).low, rel=0.15)


def test_clusters_without_spread_still_have_an_interval() -> None:
    none = clustered([0] * 10, [8] * 10)
    assert (none.value, none.low) == (0, 0)
    assert none.high == wilson(0, 10).high
    assert clustered([], []) == clustered([0], [0]) == wilson(0, 0)
    assert clustered([3], [3]).low == wilson(1, 1).low


def test_clusters_by_hand() -> None:
    """Shares 1/2, 2/2, 0/4 of 8: ratio 3/8, residuals 1/4, 5/4, -3/2 with leverages 1/4, 1/4, 1/2; 64/24 effective clusters, so t at 1."""
    found = clustered([1, 2, 0], [2, 2, 4])
    variance = ((1 / 16 + 25 / 16) / 0.75 + 9 / 4 / 0.5) / 64
    n, z2 = 8 * (15 / 64 / 7) / variance * (t95(7) / t95(1)) ** 2, Z95**2
    centre, half = (3 / 8 + z2 / 2 / n) / (1 + z2 / n), Z95 * math.sqrt(15 / 64 / n + z2 / 4 / n**2) / (1 + z2 / n)
    assert (found.value, found.low, found.high, found.n) == pytest.approx((3 / 8, max(0, centre - half), centre + half, 8))


def test_students_t_by_the_tables() -> None:
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 9: 2.262, 10: 2.228, 30: 2.042, 120: 1.980}
    assert all(t95(freedom) == pytest.approx(value, abs=0.005) for freedom, value in table.items())
    assert t95(10**6) == pytest.approx(Z95, abs=1e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 57, 400])
def test_one_question_a_picture_is_as_it_was(n: int) -> None:
    """To the bit, whether the pictures are named, unknown or mixed."""
    for right in {0, 1, n // 3, n - 1, n}:
        hits = [1] * right + [0] * (n - right)
        names = [f"picture {k}" if k % 2 else "" for k in range(n)]
        assert share(hits) == share(hits, clusters=names) == mean_score(hits, names) == wilson(right, n)
    values = [float(k % 7) for k in range(n)]
    spread = math.sqrt(math.fsum((v - mean(values).value) ** 2 for v in values) / max(1, n - 1) / n)
    assert mean(values, names).high - mean(values).value == pytest.approx(Z95 * spread)


@pytest.mark.parametrize("correlation", [0.0, 0.2, 0.4])
@pytest.mark.parametrize(("pictures", "most", "accuracy"), [(100, 8, 0.3), (40, 5, 0.5), (60, 3, 0.9)])
def test_questions_about_one_picture_are_covered(correlation: float, pictures: int, most: int, accuracy: float) -> None:
    """400 draws see a coverage of 95 % as 92 to 98 %; independent questions would have 76 to 91 % at correlation 0.4."""
    rng, held = random.Random(f"{correlation}{pictures}"), 0
    spread = (1 - correlation) / correlation if correlation else 0
    for _ in range(400):
        hits, names = [], []
        for picture in range(pictures):
            chance = rng.betavariate(accuracy * spread, (1 - accuracy) * spread) if correlation else accuracy
            for _ in range(1 + picture % most):
                hits.append(rng.random() < chance)
                names.append(f"{picture}")
        found = share(hits, clusters=names)
        held += found.low <= accuracy <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_every_figure_of_an_evaluation_is_clustered_by_picture() -> None:
    """Ten pictures with four questions each, alike in all that is counted: no interval may be narrower than ten questions have it."""
    parts = {"parsed": True, "statements": (1, 2)}
    items = [
        item(4 * k + j, style, float(k % 2), picture=f"{k}", finished=k % 2 == 0, tokens=3 + k, kind="a" if k < 5 else "b", **parts,
             answer_kind="open" if k < 5 else "choice", sampled=Drawn(samples=4, correct=4 * (k % 2), parsed=2 * (k % 2), finished=4))
        for k in range(10) for j in range(4) for style in ("think", "direct")
    ]  # fmt: skip

    def widths(own: list[Item]) -> dict[str, float]:
        found = figures(own)
        parts = [("", found["metrics"]), *found["by_kind"].items(), *found["by_answer_kind"].items()]
        return {f"{kind} {name}": f["high"] - f["low"] for kind, part in parts for name, f in part.items()}

    together, apart = widths(items), widths([replace(i, picture="") for i in items])
    alike = {name for name in together if name.endswith(("true_statements", "format_rate"))}
    assert {name for name in together if not together[name] > 1.7 * apart[name]} <= alike
    assert all(together[name] >= apart[name] for name in alike)


def test_a_picture_is_known_by_its_content_and_facts_stand_in_for_it(tmp_path: Path) -> None:
    plain, files = Sample(id="a", question="?", answer="1"), [tmp_path / name for name in ("a.png", "b.png", "c.png")]
    for file, shade in zip(files, (1, 1, 2), strict=True):
        Image.new("L", (9, 9), shade).save(file)
    one, same, other = (picture_of(replace(plain, images=(ImageFile(file),))) for file in files)
    assert one == same != other and len(one) == 16
    facts, others = replace(plain, facts=(Fact("fig", "8"),)), replace(plain, facts=(Fact("fig", "9"),))
    assert picture_of(facts) == picture_of(replace(facts, id="b", question="other")) != picture_of(others)
    assert picture_of(plain) == ""


# Figures


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_pass_at_k_is_the_mean_over_all_draws(n: int) -> None:
    for correct, k in itertools.product(range(n + 1), range(1, n + 1)):
        marks = [i < correct for i in range(n)]
        draws = list(itertools.combinations(marks, k))
        assert pass_at_k(n, correct, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def drawn(*correct: int, samples: int = 4) -> list[Item]:
    return [item(n, sampled=Drawn(samples=samples, correct=k, parsed=k, finished=samples)) for n, k in enumerate(correct)]


def test_sampled_figures() -> None:
    found = sampled_figures(drawn(0, 0, 1, 2, 4))
    values = {name: figure.value for name, figure in found.items()}
    assert values == pytest.approx(
        {
            "pass_at_1": 7 / 20,
            "pass_at_2": (0.5 + 5 / 6 + 1) / 5,
            "pass_at_4": 0.6,
            "sampled_format_rate": 7 / 20,
            "all_wrong": 0.4,
            "all_right": 0.2,
            "mixed": 0.4,
        }
    )
    assert {figure.n for figure in found.values()} == {5}
    assert all(figure.low <= figure.value <= figure.high for figure in found.values())


def test_mean_score_by_hand() -> None:
    assert mean_score([1.0, 0.0, 1.0, 1.0]) == wilson(3, 4), "binary scores are an accuracy"
    soft = mean_score([1.0, 0.5, 0.0, 1.0])
    half = Z95 * math.sqrt((0.375**2 * 2 + 0.125**2 + 0.625**2) / 3 / 4)
    assert (soft.value, soft.low, soft.high, soft.n) == pytest.approx((0.625, 0.625 - half, 1.0, 4))
    assert mean_score([]).n == 0


# Items


def values(found: dict[str, Any]) -> dict[str, float]:
    return {name: figure["value"] for name, figure in found.items()}


def test_format_cut_off_and_unparsed_are_all_completions() -> None:
    cut = {"parsed": False, "answer": None}
    items = [item(0, score=1.0), item(1), item(2, finished=False, **cut), item(3, **cut), item(4, **cut)]
    items += [item(0, "direct", 1.0), item(1, "direct", finished=False, parsed=False)]
    metrics = values(figures(items)["metrics"])
    assert (metrics["format_rate"], metrics["truncated"], metrics["unparsed"]) == (2 / 5, 1 / 5, 2 / 5)
    assert (metrics["think_accuracy"], metrics["direct_accuracy"], metrics["direct_truncated"]) == (1 / 5, 1 / 2, 1 / 2)
    assert "think_score" not in metrics, "the metric is the accuracy"
    assert "pass_at_1" not in metrics


@pytest.mark.parametrize(("style", "other"), [("think", "direct"), ("direct", "think")])
def test_one_style_alone(style: str, other: str) -> None:
    found = figures([item(0, style, 1.0, kind="a"), item(1, style, kind="b", answer_kind="open")])
    text = json.dumps(found)
    assert f"{style}_accuracy" in text
    assert f"{other}_" not in text
    assert ("format_rate" in text) == (style == "think")
    assert [e["correct"] for e in found["examples"]] == [True, False]


def test_true_statements_are_clustered_by_completion() -> None:
    items = [item(0, statements=(2, 2)), item(1, statements=(0, 1)), item(2, statements=(0, 0)), item(3), item(3, "direct")]
    found = figures(items)["metrics"]["true_statements"]
    assert (found["value"], found["n"]) == (2 / 3, 3)
    assert found["low"] < 2 / 3 < found["high"]
    assert figures([item(0)])["metrics"]["true_statements"]["n"] == 0, "no facts, no statement about them"


def test_closed_accuracy_and_open_recall() -> None:
    """Three closed answers of two kinds, two open ones whose recall is 1/2 and 1; the direct ones are all wrong."""
    kinds = ["yes_no", "yes_no", "choice", "open", "open"]
    items = [
        item(k, "think", score, answer_kind=kind) for k, (kind, score) in enumerate(zip(kinds, (1.0, 0.0, 1.0, 0.5, 1.0), strict=True))
    ]
    items += [item(k, "direct", answer_kind=kind) for k, kind in enumerate(kinds)]
    found = figures(items)
    shown = {kind: values(parts) for kind, parts in found["by_answer_kind"].items()}
    assert shown == {
        "closed": {"think_accuracy": 2 / 3, "direct_accuracy": 0.0},
        "choice": {"think_accuracy": 1.0, "direct_accuracy": 0.0},
        "open": {"think_accuracy": 0.5, "direct_accuracy": 0.0, "think_score": 0.75, "direct_score": 0.0},
        "yes_no": {"think_accuracy": 0.5, "direct_accuracy": 0.0},
    }
    assert found["by_answer_kind"]["closed"]["think_accuracy"]["n"] == 3
    assert (values(found["metrics"])["think_accuracy"], values(found["metrics"])["think_score"]) == (3 / 5, 3.5 / 5)
    assert figures(items[3:5])["by_answer_kind"] == {}, "one kind is no breakdown"
    assert set(figures([i for i in items if i.answer_kind != "choice"])["by_answer_kind"]) == {"open", "yes_no"}


def test_examples_are_the_first_items_with_both_answers() -> None:
    items = [item(k, style, completion=f"{style} {k}") for k in range(30) for style in ("think", "direct")]
    examples = figures(items)["examples"]
    assert len(examples) == 20
    assert (examples[3]["id"], examples[3]["completion"], examples[3]["direct"]) == ("i3", "think 3", "direct 3")
