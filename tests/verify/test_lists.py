"""Lists in any order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyme.types import Sample
from dyme.verify.answers.auto import items
from dyme.verify.answers.lists import same_items


def same(prediction: str, target: str, tolerance: float = 0.0) -> bool:
    return same_items(prediction, Sample(id="0", question="", answer=target, answer_kind="list"), tolerance)


@pytest.mark.parametrize(
    ("prediction", "target"),
    [
        ("c, b and a", "a, b, c"),
        ("2, 1", "1, 2"),
        ("2, 1000", "1,000, 2"),
        ("Bolivia; Germany", "[Germany, Bolivia]"),
        ("a, b, and c", "a, b, c"),
        ("a", "A."),
    ],
)
def test_the_same_items(prediction: str, target: str) -> None:
    assert same(prediction, target) and same(target, prediction)


@pytest.mark.parametrize(
    ("prediction", "target"), [("", "a"), ("a", "a, b"), ("a, b, b", "a, a, b"), ("a, b, c", "a, b"), ("1, 2.05", "1, 2")]
)
def test_other_items(prediction: str, target: str) -> None:
    assert not same(prediction, target) and not same(target, prediction)


def test_tolerance_holds_for_the_best_pairing() -> None:
    assert same("204, 99", "100, 200", 0.05) and same("fig, 204, 99", "100, fig, 200", 0.05)
    assert not same("204, 90", "100, 200", 0.05) and not same("100, 100", "100, 200", 0.05)


@given(st.lists(st.integers(-1000, 1000).map(str) | st.sampled_from(["fig", "oat", "yam"]), min_size=1, max_size=6), st.randoms())
def test_order_does_not_count(parts: list[str], rng: object) -> None:
    shuffled = list(parts)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert same(", ".join(shuffled), ", ".join(parts)) and len(items("; ".join(parts))) == len(parts)
    assert not same(", ".join([*shuffled, "nut"]), ", ".join(parts))
