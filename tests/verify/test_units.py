"""Units as words."""

import pytest

from dyme.verify.notation.units import MOST_WORDS, agree, read_unit, singular


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("", ()),
        ("cm", ("centimetre",)),
        ("centimeters", ("centimetre",)),
        ("cm^2", ("centimetre^2",)),
        ("cm2", ("centimetre^2",)),
        ("square cm", ("centimetre^2",)),
        ("sq. cm", ("centimetre^2",)),
        ("cm squared", ("centimetre^2",)),
        ("cubic feet", ("foot^3",)),
        ("km/h", ("kilometre", "per", "hour")),
        ("kilometers per hour", ("kilometre", "per", "hour")),
        ("$", ("dollar",)),
        ("per cent", ("%",)),
        ("°", ("degree",)),
        ("boxes", ("box",)),
        ("juice boxes.", ("juice", "box")),
    ],
)
def test_a_unit(text: str, unit: tuple[str, ...]) -> None:
    assert read_unit(text) == unit


@pytest.mark.parametrize("text", ["or 6", "and seven", "plus", "times 3", "cm 7", "th", "x", "more than", "!", "word " * (MOST_WORDS + 1)])
def test_no_unit(text: str) -> None:
    assert read_unit(text) is None


def test_singular() -> None:
    assert [singular(word) for word in ("cities", "boxes", "inches", "glass", "toys", "is")] == [
        "city",
        "box",
        "inch",
        "glass",
        "toy",
        "is",
    ]


def test_a_unit_may_leave_words_out() -> None:
    day = ("email", "per", "day")
    assert agree(("email",), day) and agree(day, ("email",)) and agree((), day) and not agree(("letter",), day)
