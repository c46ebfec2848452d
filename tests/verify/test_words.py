"""Plain characters and words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyme.verify.notation.words import plain, tokens, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  a \n b. ", "a b"),
        ("**B**", "B"),
        ("The answer is 5.", "5"),
        ("So, the final answer is: yes", "yes"),
        ("the answer is", "the answer is"),
        ("10³ and 2⁻¹", "10^3 and 2^-1"),
        ("1½", "1 1/2"),
        ("“a” – ‘b’", "\"a\" - 'b'"),
        ("５º", "5°"),
        ("...", "..."),
        ("** 14", "14"),
        ("14**", "14"),
        ("**B**. 12 cm", "B. 12 cm"),
        ("2**3**2 and x ** 2", "2**3**2 and x ** 2"),
        (r"\boxed{14}", "14"),
        (r"The answer is $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"\boxed{\text{Yes}}.", "Yes"),
        (r"\boxed{1} or \boxed{2}", r"\boxed{1} or \boxed{2}"),
        (r"\(x\) or \(y\)", r"\(x\) or \(y\)"),
        (r"\(x\)", "x"),
        ("$14$", "14"),
        ("$x$ and $y$", "$x$ and $y$"),
        ("$14", "$14"),
        ("$", "$"),
        ('"left lung."', "left lung"),
        ('"a" or "b"', '"a" or "b"'),
        ("5'", "5'"),
    ],
)
def test_plain(text: str, expected: str) -> None:
    assert plain(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Light-Blue, navy!", ("light", "blue", "navy")),
        ("It’s 1,000.50 m", ("its", "2001/2", "m")),
        ("1:45 P.M. in the U.S.", ("1", ":", "45", "pm", "in", "the", "us")),
        ("a. b.c", ("a", "bc")),
        ("-5 and 5", ("-5", "and", "5")),
        ("25-34", ("25", "-", "34")),
        ("São Tomé", ("sao", "tome")),
        ("C++ & C#", ("c", "+", "+", "and", "c", "#")),
        ("%", ("%",)),
        ("", ()),
    ],
)
def test_tokens(text: str, expected: tuple[str, ...]) -> None:
    assert tokens(text) == expected


def test_vowel_signs_count() -> None:
    assert len(tokens("हिन्दी")) == 1 and tokens("हिन्दी") != tokens("हन्दु")


def test_articles_go_unless_they_are_the_answer() -> None:
    assert words("The cat") == words("a cat") == ("cat",)
    assert words("vitamin A") == ("vitamin", "a") and words("A") == ("a",) and words("the") == ("the",)


@given(st.text() | st.sampled_from(["\u00af", "'", "%"]))
def test_a_text_that_is_not_blank_has_words(text: str) -> None:
    assert bool(words(text)) == bool(plain(text))
