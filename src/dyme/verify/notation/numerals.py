"""Numbers, lists in order, else text: the plain forms that kind `auto` compares first (`answers/auto.py`), and that all kinds read.

The reference code says "1,000" != "1000", "$5" != "5", "5%" != "5" and "0.0" != "0", and is strict in training but 5 % tolerant
in evaluation. Here both sides of a comparison are first read the same way, numbers as exact fractions. `docs/metrics.md` lists the
differences to the published code.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

LONGEST_NUMBER = 64
"""Most characters of a number; a longer text is compared as text, so that very long digit strings cost nothing."""

_PLAIN = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\uff0d", "-") | dict.fromkeys("“”", '"') | dict.fromkeys("‘’", "'"))
_WRAPS = {'"': '"', "'": "'", "`": "`", "(": ")", "[": "]", "{": "}"}
_LAYERS = 4
"""Most layers of surrounding quotes and brackets that are removed."""
_CURRENCY = "[$€£¥₹]"
_SIGN = re.compile("[$€£¥₹%]")
_NUMBER = re.compile(
    rf"(?:{_CURRENCY} ?)?([+-]?) ?(?:{_CURRENCY} ?)?"
    rf"((?:[0-9]{{1,3}}(?:,[0-9]{{3}})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)"
    rf" ?(?:%|{_CURRENCY})?"
)
_SEPARATOR = re.compile(r", |(?<![0-9]),|,(?![0-9]{3}(?![0-9]))")
"""A comma, unless it separates thousands: "1,000" is one number, "1, 000" and "10,20" are lists."""


def matches(prediction: str, target: str, *, tolerance: float = 0.0) -> bool:
    """Return whether `prediction` gives the answer `target`; an empty prediction never does.

    Case, spacing, a final period and surrounding quotes or brackets do not count. A number p is right for t if
    |p - t| <= tolerance * |t|: `tolerance` is relative and finite (ChartQA's relaxed accuracy: 0.05), 0 asks for equality,
    and a target of zero asks for exactly zero. Lists are compared item by item, in order; everything else as text. A currency or
    percent sign may be left out but not changed.
    """
    predicted, wanted = read(prediction), read(target)
    if predicted == wanted:
        return bool(prediction.strip()) and (prediction == target or not _other_sign(prediction, target))
    if not tolerance > 0 or len(predicted) != len(wanted):
        return False
    limit = Fraction(str(tolerance))
    return all(within(p, t, limit) for p, t in zip(predicted, wanted, strict=True)) and not _other_sign(prediction, target)


@lru_cache(maxsize=8192)
def read(text: str) -> tuple[Fraction | str, ...]:
    """Return the items of an answer, numbers as exact fractions; two texts are the same answer if and only if these are equal."""
    return tuple(item if (value := number(item)) is None else value for item in split(text))


def split(text: str) -> list[str]:
    """Return the items of an answer as texts, in lower case, without the parts that do not count."""
    return [peel(item) for item in _SEPARATOR.split(peel(" ".join(text.translate(_PLAIN).casefold().split())))]


def number(text: str) -> Fraction | None:
    """Return the number that `text` is, without its currency or percent sign ("5%" is 5, as in ChartQA); None if it is not one."""
    if len(text) > LONGEST_NUMBER or not (found := _NUMBER.fullmatch(text)):
        return None
    return Fraction(found[1] + found[2].replace(",", ""))


def peel(text: str) -> str:
    """Return `text` without a final period and surrounding quotes or brackets, unless nothing is left."""
    for _ in range(_LAYERS):
        inner = text.strip().rstrip(". ")
        if len(inner) > 1 and inner[-1] == _WRAPS.get(inner[0]) and _is_pair(inner):
            inner = inner[1:-1].strip()
        if not inner or inner == text:
            break
        text = inner
    return text


def _is_pair(text: str) -> bool:
    """Return whether the first and last character are a pair: in "(a) or (b)" they do not."""
    opened, closed = text.find(text[0], 1, -1), text.find(text[-1], 1, -1)
    return closed < 0 or 0 <= opened < closed


def _other_sign(one: str, other: str) -> bool:
    """Return whether two answers are in different currencies, or one of them in percent."""
    signs, others = set(_SIGN.findall(one)), set(_SIGN.findall(other))
    return bool(signs and others) and signs != others


def within(prediction: Fraction | str, target: Fraction | str, limit: Fraction) -> bool:
    """Return whether a number is within `limit` times the target of it; texts must be equal."""
    if isinstance(prediction, str) or isinstance(target, str):
        return prediction == target
    return abs(prediction - target) <= limit * abs(target)
