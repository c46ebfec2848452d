"""Traps of SPEC section 6: awkward numbers (3), text answers (7), eval on data-set strings (9)."""

import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dyme.verify
from dyme.types import Sample
from dyme.verify.answers import judge
from dyme.verify.notation.numerals import matches, read

LONG = "9" * 100_000
finite = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=3)


@pytest.mark.parametrize(
    ("prediction", "target"),
    [
        ("1,000", "1000"),
        ("1,234,567.50", "1234567.5"),
        ("$5", "5"),
        ("5 €", "5"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("5%", "5"),
        ("5 %", "5"),
        ("0.0", "0"),
        ("-0", "0"),
        ("5.0", "5"),
        ("5.", "5"),
        (".5", "0.50"),
        ("007", "7"),
        ("+5", "5"),
        ("\u22125", "-5"),
        ("0.1", "0.10000000000000000000000"),
        ("(5)", "5"),
        (' "$1,000." ', "1000"),
        (" yes", "yes"),
        ("Yes.", "yes"),
        ("“Yes”", "yes"),
        ("'yes'.", "Yes"),
        ("light \n blue", "Light blue"),
        ("it’s", "it's"),
        ("fig, 82", "fig, 82"),
        ("Fig,82.", "fig, 82"),
        ("(2, 135)", "2, 135"),
        ('"fig", "82.0"', "fig, 82"),
        ("1,000, 2,000", "1000, 2000"),
        ("nut ,fig,  yam", "nut, fig, yam"),
        ("(a) or (b)", "(A) or (B)"),
        ("2 * 3", "2 * 3"),
        ("NaN", "nan"),
        (LONG, LONG),
    ],
)
def test_same_answers(prediction: str, target: str) -> None:
    assert matches(prediction, target)
    assert matches(target, prediction)


@pytest.mark.parametrize(
    ("prediction", "target"),
    [
        ("", "5"),
        ("", ""),
        ("  ", " "),
        (")", "5"),
        ("-5", "5"),
        ("0.3", "0.30000000000000004"),
        ("100000000000000000001", "100000000000000000000"),
        ("1,00", "100"),
        ("1, 000", "1,000"),
        ("2,135", "2, 135"),
        ("5²", "52"),
        ("82, fig", "fig, 82"),
        ("fig, nut, yam", "nut, fig, yam"),
        ("nut, fig", "nut, fig, yam"),
        ("nut, fig, yam, oat", "nut, fig, yam"),
        ("nut fig yam", "nut, fig, yam"),
        ("the answer is 5", "5"),
        ("5 or 6", "5"),
        ("no", "yes"),
        ("yes and no", "yes"),
        ("2 * 3", "6"),
        ("__import__('os')", "os"),
        ("9" + LONG, LONG),
        ("1e999999999", "1e9999999999"),
    ],
)
def test_different_answers(prediction: str, target: str) -> None:
    assert not matches(prediction, target)
    assert not matches(target, prediction)


@pytest.mark.parametrize(
    ("prediction", "target", "tolerance", "right"),
    [
        ("105", "100", 0.05, True),
        ("95", "100", 0.05, True),
        ("105.0000001", "100", 0.05, False),
        ("130", "100", 0.3, True),  # the float 0.3 is below 3/10
        ("-95", "-100", 0.05, True),
        ("95", "-100", 0.05, False),
        ("0.105", "0.1", 0.05, True),
        ("0.0", "0", 0.05, True),
        ("0.0001", "0", 0.05, False),
        ("1,050", "$1,000", 0.05, True),
        ("fig, 105", "fig, 100", 0.05, True),
        ("oat, 105", "fig, 100", 0.05, False),
        ("105", "fig, 100", 0.05, False),
        ("yes", "100", 0.05, False),
        ("nan", "100", 0.05, False),
        ("inf", "100", 0.05, False),
        (LONG, "100", 0.05, False),
        ("100", LONG, 0.05, False),
        ("101", "100", 0.0, False),
    ],
)
def test_tolerance_is_relative_to_the_target(prediction: str, target: str, tolerance: float, right: bool) -> None:
    assert matches(prediction, target, tolerance=tolerance) is right


@given(st.text().filter(str.strip), st.sampled_from([0.0, 0.05]))
def test_every_text_is_its_own_answer(text: str, tolerance: float) -> None:
    assert matches(text, text, tolerance=tolerance)
    assert matches(f"  {text}\n", text)


@given(st.text(), st.text(), st.sampled_from([0.0, 0.05]))
def test_no_text_crashes_and_tolerance_only_adds(prediction: str, target: str, tolerance: float) -> None:
    exact = matches(prediction, target)
    assert exact == (read(prediction) == read(target) and bool(prediction.strip()))
    assert matches(prediction, target, tolerance=tolerance) >= exact


@given(finite, finite, st.sampled_from([0.0, 0.01, 0.05, 0.5]))
def test_numbers_compare_exactly(prediction: object, target: object, tolerance: float) -> None:
    p, t = Fraction(str(prediction)), Fraction(str(target))
    assert matches(f"{prediction:,f}", f"{target:f}", tolerance=tolerance) == (abs(p - t) <= Fraction(str(tolerance)) * abs(t))


def test_nothing_is_evaluated() -> None:
    for file in Path(dyme.verify.__path__[0]).glob("*.py"):
        assert not re.search(r"(?<![\w.])(eval|exec|literal_eval)\(", file.read_text(encoding="utf-8")), file


@pytest.mark.parametrize(
    ("target", "answer", "right"),
    [
        ("3 hours", "3 hrs", True), ("5 years", "5 yrs", True), ("3 km", "about 3 kilometers", True), ("7 percent", "7%", True),
        ("3 hours", "3", False), ("3 hours", "4 hrs", False), ("3 hours", "3 days", False), ("5 kg", "5 g", False), ("4 GB", "4 MB", False),
        ("3 red cars", "3 blue cars", False), ("3 hours", "3 hours 20 minutes", False), ("2019 cars", "2021 cars", False),
    ],
)  # fmt: skip
def test_a_target_with_its_unit_is_met_in_any_spelling_of_it(target: str, answer: str, right: bool) -> None:
    sample = Sample(id="a", question="How long?", answer=target, answer_kind="auto")
    assert judge(answer, sample, tolerance=0.05).correct == right
