"""Free text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyme.types import Sample
from dyme.verify.answers.text import alike, same_text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The Netherlands", "netherlands"),
        ("São Tomé", "Sao Tome"),
        ("X-ray", "x ray"),
        ("it's", "its"),
        ("Crash & Burn", "crash and burn"),
        ("1,000 people", "1000 people"),
        ("25-34", "25 – 34"),
        ("ﬁne", "fine"),
        ("(light blue)", "light blue."),
        ("%", "%"),
    ],
)
def test_alike(one: str, other: str) -> None:
    assert alike(one, other) and alike(other, one)
    assert same_text(one, Sample(id="0", question="", answer=other))


@pytest.mark.parametrize(
    ("one", "other"),
    [("", ""), ("blue", "light blue"), ("5.5", "55"), ("-5", "5"), ("vitamin", "vitamin A"), ("C++", "C"), ("yes", "no"), ("3/4", "34")],
)
def test_different(one: str, other: str) -> None:
    assert not alike(one, other) and not alike(other, one)


@given(st.text())
def test_a_text_is_itself_unless_it_is_blank(text: str) -> None:
    assert alike(text, text) or not "".join(text.split()).strip("*`")
