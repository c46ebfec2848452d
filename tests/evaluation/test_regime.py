"""The regime of a model and its data, and what the map of measured conditions says of it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from dyme.errors import DataError
from dyme.evaluation.advice import choice
from dyme.evaluation.regime import MAP, Map, Measured, diagnosis, read_map, trace_truth
from dyme.types import Fact, Sample

FACTS = (Fact("fig", "82"), Fact("oat", "13"))


def sample(trace: str | None, facts: tuple[Fact, ...] = FACTS) -> Sample:
    return Sample(id=str(trace), question="How much more is fig than oat?", answer="69", rationale=trace, facts=facts)


def figure(value: float, n: int = 200) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05, "n": n}


def case(passed: float = 0.3, form: float = 0.5, truth: float | None = 0.8, k: int = 8, **changes: Any) -> dict[str, Any]:
    metrics = {f"pass_at_{j}": figure(passed) for j in (1, 2, 4, 8, 16) if j <= k} | {"sampled_format_rate": figure(form)}
    whole = {
        "k": k,
        "metrics": metrics,
        "trace_truth": None if truth is None else figure(truth),
        "traces": 10,
        "facts": True,
        "pictures": True,
    }
    return whole | changes


def measured(name: str, best: str, passed: float, truth: float | None, low: float = 0.01) -> Measured:
    rival = {"dyme": "grpo", "grpo": "dyme"}[best]
    methods = [
        {"arm": arm, "label": arm.upper(), "accuracy": figure(value) | {"seeds": 10}, "gain": {"value": value - 0.2}}
        for arm, value in ((best, 0.8), (rival, 0.7))
    ]
    return Measured(
        name=name, k=8, pass_at={"8": passed}, format_rate=0.5, trace_truth=truth, pictures=True, task="charts", model="embedded",
        budget="4800prompts", base=0.2, methods=methods, leads={rival: {"mean": 0.1, "low": low, "high": 0.19, "seeds": 10}},
    )  # fmt: skip


def known(*conditions: Measured) -> Map:
    return Map(source="a made-up study", measured=conditions)


REGIME, CLEAN = measured("regime", "dyme", 0.3, 0.8), measured("clean", "dyme", 0.3, 1.0)
WEAK, STRONG = measured("weak", "dyme", 0.05, 0.8), measured("strong", "grpo", 0.9, 0.8)


def test_truth_of_traces_is_counted_by_statement() -> None:
    rows = [sample("fig 82, oat 13, 82 - 13 = 69"), sample("fig 80, oat 13, 80 - 13 = 67"), sample(None), sample("fig 1", facts=())]
    found = trace_truth(rows)
    assert found and (found["value"], found["n"]) == (pytest.approx(5 / 6), 6), "the misread value is one false statement of six"
    assert trace_truth(rows[2:]) is None, "neither without a trace nor without facts"


def test_diagnosis_keeps_what_the_map_needs() -> None:
    metrics = {f"pass_at_{k}": figure(k / 100) for k in (1, 2, 64)} | {"think_accuracy": figure(0.1), "mean_length": figure(20)}
    found = diagnosis({"metrics": metrics, "by_kind": {"sum": {"pass_at_64": figure(0.2)}}}, [sample("fig 82")])
    assert (found["k"], found["traces"], found["facts"], found["pictures"]) == (64, 1, True, False)
    assert "mean_length" not in found["metrics"] and found["by_kind"]["sum"]["pass_at_64"]["value"] == 0.2
    assert json.loads(json.dumps(found)) == found


def test_no_map_is_said() -> None:
    assert choice(None, case()) == choice(known(), case())
    assert "was not measured: this version ships no map" in choice(None, case())[0]


def test_a_condition_like_the_case_speaks_for_it() -> None:
    (line,) = choice(known(REGIME, STRONG), case(0.33, truth=0.75))
    assert "By the map DYME was best (80.0 %, +60.0 points over the base, 10 seeds), ahead of GRPO by 10.0 [1.0, 19.0] points" in line
    assert "regime: pass@8 30%, format 50%, traces 80% true" in line and "a made-up study" in line and "guess" not in line
    assert "GRPO was best" in choice(known(REGIME, STRONG), case(0.88))[0], "it depends on the case"
    assert "this is a guess" in choice(known(REGIME), case(), task="chartqa")[0]


def test_noise_is_said() -> None:
    (line,) = choice(known(measured("regime", "dyme", 0.3, 0.8, low=-0.01)), case())
    assert "DYME was best" in line and "within noise of GRPO" in line


def test_between_two_conditions_they_must_agree() -> None:
    (line,) = choice(known(WEAK, replace(STRONG, methods=WEAK.methods, leads=WEAK.leads)), case(0.4))
    assert "lies between measured conditions (" in line and "DYME was best in both" in line
    (line,) = choice(known(WEAK, STRONG), case(0.4))
    assert "the best method differs between them" in line


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"k": 4}, "K = 4 was not measured, only 8"),
        ({"pictures": False}, "only models that see pictures were measured"),
        ({"traces": 0}, "no traces to memorize"),
        ({"truth": None}, "the samples have no facts"),
        ({"passed": 0.9}, "its pass@K of 90% lies outside the measured 5% to 30%"),
        ({"truth": 0.4}, "its share of true statements in the traces of 40% lies outside the measured 80% to 100%"),
        ({"form": 1.0}, "its format rate of 100% lies outside the measured 50% to 50%"),
        ({"passed": 0.04, "truth": 1.0}, "a pass@K of 4% was not measured with traces that are 100% true"),
    ],
)
def test_what_the_map_does_not_reach_is_said(changed: dict[str, Any], words: str) -> None:
    first, second = choice(known(REGIME, CLEAN, WEAK), case(**changed))
    assert words in first and "does not reach this case" in first
    assert "In the nearest condition" in second and "a made-up study" in second


def test_a_map_is_read_and_a_wrong_one_refused(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(json.dumps(asdict(known(REGIME))))
    assert read_map(tmp_path / "map.json") == known(replace(REGIME))
    assert read_map(tmp_path / "none.json") is None
    for content in ("[]", '{"source": "x", "measured": [{"k": 8}]}', "x"):
        (tmp_path / "map.json").write_text(content)
        with pytest.raises(DataError, match="is not a map of regimes"):
            read_map(tmp_path / "map.json")


def test_the_map_that_ships_can_be_read() -> None:
    found = read_map()
    assert (found is not None) == MAP.exists()
