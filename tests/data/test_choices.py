"""Options: how they are shown, which one an answer names, what is refused, and reading them out of a question's text."""

from __future__ import annotations

import pytest

from dyme.data.choices import letter_of, shown, split, unlettered


def test_a_prompt_shows_them_with_letters() -> None:
    assert shown("Which is red?", ["a lime", "a plum"]) == "Which is red?\nChoices:\n(A) a lime\n(B) a plum"
    assert shown("Which is red?", []) == "Which is red?"


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        (["A: 40", "B: 50"], ["40", "50"]),
        (["(A) 40", "(B) 50"], ["40", "50"]),
        (["A.40", "B. 50 "], ["40", "50"]),
        (["B: 40", "A: 50"], ["B: 40", "A: 50"]),
        (["A: 40", "50"], ["A: 40", "50"]),
        (["A.", "B."], ["A.", "B."]),
        (["Arc", "Bow"], ["Arc", "Bow"]),
        ([" 40 ", "50"], ["40", "50"]),
    ],
)
def test_letters_of_their_own(given: list[str], plain: list[str]) -> None:
    assert unlettered(given) == plain


@pytest.mark.parametrize(
    ("answer", "letter"),
    [("B", "B"), ("(b)", "B"), ("B.", "B"), ("plum", "B"), ("Plum", "B"), ("C and A", "C and A"), ("A\nC", "A and C"), ("A, B", "A and B")],
)
def test_an_answer_names_one(answer: str, letter: str) -> None:
    assert letter_of(answer, ["lime", "plum", "fig"]) == letter


def test_a_text_counts_before_letters_of_the_same_name() -> None:
    assert letter_of("A", ["A", "B"]) == "A"
    assert letter_of("lime", ["Lime", "lime"]) == "B"


@pytest.mark.parametrize(
    ("answer", "choices", "reason"),
    [
        ("D", ["lime", "plum", "fig"], "neither a letter from A to C"),
        ("kiwi", ["lime", "plum"], "neither a letter from A to B"),
        ("A and D", ["lime", "plum"], "neither"),
        ("A", ["C", "A", "B"], "letter of one choice and the text of another"),
        ("lime", ["lime", "lime"], "text of two choices"),
    ],
)
def test_an_answer_that_names_none_or_two(answer: str, choices: list[str], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        letter_of(answer, choices)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Find C.\nChoices:\nA:40°\nB:60°", ("Find C.", ["40°", "60°"])),
        ("Find C.\n  Choices:\n(A) 40\n(B) 60\n(C) 70", ("Find C.", ["40", "60", "70"])),
        ("Which?\nChoices:\nA:one\nand a half\nB:two", ("Which?", ["one\nand a half", "two"])),
        ("Find C.", ("Find C.", [])),
        ("Find C.\nChoices:\nA:40°", ("Find C.\nChoices:\nA:40°", [])),
        ("Find C.\nChoices:\nA:40\nC:50", ("Find C.\nChoices:\nA:40\nC:50", [])),
        ("Find C.\nChoices:\nA:40\nB:", ("Find C.\nChoices:\nA:40\nB:", [])),
    ],
)
def test_choices_in_a_text(text: str, found: tuple[str, list[str]]) -> None:
    assert split(text) == found
