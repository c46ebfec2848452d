r"""Kind `number`: a number as people write it, with its unit (GSM8K's and TabMWP's exact match of the number).

It reads signs, thousands, currency, percent, fractions and mixed numbers, powers of ten, number words, millions, ranges and units, in
plain text and in LaTeX ("\frac{3}{4}", "\$14", "14\text{ dollars}").
Values are exact fractions; nothing is converted (50 mm is not 5 cm).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from dyme.types import Sample
from dyme.verify.notation.bare import bare
from dyme.verify.notation.numerals import LONGEST_NUMBER, matches
from dyme.verify.notation.scales import SCALES, and_part, scaled, some_parts, spell_letters, spelled
from dyme.verify.notation.units import Unit, agree, known, read_unit
from dyme.verify.notation.words import plain

LONGEST_LATEX = 200
"""Most characters of a number in LaTeX."""
LARGEST_EXPONENT = 30
"""Largest power of ten: a text beyond it ("1e999999") is not a number."""
_CURRENCY = r"(?:us|au|ca|[ac])?\$|[€£¥₹₩₽₫₪₱฿]|(?:usd|eur|gbp|jpy|inr|cny|rmb|chf|aud|cad|krw)(?![a-z])|rs\.?(?= ?[0-9])"
_DECIMAL = r"(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?!,?[0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
_ABOUT = re.compile(
    r"(?:it is|about|approximately|approx\.?|circa|ca\.|around|roughly|exactly|precisely|a total of|only|just"
    r"|[~≈=∼]|\\(?:approx|sim)(?![a-z])) ?"
)
_MINUS = re.compile(r"(?:minus|negative) ")
_HEAD = re.compile(rf"([-+]?) ?((?:{_CURRENCY})?) ?([-+]?) ?")
_MIXED = re.compile(r"([0-9]+)(?: and |-| )([0-9]+) ?/ ?([0-9]+)(?![0-9/.])")
_FRACTION = re.compile(r"([0-9]+) ?/ ?([0-9]+)(?![0-9/.])")
_SCIENTIFIC = re.compile(rf"({_DECIMAL})(?:e([-+]?[0-9]+)(?![0-9.])| ?[x*×] ?10 ?(?:\^|\*\*) ?[({{]?([-+]?[0-9]+)[)}}]?(?![0-9.]))")
_POWER = re.compile(r"()10 ?(?:\^|\*\*) ?()[({]?([-+]?[0-9]+)[)}]?(?![0-9.])")
_PLAIN_NUMBER = re.compile(rf"{_DECIMAL}(?![0-9])")
_GROUPED = re.compile(
    r"(?:([0-9]{1,3}(?: [0-9]{3})+|[0-9]{1,3}(?:'[0-9]{3})+|[0-9]{1,2}(?:,[0-9]{2})+,[0-9]{3})(?:\.([0-9]+))?"
    r"|([0-9]{1,3}(?:\.[0-9]{3}){2,}|[0-9]{1,3}(?:[ .][0-9]{3})+(?=,[0-9]))(?:,([0-9]+))?)(?! ?[/,.']?[0-9])"
)
"""Thousands that are separated by blanks, apostrophes or points, and Indian groups: "1 234", "1'234", "1.234,5", "12,34,567"."""
_GROUPS = re.compile(r"[0-9][ ',.][0-9]")
_ATTACHED = re.compile(r"[a-z]{1,3}(?![a-z])")
"""Letters that are not a unit if they directly follow a number and are not known as one: "5abc"."""
_JOINT = re.compile(r" ?- ?| to | through ")


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number, or a range from `low` to `high`, and its unit (empty if none is given)."""

    low: Fraction
    high: Fraction
    unit: Unit

    def times(self, factor: int) -> Quantity:
        """Return the quantity multiplied by `factor`."""
        return Quantity(self.low * factor, self.high * factor, self.unit)


def same_quantity(prediction: str, sample: Sample, tolerance: float) -> bool:
    """Return whether `prediction` is the number of the answer, within `tolerance` of it; both ends of a range must be.

    A unit may be left out. If the answer or the sample names one, a prediction may not name another. If the sample's unit is
    counted in millions, the prediction may be too. An answer that is not a number is compared as kind auto.
    """
    wanted = quantity(sample.answer, sample.unit)
    if wanted is None:
        return matches(prediction, sample.answer, tolerance=tolerance)
    found = quantity(prediction, sample.unit)
    scale, unit = _scale_of(sample.unit) if sample.unit else (1, ())
    if found is None or not agree(found.unit, wanted.unit or unit):
        return False
    return near(found, wanted, tolerance) or (scale > 1 and near(found, wanted.times(scale), tolerance))


def near(found: Quantity, wanted: Quantity, tolerance: float) -> bool:
    """Return whether both ends are within `tolerance` of those wanted, relative to them."""
    if not tolerance:
        return (found.low, found.high) == (wanted.low, wanted.high)
    limit = Fraction(str(tolerance))
    return all(abs(p - t) <= limit * abs(t) for p, t in ((found.low, wanted.low), (found.high, wanted.high)))


@lru_cache(maxsize=1024)
def _scale_of(unit: str) -> tuple[int, Unit]:
    """Return the factor in a row's unit, and the rest of the unit: a million, and dollars."""
    first, _, rest = plain(unit).casefold().partition(" ")
    scale = SCALES.get(first) or 1
    return scale, read_unit(rest.removeprefix("of ") if scale > 1 else plain(unit).casefold()) or ()


@lru_cache(maxsize=8192)
def quantity(text: str, unit: str = "") -> Quantity | None:
    """Return the quantity in `text`; None unless it is a number or a range, at most with a unit. `unit` is accepted as spelled."""
    text = plain(text)
    if len(text) <= LONGEST_LATEX and ("\\" in text or "{" in text or text.count("$") > 1):
        text = bare(text)
    if len(text) > LONGEST_NUMBER + len(unit):
        return None
    text, unit = spell_letters(text).casefold(), plain(unit).casefold() if unit else ""
    if text[:1] + text[-1:] in ("()", "[]", "{}"):
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
    """Return `text` as a number and its unit; None if it is not one."""
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
    currency = read_unit(head[2]) or () if head[2] else ()
    if not rest or (unit and rest.strip() == unit):
        return value, currency if not rest else read_unit(unit) or ()
    part, rest = and_part(rest)
    multiplied = scaled(value + (part if value >= 0 else -part), rest, money=bool(currency))
    if multiplied is None:
        return None
    value, rest = multiplied
    named = read_unit(rest) if rest else ()
    if named and not known(named) and _ATTACHED.match(rest):
        return None
    return None if named is None else (value, tuple(dict.fromkeys(currency + named)))


def _value(text: str) -> tuple[Fraction, str] | None:
    """Return the number without sign that `text` begins with, and the rest."""
    if "/" in text:
        if found := _MIXED.match(text):
            part = Fraction(int(found[2]), int(found[3])) if int(found[3]) else 1  # people do not write "11 6/6"
            return (Fraction(found[1]) + part, text[found.end() :]) if part < 1 else None
        if found := _FRACTION.match(text):
            return (Fraction(int(found[1]), int(found[2])), text[found.end() :]) if int(found[2]) else None
    if found := _SCIENTIFIC.match(text) or _POWER.match(text):
        exponent = int(found[2] or found[3])
        value = Fraction(found[1].replace(",", "") or 1) * Fraction(10) ** exponent if abs(exponent) <= LARGEST_EXPONENT else None
        return None if value is None else (value, text[found.end() :])
    if _GROUPS.search(text) and (found := _GROUPED.match(text)):
        whole, decimals = re.sub(r"[^0-9]", "", found[1] or found[3]), found[2] or found[4] or "0"
        return Fraction(f"{whole}.{decimals}"), text[found.end() :]
    if found := _PLAIN_NUMBER.match(text):
        value, rest = Fraction(found[0].replace(",", "")), text[found.end() :]
        parts = some_parts(rest) if rest[-1:] == "s" else None
        return (value / parts[0], parts[1]) if parts and not parts[1] and not rest.endswith("quarters") else (value, rest)
    return spelled(text) if text[:1].isalpha() else None
