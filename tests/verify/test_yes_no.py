"""Closed questions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyme.types import Sample
from dyme.verify.answers.yes_no import polarity, same_polarity


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Yes", True),
        ("yes.", True),
        ("True", True),
        ("Yes, there is.", True),
        ("Yes, there is no fracture", True),
        ("yes yes", True),
        ("It is true", True),
        ("I think yes", True),
        ("**Yes**", True),
        ("no", False),
        ("False", False),
        ("The answer is no.", False),
        ("No, not at all", False),
        ("no; the lungs are normal", False),
        ("", None),
        ("yes no", None),
        ("no yes", None),
        ("yes and no", None),
        ("yes/no", None),
        ("Yes, no.", None),
        ("yes or no", None),
        ("Yes. The answer is no", None),
        ("not sure", None),
        ("normal", None),
        ("know", None),
        ("there is", None),
    ],
)
def test_what_is_said(text: str, said: bool | None) -> None:
    assert polarity(text) is said


def test_an_answer_that_is_neither_is_compared_as_text() -> None:
    sample = Sample(id="0", question="", answer="Diffuse", answer_kind="yes_no")
    assert same_polarity("diffuse", sample) and not same_polarity("yes", sample)


@given(st.text())
def test_yes_is_never_no(text: str) -> None:
    yes, no = (same_polarity(text, Sample(id="0", question="", answer=answer)) for answer in ("yes", "no"))
    assert not (yes and no)
