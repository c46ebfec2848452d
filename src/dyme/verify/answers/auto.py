"""Kind `auto`: numbers, lists in order, else text; with a tolerance of 0.05 it is ChartQA's relaxed accuracy (Masry et al., 2022).

Plain forms are compared first (`notation/numerals.py`). Numbers in other forms are then read as in kind number
("1 234", "1e3", "3.5 million", "about 14"). The tolerance is for values read off an axis: a year, a fraction or a range must be equal.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from dyme.types import Judgement, Sample
from dyme.verify.answers.quantity import Quantity, near, quantity, same_quantity
from dyme.verify.notation.numerals import matches, number, peel, read, split, within
from dyme.verify.notation.words import plain

LONGEST = 2000
"""Most characters; a longer answer is right only if its plain forms are the target's (`answers.LONGEST` limits all reading)."""
_YEAR = re.compile(r"(?<![0-9.,$€£¥₹+-])(?:1[4-9][0-9]{2}|20[0-9]{2}|2100)(?![0-9%]|[.,][0-9])")
_AMOUNT = re.compile(r"how (?:many|much)", re.IGNORECASE)
"""Questions that no year answers, however it is written."""
_MONEY = re.compile("[$€£¥₹]")
_MONEY_OR_PERCENT = {"dollar", "euro", "pound", "yen", "rupee", "%"}
_AND = re.compile(r",? (?:and|&) ", re.IGNORECASE)
_BRACKETED = re.compile(r"\[[^\[\], ]*,[^\[\] ]*\]")
_DIGIT = re.compile("[0-9]")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}


def same_relaxed(prediction: str, sample: Sample, tolerance: float) -> Judgement:
    """Judge whether `prediction` gives the answer; a year only within `tolerance` is wrong, with the published metric's score of 1."""
    if not _same(prediction, sample, tolerance):
        return Judgement(False, 0.0)
    year = tolerance > 0 and not sample.unit and bool(_YEAR.search(_apart(sample.answer))) and not _AMOUNT.search(sample.question)
    return Judgement(not year or _same(prediction, sample, 0.0), 1.0)


def _same(prediction: str, sample: Sample, tolerance: float) -> bool:
    target = sample.answer
    if prediction[:1] == "[" or target[:1] == "[":
        prediction, target = _apart(prediction), _apart(target)
    if matches(prediction, target, tolerance=tolerance):
        return True
    if len(prediction) > LONGEST:
        return False
    if all(len(read(text)) == 1 and isinstance(read(text)[0], Fraction) for text in (prediction, target)):  # compared already
        return bool(sample.unit) and same_quantity(prediction, sample, tolerance)
    said, wanted = plain(prediction), plain(target)
    if (said, wanted) != (prediction, target) and matches(said, wanted, tolerance=tolerance):
        return True
    if sample.unit and same_quantity(prediction, sample, tolerance):
        return True
    if "," in wanted or ";" in wanted or " and " in wanted:
        listed = items(wanted)
        if len(listed) > 1:
            return same_order(items(said, apart=True), listed, tolerance)
    return not sample.unit and _same_number(said, wanted, tolerance)


def _same_number(said: str, wanted: str, tolerance: float) -> bool:
    """Return whether both are equal numbers; a prediction may have a unit, and must have the target's, in any spelling ("3 hrs")."""
    found = quantity(said)
    target = _bare_quantity(wanted)
    if not target:
        whole = quantity(wanted)
        if found is None or whole is None or not whole.unit or set(found.unit) != set(whole.unit):
            return False
        return near(found, whole, 0.0)
    if not found or (target.unit and found.unit and not set(target.unit) & set(found.unit)):
        return False
    exact = "/" in wanted or "frac" in wanted or target.low != target.high
    return near(found, target, 0.0 if exact else tolerance)


@lru_cache(maxsize=8192)
def items(text: str, *, apart: bool = False) -> tuple[Fraction | str, ...]:
    """Return the items of a list in order: separated by semicolons if there are any, else by commas and "and"; brackets do not count.

    "[100,200,300]" without a blank is three items, "1,234" one, unless all commas are to set `apart`.
    """
    text = _apart(plain(text).replace("\\{", "{").replace("\\}", "}"))
    if len(text) > 1 and _BRACKETS.get(text[0]) == text[-1]:
        text = text[1:-1]
    if ";" in text:
        parts = [peel(part.casefold().strip()) for part in text.split(";")]
    else:
        text = text.replace(",", ", ") if apart and ", " not in text else text
        parts = split(_AND.sub(", ", text))
    return tuple(_item(part) for part in parts if part)


def same_order(found: tuple[Fraction | str, ...], wanted: tuple[Fraction | str, ...], tolerance: float) -> bool:
    """Return whether two lists have the same items in the same order, numbers within `tolerance` of those wanted."""
    if found == wanted or not tolerance or len(found) != len(wanted):
        return found == wanted
    limit = Fraction(str(tolerance))
    return all(within(p, t, limit) for p, t in zip(found, wanted, strict=True))


def _bare_quantity(text: str) -> Quantity | None:
    if text[-1:].isdigit() and (value := number(text)) is not None and not _MONEY.search(text):
        return Quantity(value, value, ())
    return found if (found := quantity(text)) and set(found.unit) <= _MONEY_OR_PERCENT else None


def _apart(text: str) -> str:
    """Return `text` with its commas spaced if it is a list in brackets without a blank whose commas separate no thousands ("[1,000]")."""
    return text.replace(",", ", ") if ",0" not in text and _BRACKETED.fullmatch(text) else text


def _item(text: str) -> Fraction | str:
    """Return a number if `text` is one without a unit; else the text."""
    if not _DIGIT.search(text):
        return text
    if (value := number(text)) is not None:
        return value
    found = _bare_quantity(text)
    return found.low if found and found.low == found.high else text
