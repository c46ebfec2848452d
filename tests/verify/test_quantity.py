"""Numbers as people write them: equal ones, different ones, and units."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyme.types import Sample
from dyme.verify.answers.quantity import LARGEST_EXPONENT, quantity, same_quantity


def same(prediction: str, target: str, tolerance: float = 0.0, unit: str = "") -> bool:
    return same_quantity(prediction, Sample(id="0", question="", answer=target, unit=unit), tolerance)


@pytest.mark.parametrize(
    ("prediction", "value"),
    [
        ("5", 5),
        ("five", 5),
        ("Forty-two", 42),
        ("zero", 0),
        ("five hundred", 500),
        ("2 dozen", 24),
        ("$5 million", 5_000_000),
        ("$18.00", 18),
        ("18 dollars", 18),
        ("$-5", -5),
        ("-$5", -5),
        ("minus 5", -5),
        ("−5", -5),
        ("+5", 5),
        ("1,234,567", 1_234_567),
        ("5%", 5),
        ("5 percent", 5),
        ("3/4", Fraction(3, 4)),
        ("-3/4", Fraction(-3, 4)),
        ("1 1/2", Fraction(3, 2)),
        ("-1 1/2", Fraction(-3, 2)),
        ("1½", Fraction(3, 2)),
        ("1.2e3", 1200),
        ("1.2E-3", Fraction(12, 10_000)),
        ("1.2 x 10^3", 1200),
        ("1.2×10³", 1200),
        ("1.2 * 10**-3", Fraction(12, 10_000)),
        ("10^2", 100),
        ("5 apples", 5),
        ("5 cm²", 5),
        ("about 5", 5),
        ("The answer is 5.", 5),
        ("**5**", 5),
        ("(5)", 5),
        (".5", Fraction(1, 2)),
    ],
)
def test_a_number(prediction: str, value: Fraction) -> None:
    found = quantity(prediction)
    assert found is not None and (found.low, found.high) == (value, value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "five six",
        "5 6",
        "5, 6",
        "5 or 6",
        "2 + 3",
        "2 * 3",
        "1,00",
        "1/0",
        "3rd",
        "10:45",
        "5 and 6",
        "5 more than 6",
        "the fifth",
        "-",
        "e5",
        "1e999999999",
        f"1e{LARGEST_EXPONENT + 1}",
        "9" * 100,
        "__import__('os')",
        "nan",
        "inf",
        "--5",
        "5!",
        "5²",
        "5abc",
        "3d",
        "11 6/6",
    ],
)
def test_no_number(text: str) -> None:
    assert quantity(text) is None


@pytest.mark.parametrize("text", ["5-7", "5 – 7", "5 to 7", "between 5 and 7", "from 5 to 7", "5 cm to 7 cm", "$5-$7"])
def test_a_range(text: str) -> None:
    found = quantity(text)
    assert found is not None and (found.low, found.high) == (5, 7)
    assert same(text, "5-7") and not same(text, "5") and not same("5", text)


def test_ends_of_ranges() -> None:
    assert same("-5 to -3", "-5--3") and not same("5-8", "5-7") and same("5.1 to 7.1", "5-7", tolerance=0.05)
    assert quantity("5 cm to 7 kg") is None and quantity("5 and 7") is None and quantity("between 5") is None


def test_zero_is_exact_and_tolerance_is_the_targets() -> None:
    assert same("0.0", "0") and not same("0.0001", "0", tolerance=0.05)
    assert same("105", "100", tolerance=0.05) and not same("105.01", "100", tolerance=0.05) and not same("-5", "5")


@pytest.mark.parametrize(
    ("prediction", "target", "unit", "right"),
    [
        ("$14", "14", "$", True),
        ("14 dollars", "14", "$", True),
        ("14 cents", "14", "$", False),
        ("5 euros", "5", "$", False),
        ("5%", "5", "$", False),
        ("5 minutes", "5", "minutes per year", True),
        ("5 minutes per year", "5", "minutes per year", True),
        ("5 hours", "5", "minutes", False),
        ("4 loaves", "4", "loaves per day", True),
        ("5 million dollars", "5", "million dollars", True),
        ("5 centimeters", "5 cm", "", True),
        ("5", "5 cm", "", True),
        ("50 mm", "5 cm", "", False),
        ("5 square cm", "5 cm²", "", True),
        ("5 cm", "5 cm²", "", False),
    ],
)
def test_units(prediction: str, target: str, unit: str, right: bool) -> None:
    assert same(prediction, target, unit=unit) is right


def test_a_target_that_is_no_number_is_compared_as_it_stands() -> None:
    assert same("Noon.", "noon") and not same("5", "noon")


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
def test_fractions_and_thousands_are_exact(top: int, bottom: int) -> None:
    found = quantity(f"{top}/{bottom}")
    assert found is not None and found.low == Fraction(top, bottom)
    assert same(f"${top:,}.0", str(top)) and not same(str(top + 1), str(top))


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    found = quantity(text, "cm")
    assert found is None or same(text, text, unit="cm")
