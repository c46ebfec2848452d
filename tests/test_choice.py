"""Multiple choice by letter or text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyme.types import Sample
from dyme.verify.choice import chosen, same_choice

CHOICES = ("10 cm", "12 cm", "$x$-coordinate of point $A$", "twelve")


@pytest.mark.parametrize(
    "text",
    [
        "B",
        "b",
        "(B)",
        "[B]",
        "B.",
        "b)",
        "B:",
        "B: 12 cm",
        "(B) 12 cm",
        "b. 12cm",
        "option B",
        "Option (B)",
        "The answer is (B) 12 cm.",
        "12 cm",
        "12cm",
        "the correct option is B",
        "It is B",
        "B. because it is longer",
        "**B**",
    ],
)
def test_the_second(text: str) -> None:
    assert chosen(text, CHOICES) == {1}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "B: 10 cm",
        "E",
        "B or C",
        "B. C.",
        "B because it is longer",
        "a dog",
        "13 cm",
        "10 cm or 12 cm",
        "B, not A",
        "AB",
        "none",
        "B. Not A.",
    ],
)
def test_nothing_is_chosen(text: str) -> None:
    assert not chosen(text, CHOICES) & {1} or len(chosen(text, CHOICES)) > 1


def test_text_with_mathematics() -> None:
    assert chosen("x-coordinate of point A", CHOICES) == chosen("C: x-coordinate of point A", CHOICES) == chosen(CHOICES[2], CHOICES) == {2}


def test_several_are_right_only_if_the_answer_names_several() -> None:
    def same(prediction: str, answer: str) -> bool:
        return same_choice(prediction, Sample(id="0", question="", answer=answer, choices=CHOICES, answer_kind="choice"))

    assert same("C, A", "A and C") and same("A\nC", "A\nC") and not same("A", "A and C") and not same("A and C", "A")
    assert same("B", "12 cm") and same("(B)", "B") and not same("E", "E")


def test_same_texts_and_letters_as_texts() -> None:
    assert not chosen("yes", ("yes", "yes", "no")) and chosen("no", ("yes", "yes", "no")) == {2} and chosen("A", ("yes", "yes")) == {0}
    assert chosen("A", ("B", "A")) == {0}  # a letter goes before a text


@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6).map(tuple))
def test_every_letter_chooses_its_own(text: str, choices: tuple[str, ...]) -> None:
    assert chosen(text, choices) <= set(range(len(choices)))
    for index in range(len(choices)):
        assert chosen("ABCDEF"[index], choices) == {index}
