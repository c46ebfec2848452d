"""What the page says of the helpers of a run: who wrote, what differs, what the statements are."""

from __future__ import annotations

import re
from typing import Any

import pytest
from runs import ROOT

from dyme.report import meanings
from dyme.report.supervised import cache_line, differences, grader, statements, units, writer

LLM = {"checker": "llm", "refiner": "llm", "model": "Qwen"}
DRAFTS = [{"text": "no", "tokens": 3, "fault": "answer", "reason": ""}]
OWN = [*DRAFTS, {"text": "yes", "tokens": 3, "fault": "", "reason": ""}]


def row(assessment: str | None = None, **more: Any) -> dict[str, Any]:
    return {"completions": [{"assessment": None}, {"assessment": assessment}], "target": None, "trouble": "", **more}


@pytest.mark.parametrize(
    ("settings", "given", "expected"),
    [
        (LLM, row(), ("", "")),
        (LLM, row("high 1.00: llm", target="t"), ("the LLM Qwen", "the LLM Qwen")),
        (LLM, row("low 0.20: says nothing"), ("the local checker, in place of the LLM", "")),
        (LLM, row(target="t", trouble="timeout"), ("", "the local refiner, in place of the LLM")),
        ({"checker": "local", "refiner": "local"}, row("low 0.20: llm", target="t"), ("the local checker", "the local refiner")),
        ({"refiner": "self"}, row(target="yes", drafts=OWN), ("", "the model itself")),
        ({"refiner": "self"}, row(target="yes", drafts=[{**OWN[1], "tokens": 0}]), ("", "the model itself, at an earlier step")),
        ({"refiner": "self"}, row(target="t", drafts=DRAFTS), ("", "the local refiner, as no draft of the model's was accepted")),
        ({}, row("high 1.00: true", target="t"), ("the local checker", "the local refiner")),
    ],
)  # fmt: skip
def test_who_wrote(settings: dict[str, Any], given: dict[str, Any], expected: tuple[str, str]) -> None:
    assert (grader(given, settings), writer(given, settings)) == expected


def test_the_cache_is_told_as_far_as_it_is_known() -> None:
    assert "asked 1,200 times; 30 more answers came from the cache" in cache_line(LLM, {"helper_calls": 1200.0, "helper_cached": 30.0})
    assert cache_line(LLM, {}) == cache_line({"checker": "local"}, {"helper_calls": 1.0}) == ""


def test_differences_are_words() -> None:
    reference, target = "fig is 82, oat is 13.", "Well, fig is 82, oat is 14."
    gone, new = differences(reference, target)
    assert [reference[a:b] for a, b in gone] == ["13."] and [target[a:b] for a, b in new] == ["Well,", "14."]
    assert differences("same words", "same words") == ([], []) and differences("a " * 5000, "b") == ([], [])


def test_statements_are_placed_as_javascript_counts() -> None:
    text = "\U0001f34e fig is 83 \ud800 and 1 + 1 = 2"
    found = statements(text, [("fig", "82")])
    assert [mark[2:] for mark in found["marks"]] == [("false", "fact: fig 82"), ("true", "the arithmetic is right, but 1, 1 is no fact")]
    assert found["stated"] == (1, 2)
    start, end, *_ = found["marks"][0]
    encoded = text.encode("utf-16-le", "surrogatepass")
    assert encoded[2 * start : 2 * end].decode("utf-16-le") == "fig is 83" and units("ab", (0, 1)) == (0, 1)


def test_every_figure_has_a_meaning() -> None:
    page = (ROOT / "docs/schema.md").read_text(encoding="utf-8")
    parts = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", page, re.M | re.S))
    for file, of in (("metrics.jsonl", meanings.recorded), ("evaluations.jsonl", meanings.evaluated)):
        names = re.findall(r"^\| `metrics\.([^`]+)` ", parts[file], re.M)
        assert len(names) > 12
        lacking = [name for name in names if "; " not in of(name.replace("_K", "_8"))]
        assert lacking == [], file
    assert meanings.recorded("rewards/brief/mean") == "Mean of your reward brief, before weighting; higher is better."
    assert meanings.evaluated("pass_at_1") == "Share of questions: a sample is right; higher is better."
    assert meanings.evaluated("unheard of") == "" and "another version" in meanings.recorded("unheard of")
