"""Successive halving and edges of grids, on scores of a made-up landscape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from dyme.comparison.design import Tuning
from dyme.comparison.tuning import Outcome, Trial, step_beyond, tune

RATES = [2.5e-4, 5e-4, 1e-3, 2e-3]


def rule(**more: Any) -> Tuning:
    return Tuning(**({"seeds": (100, 101), "first": 1 / 3, "keep": 2, "open_edges": 2} | more))


def finished(
    grid: Mapping[str, Any], score: Callable[[Mapping[str, Any]], float], allowed: Any = lambda settings: True, **more: Any
) -> tuple[Outcome, list[Trial]]:
    """Run all trials, each as it becomes known, one at a time; return the outcome, and the trials in that order."""
    done: dict[str, float] = {}
    ran = []
    while (found := tune(grid, rule(**more), lambda trial: done.get(repr(trial)), allowed)).wanted:
        trial = found.wanted[0]
        assert repr(trial) not in done, "a trial is run once"
        done[repr(trial)] = score(trial.settings)
        ran.append(trial)
    return found, ran


def test_all_at_a_third_then_the_best_two_in_full_on_each_seed() -> None:
    def score(settings: Mapping[str, Any]) -> float:
        return 0.5 - abs(settings["rate"] - 5e-4) + (0.1 if settings["weight"] == "code" else 0)

    found, ran = finished({"rate": RATES, "weight": ["code", "paper"]}, score)
    assert [(t.round, t.share) for t in ran] == [(1, 1 / 3)] * 16 + [(2, 1.0)] * 4
    assert {t.seed for t in ran[:8]} == {100}, "a seed's configurations stand together"
    assert found.survivors == [[{"rate": 5e-4, "weight": "code"}, {"rate": 2.5e-4, "weight": "code"}]] * 2
    assert found.winner == {"rate": 5e-4, "weight": "code"} and found.trials == ran and found.opened == found.edges == []


def test_the_mean_over_the_seeds_decides_and_not_the_first_round() -> None:
    scores = {(1, 100, 1): 0.9, (1, 101, 1): 0.1, (2, 100, 1): 0.6, (2, 101, 1): 0.6, (3, 100, 1): 0.0, (3, 101, 1): 0.0,
              (1, 100, 2): 0.7, (1, 101, 2): 0.7, (2, 100, 2): 0.2, (2, 101, 2): 0.9}  # fmt: skip
    found = tune({"k": ["a", "b", "c"]}, rule(), lambda t: scores["abc".index(t.settings["k"]) + 1, t.seed, t.round], lambda s: True)
    assert found.survivors[0] == [{"k": "b"}, {"k": "a"}], "0.6 before 0.5"
    assert found.winner == {"k": "a"}, "0.7 before 0.55 in full"


def test_few_configurations_need_no_halving() -> None:
    found, ran = finished({"rate": ["a", "b"]}, lambda s: 0.5)
    assert [t.share for t in ran] == [1.0] * 4 and found.winner == {"rate": "a"}, "the first of equals"


def test_a_winner_at_the_edge_opens_values_until_it_stands_inside() -> None:
    found, ran = finished({"rate": RATES, "share": [0.25, 0.5, 1.0]}, lambda s: -abs(s["rate"] - 4e-3) - abs(s["share"] - 0.5))
    assert found.opened == [{"setting": "rate", "value": 4e-3}, {"setting": "rate", "value": 8e-3}]
    assert found.winner == {"rate": 4e-3, "share": 0.5} and not found.edges
    assert [(t.settings["rate"], t.seed, t.share) for t in ran[-4:]] == [(4e-3, 100, 1), (4e-3, 101, 1), (8e-3, 100, 1), (8e-3, 101, 1)]
    found, ran = finished({"rate": [1e-3, 2e-3], "share": [0.2, 0.4]}, lambda s: s["rate"] - s["share"], open_edges=1)
    assert [one["value"] for one in found.opened] == [4e-3, 0.1], "both at once, each with the winner's other value"
    assert [t.settings for t in ran[12:14]] == [{"rate": 4e-3, "share": 0.2}, {"rate": 2e-3, "share": 0.1}]


def test_what_is_still_at_the_edge_is_said() -> None:
    found, _ = finished({"rate": [1e-4, 1e-3]}, lambda s: s["rate"], open_edges=2)
    assert [one["value"] for one in found.opened] == [0.01, 0.1] and found.winner == {"rate": 0.1}
    assert found.edges == [{"setting": "rate", "value": 0.1, "bound": False, "why": "2 values were opened"}]
    found, ran = finished({"rate": [1e-4, 1e-3]}, lambda s: s["rate"], open_edges=0)
    assert len(ran) == 4 and found.edges[0]["why"] == "0 values were opened"
    found, ran = finished({"share": [0.5, 0.9]}, lambda s: s["share"], allowed=lambda s: s["share"] <= 1)
    assert len(ran) == 4 and found.edges == [{"setting": "share", "value": 0.9, "bound": True, "why": "1.62 is out of bounds"}]


def test_words_and_switches_have_no_edge() -> None:
    found, ran = finished({"weight": ["code", "paper"], "on": [True, False], "mixed": ["paper", 0.5], "one": [3]}, lambda s: 0.5)
    assert found.winner and not found.opened and not found.edges


@pytest.mark.parametrize(
    ("values", "edge", "beyond"),
    [([1e-3, 3e-4], 1e-3, 3.33e-3), ([1e-3, 3e-4], 3e-4, 9e-5), ([2, 4, 8], 8, 16), ([2, 4, 8], 2, 1), ([1, 2], 1, 0),
     ([0.0, 0.5], 0.5, 1.0), ([0.0, 0.5], 0.0, -0.5), ([3, 4], 4, 5), ([5e-4, 1e-3, 2e-3], 2e-3, 4e-3)],
)  # fmt: skip
def test_steps_beyond_an_edge_continue_the_ratio(values: list[float], edge: float, beyond: float) -> None:
    assert step_beyond(values, edge) == pytest.approx(beyond)
