"""Values of numeric expressions, and what has none."""

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyme.verify.notation.arithmetic import LARGEST_EXPONENT, value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 5),
        ("-1.5", Fraction(-3, 2)),
        ("1+2*3-4/2", 5),
        ("2(3+4)", 14),
        ("-2^2", -4),
        ("2^{-1}", Fraction(1, 2)),
        ("2^-1", Fraction(1, 2)),
        ("(-2)^2", 4),
        (r"\frac{1}{2}", Fraction(1, 2)),
        ("3 1/2", Fraction(7, 2)),
        ("-3 1/2", Fraction(-7, 2)),
        (r"3\frac{1}{2}", Fraction(7, 2)),
        (r"\sqrt{16}", 4),
        (r"\sqrt{\frac{9}{4}}", Fraction(3, 2)),
        (r"2\sqrt{3}", 2 * math.sqrt(3)),
        (r"\sqrt[3]{8}", 2.0),
        (r"3\frac{\pi}{2}", 1.5 * math.pi),
        (r"18*\pi+318", 18 * math.pi + 318),
        (r"\frac{2}{\sqrt{2}}", math.sqrt(2)),
        ("--5", 5),
    ],
)
def test_values(text: str, expected: float) -> None:
    found = value(text)
    assert found is not None
    assert found == expected if isinstance(expected, (int, Fraction)) and isinstance(found, Fraction) else math.isclose(found, expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "1/0",
        "0^{-1}",
        "5 6",
        "1..2",
        "(1",
        "1)",
        r"\frac{1}",
        r"\sqrt{-1}",
        r"\sqrt[0]{2}",
        "2^",
        "9^9^9^9",
        "9^{9^{9}}",
        "((9^64)^64)^64",
        f"2^{LARGEST_EXPONENT + 1}",
        "9^9999999999",
        "(" * 100 + "1" + ")" * 100,
        "1" * 300,
        "__import__('os')",
        "1e5",
        "(-8)^{1/3}",
        "1,5",
        "*5",
        r"\pi(",
        "0^{-0.5}",
        r"(10^{60})^{10} * \pi * (10^{60})^{10}",
    ],
)
def test_no_value(text: str) -> None:
    assert value(text) is None


@given(st.integers(-999, 999), st.integers(1, 999), st.integers(-9, 9))
def test_rational_arithmetic_is_exact(a: int, b: int, c: int) -> None:
    assert value(rf"\frac{{{a}}}{{{b}}}+{c}") == Fraction(a, b) + c
    assert value(f"({a}-{c})/{b}*2") == Fraction(a - c, b) * 2


@given(st.text(alphabet="0123456789.+-*/^(){}[] \\fracsqrtpi", max_size=60))
def test_no_text_crashes(text: str) -> None:
    found = value(text)
    assert found is None or math.isfinite(found)
