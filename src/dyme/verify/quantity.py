"""Kind `number`: a number as people write it, with its unit (GSM8K's and TabMWP's exact match of the number).

Read are signs, thousands, currency, percent, fractions and mixed numbers, powers of ten, number words, millions, ranges and units.
Values are exact fractions; nothing is converted (50 mm is not 5 cm).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from dyme.types import Sample
from dyme.verify.auto import LONGEST_NUMBER, matches
from dyme.verify.units import Unit, agree, read_unit
from dyme.verify.words import NUMBER_WORDS, plain

LARGEST_EXPONENT = 30
"""A power of ten beyond it ("1e999999") is no number."""
_SCALES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "mn": 10**6, "bn": 10**9, "tn": 10**12,
    "dozen": 12,
}  # fmt: skip
_CURRENCY = "[$€£¥₹]"
_DECIMAL = r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?!,?[0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
_ABOUT = re.compile(r"(?:about|approximately|approx\.?|around|roughly|exactly|only|just|[~≈=]) ?")
_MINUS = re.compile(r"(?:minus|negative) ")
_HEAD = re.compile(rf"([-+]?) ?({_CURRENCY}?) ?([-+]?) ?")
_MIXED = re.compile(r"([0-9]+)(?: and |-| )([0-9]+) ?/ ?([0-9]+)(?![0-9/.])")
_FRACTION = re.compile(r"([0-9]+) ?/ ?([0-9]+)(?![0-9/.])")
_SCIENTIFIC = re.compile(rf"({_DECIMAL})(?:e([-+]?[0-9]+)(?![0-9.])| ?[x*×] ?10 ?(?:\^|\*\*) ?[({{]?([-+]?[0-9]+)[)}}]?(?![0-9.]))")
_POWER = re.compile(r"()10 ?(?:\^|\*\*) ?()[({]?([-+]?[0-9]+)[)}]?(?![0-9.])")
_PLAIN_NUMBER = re.compile(rf"{_DECIMAL}(?![0-9])")
_WORD_NUMBER = re.compile(r"([a-z]+)(?:-([a-z]+))?(?![a-z])")
_JOINT = re.compile(r" ?- ?| to | through ")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, or a range from `low` to `high`, and its unit (empty if none is given)."""

    low: Fraction
    high: Fraction
    unit: Unit


def same_quantity(prediction: str, sample: Sample, tolerance: float) -> bool:
    """Whether `prediction` is the number of the answer, within `tolerance` of it; both ends of a range must be.

    A unit may be left out. If the answer or the sample names one, a prediction may not name another. An answer that is no number
    is compared as kind auto.
    """
    wanted = quantity(sample.answer, sample.unit)
    if wanted is None:
        return matches(prediction, sample.answer, tolerance=tolerance)
    found = quantity(prediction, sample.unit)
    if found is None or not agree(found.unit, wanted.unit or read_unit(sample.unit) or ()):
        return False
    limit = Fraction(str(tolerance))
    return all(abs(p - t) <= limit * abs(t) for p, t in ((found.low, wanted.low), (found.high, wanted.high)))


@lru_cache(maxsize=8192)
def quantity(text: str, unit: str = "") -> Quantity | None:
    """What `text` measures; None unless it is a number or a range, with a unit at most. `unit` is the one it may carry as it stands."""
    text, unit = plain(text).casefold(), plain(unit).casefold()
    if len(text) > LONGEST_NUMBER + len(unit):
        return None
    if text[:1] == "(" and text[-1:] == ")":
        text = text[1:-1].strip()
    text = text[found.end() :] if (found := _ABOUT.match(text)) else text
    if single := _single(text, unit):
        return Quantity(single[0], single[0], single[1])
    if text.startswith("between "):
        low, _, high = text.removeprefix("between ").rpartition(" and ")
        return _range(low, high, unit)
    text = text.removeprefix("from ")
    ends = (_range(text[: joint.start()], text[joint.end() :], unit) for joint in _JOINT.finditer(text))
    return next((found for found in ends if found), None)


def _range(low: str, high: str, unit: str) -> Quantity | None:
    one, other = _single(low, unit), _single(high, unit)
    return Quantity(one[0], other[0], other[1] or one[1]) if one and other and agree(one[1], other[1]) else None


def _single(text: str, unit: str) -> tuple[Fraction, Unit] | None:
    """The number that `text` is, and its unit."""
    sign = 1
    if found := _MINUS.match(text):
        sign, text = -1, text[found.end() :]
    head = _HEAD.match(text)
    assert head is not None
    valued = _value(text[head.end() :])
    if valued is None or (head[1] and head[3]):
        return None
    value, rest = valued
    value *= -sign if "-" in (head[1], head[3]) else sign
    rest = rest.strip()
    currency = read_unit(head[2]) or ()
    if unit and rest == unit:
        return value, read_unit(unit) or ()
    first, _, others = rest.partition(" ")
    while first in _SCALES:
        value, rest = value * _SCALES[first], others
        first, _, others = rest.partition(" ")
    named = read_unit(rest)
    return None if named is None else (value, tuple(dict.fromkeys(currency + named)))


def _value(text: str) -> tuple[Fraction, str] | None:
    """The number without sign that `text` begins with, and what follows it."""
    if found := _MIXED.match(text):
        return (Fraction(found[1]) + Fraction(int(found[2]), int(found[3])), text[found.end() :]) if int(found[3]) else None
    if found := _FRACTION.match(text):
        return (Fraction(int(found[1]), int(found[2])), text[found.end() :]) if int(found[2]) else None
    if found := _SCIENTIFIC.match(text) or _POWER.match(text):
        exponent = int(found[2] or found[3])
        value = Fraction(found[1].replace(",", "") or 1) * Fraction(10) ** exponent if abs(exponent) <= LARGEST_EXPONENT else None
        return None if value is None else (value, text[found.end() :])
    if found := _PLAIN_NUMBER.match(text):
        return Fraction(found[0].replace(",", "")), text[found.end() :]
    if found := _WORD_NUMBER.match(text):
        return _spelled(found, text)
    return None


def _spelled(found: re.Match[str], text: str) -> tuple[Fraction, str] | None:
    """ "seven", "forty" and "forty-two"."""
    tens, ones = NUMBER_WORDS.get(found[1]), NUMBER_WORDS.get(found[2] or "")
    if tens is None:
        return None
    if found[2] is None:
        return Fraction(tens), text[found.end() :]
    if ones is None or tens < 20 or tens % 10 or not 0 < ones < 10:
        return None
    return Fraction(tens + ones), text[found.end() :]
