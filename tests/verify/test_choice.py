"""Multiple choice by letter or text."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyme.types import Sample
from dyme.verify.answers.choice import chosen, same_choice

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
        r"\boxed{B}",
        "$B$",
        '"B"',
        "<B>",
        "B!",
        "**B**. 12 cm",
        "B is correct",
        "(B) is the correct answer.",
        "Therefore, B",
        "B 12 cm",
        "B = 12 cm",
        "B (12 cm)",
        "B — 12 cm",
        "B, 12 cm",
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
        "B 10 cm",
        "B - 10 cm",
        "B (not 12 cm)",
        "B is wrong",
        "B is not correct",
    ],
)
def test_nothing_is_chosen(text: str) -> None:
    assert not chosen(text, CHOICES) & {1} or len(chosen(text, CHOICES)) > 1


def test_text_with_mathematics() -> None:
    assert chosen("x-coordinate of point A", CHOICES) == chosen("C: x-coordinate of point A", CHOICES) == chosen(CHOICES[2], CHOICES) == {2}


@pytest.mark.parametrize(
    ("choices", "index", "texts"),
    [
        (("This is a function", "This is not a function"), 0, ["This is a function", "this is a function!", "A", "A. This is a function."]),
        (("This is a function", "This is not a function"), 1, ["This is not a function.", "B"]),
        (("It is hot", "hot"), 0, ["It is hot"]),
        (("It is hot", "hot"), 1, ["hot"]),
        (("5", "5%", "50", "0.05"), 0, ["5", "5.", "$5$", "A. 5"]),
        (("5", "5%", "50", "0.05"), 1, ["5%", "5 %", "5 percent"]),
        (("5", "5%", "50", "0.05"), 3, ["0.05", ".05"]),
        ((r"$30^{\circ}$", r"$60^{\circ}$", "90", "45"), 0, ["30°", "30", r"30^\circ", "30 degrees", r"$30^{\circ}$", "A. 30°"]),
        ((r"$30^{\circ}$", r"$60^{\circ}$", "90", "45"), 1, ["60°", "B. 60°"]),
        ((r"\frac{1}{2}", "2", r"\frac{3}{2}", "3"), 0, ["1/2", "0.5", "½", r"\frac12", r"$\frac{1}{2}$", "A: 0.5"]),
        (("5√3", "5", "10", "5√2"), 0, [r"5\sqrt{3}", "5 sqrt 3", r"A. 5\sqrt{3}", r"x = 5\sqrt{3}"]),
        (("5√3", "5", "10", "5√2"), 1, ["5", "5.0"]),
        (("x = 2", "y = 2"), 1, ["y=2", "$y = 2$"]),
        (("no answer", "No correct answer"), 1, ["No correct answer"]),
        (("A and C", "lung", "liver"), 0, ["A and C"]),
    ],
)
def test_the_text_as_it_stands_or_in_another_notation(choices: tuple[str, ...], index: int, texts: list[str]) -> None:
    for text in texts:
        assert chosen(text, choices) == {index}, text


@pytest.mark.parametrize(
    ("text", "choices"),
    [("30", ("30 m", "30 cm")), ("2", ("x = 2", "y = 2")), ("5 m", ("5 cm", "5 km")), ("6 cm", ("5 cm", "7 cm")), ("5 kg", ("4", "5"))],
)
def test_another_notation_must_say_which(text: str, choices: tuple[str, ...]) -> None:
    assert not chosen(text, choices)


LINES = ("x+1", "x-1", "2x", "x")
DECAY = ("$Q=(1.87)^{t}$", "$Q=2^{t}$", "$Q=(0.87)^{t}$")


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("B y=2x", LINES),
        ("A y = 2x", LINES),
        ("B = 5", ("10", "20", "30", "5")),
        ("option B = 5", ("10", "20", "30", "5")),
        ("Option B: 5", ("10", "20", "30", "5")),
        ("B is 5", ("10", "20", "30", "5")),
        ("A 5", ("10", "20", "30", "5")),
        ("A: 5", ("10", "20", "30", "5")),
        ("A -5", ("10", "5", "-5")),
        ("A. dog", ("cat", "dog")),
        ("C y=2x", ("y=x", "y=2x", "y=3x")),
        ("C = 1/2", ("0.5", "1/3", "2")),
        ("B $Q=(0.87)^{t}$", DECAY),
    ],
)
def test_a_letter_with_the_text_of_another_chooses_nothing(text: str, choices: tuple[str, ...]) -> None:
    assert not chosen(text, choices)


@pytest.mark.parametrize(
    ("text", "choices", "index"),
    [
        ("C y=2x", LINES, 2),
        ("y=2x", LINES, 2),
        ("D = 5", ("10", "20", "30", "5"), 3),
        ("D: 5.0", ("10", "20", "30", "5"), 3),
        ("x = 5", ("10", "20", "30", "5"), 3),
        ("a = 5", ("10", "20", "30", "5"), 3),
        ("angle A = 5", ("10", "20", "30", "5"), 3),
        ("B y=2x", ("y=x", "y=2x", "y=3x"), 1),
        ("A = 1/2", ("0.5", "1/3", "2"), 0),
        ("1/2", ("0.5", "1/3", "2"), 0),
        ("C $Q=(0.87)^{t}$", DECAY, 2),
        ("Q=0.87^t", ("$Q=2^{t}$", "$Q=0.87^{t}$"), 1),
        ("C = 12.0", ("C = 10", "C = 12", "C = 14"), 1),
        ("a dog", ("cat", "dog"), 1),
        ("A dog", ("cat", "dog"), 1),
        ("a 12 cm ruler", ("cat", "12 cm ruler"), 1),
    ],
)
def test_a_letter_with_its_own_text_or_a_text_alone(text: str, choices: tuple[str, ...], index: int) -> None:
    assert chosen(text, choices) == {index}


def test_several_are_right_only_if_the_answer_names_several() -> None:
    def same(prediction: str, answer: str) -> bool:
        return same_choice(prediction, Sample(id="0", question="", answer=answer, choices=CHOICES, answer_kind="choice"))

    assert same("C, A", "A and C") and same("A\nC", "A\nC") and not same("A", "A and C") and not same("A and C", "A")
    assert same("B", "12 cm") and same("(B)", "B") and not same("E", "E")


@pytest.mark.parametrize("joint", [" or ", " and ", ", ", ", or ", ") and (", "/", " "])
@pytest.mark.parametrize("letters", [22, 200])
def test_many_letters_are_judged_at_once(letters: int, joint: str) -> None:
    text = f"({joint.join('ABCDEFGHIJKLMNOPQRSTUVWXYZ'[k % 26] for k in range(letters))})"
    spent = []
    for _ in range(3):
        start = time.perf_counter()
        found = chosen.__wrapped__(text, CHOICES)
        spent.append(time.perf_counter() - start)
    assert len(found) != 1 and min(spent) < 0.01


def test_same_texts_and_letters_as_texts() -> None:
    assert not chosen("yes", ("yes", "yes", "no")) and chosen("no", ("yes", "yes", "no")) == {2} and chosen("A", ("yes", "yes")) == {0}
    assert chosen("A", ("B", "A")) == {0}  # a letter goes before a text


@given(st.text(max_size=30), st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6).map(tuple))
def test_every_letter_chooses_its_own(text: str, choices: tuple[str, ...]) -> None:
    assert chosen(text, choices) <= set(range(len(choices)))
    for index in range(len(choices)):
        assert chosen("ABCDEF"[index], choices) == {index}
