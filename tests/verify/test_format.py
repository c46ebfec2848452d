"""Traps of SPEC section 6: format reward farmed with empty thinking, ")" after a copied marker (6)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyme import targets
from dyme.targets import target_text
from dyme.types import Sample
from dyme.verify.format import Parsed, parse


def read(text: str) -> Parsed:
    return parse(text, marker="Answer:", min_thinking_words=3)


@pytest.mark.parametrize(
    ("text", "thinking", "answer"),
    [
        ("fig is 82. Answer: 82", "fig is 82.", "82"),
        ("\n fig is 82.\nAnswer:\n 82 \n\n", "fig is 82.", "82"),
        ("82 - 13 = 69 Answer:69.", "82 - 13 = 69", "69."),
        ("one two three Answer: fig, 82", "one two three", "fig, 82"),
        ("one two three **Answer:** 14", "one two three **", "14"),
        ("one two three **Answer:**\n\n14", "one two three **", "14"),
        ("one two three Answer: 2 * 3", "one two three", "2 * 3"),
        ("左肺有阴影 Answer: 左肺", "左肺有阴影", "左肺"),
        ("売上は１４で Answer: 14", "売上は１４で", "14"),
        ("the answer: it is Answer: -", "the answer: it is", "-"),
    ],
)
def test_formatted(text: str, thinking: str, answer: str) -> None:
    assert read(text) == Parsed(thinking, answer, True, "")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no marker"),
        ("5", "no marker"),
        ("fig is 82 so 82", "no marker"),
        ("fig is 82 answer: 82", "no marker"),
        ("fig is 82 Answer: 82 Answer: 82", "marker repeated"),
        ("Answer: 82. fig is 82 Answer: 82", "marker repeated"),
        ("Answer: 5", "thinking too short"),
        ("  \n Answer: 5", "thinking too short"),
        ("fig 82 Answer: 82", "thinking too short"),
        (". . . . = - Answer: 5", "thinking too short"),
        ("fig is 82 Answer:", "empty answer"),
        ("fig is 82 Answer: \n ", "empty answer"),
        ("fig is 82 Answer: )", "empty answer"),
        ("fig is 82 **Answer:**", "empty answer"),
        ("左。肺！ Answer: 左肺", "thinking too short"),
        ("fig is 82 (Answer: ..)", "empty answer"),
        ("fig is 82 Answer: 82\nor 83", "answer runs on"),
    ],
)
def test_not_formatted(text: str, reason: str) -> None:
    parsed = read(text)
    assert (parsed.answer, parsed.formatted, parsed.reason) == (None, False, reason)


def test_thinking_is_kept_when_the_format_is_wrong() -> None:
    assert read(" fig is 82 ").thinking == "fig is 82"
    assert read("fig is 82 Answer: 82 Answer: 82").thinking == "fig is 82"


def test_no_thinking_asked_for() -> None:
    assert parse("Answer: 5", marker="Answer:", min_thinking_words=0) == Parsed("", "5", True, "")


@given(st.lists(st.sampled_from(["Answer:", "fig", "82", ".", " ", "\n", "\x85", "²"])).map("".join) | st.text())
def test_every_text_parses_or_says_why(text: str) -> None:
    parsed = read(text)
    assert parsed.formatted == (parsed.answer is not None) == (parsed.reason == "")
    if parsed.formatted:
        assert text.count("Answer:") == 1
        assert parsed.thinking in text
        assert parsed.answer and parsed.answer in text


def test_without_a_marker_the_whole_completion_is_the_answer() -> None:
    found = parse(" a b\nc ", marker="", min_thinking_words=3)
    assert (found.thinking, found.answer, found.formatted) == ("a b\nc", "a b\nc", True)
    assert not parse(" ", marker="", min_thinking_words=3).formatted
    sample = Sample(id="s", question="", answer="", rationale="One, two. Two.")
    assert (target_text(sample, ""), target_text(replace(sample, rationale=None, answer="4"), "")) == ("One, two. Two.", "4")
    targets.check_rationales([sample], "")
