r"""The value of a numeric expression in plain LaTeX (`latex.py`): numbers, + - * / ^, \frac, \sqrt and \pi, by recursive descent.

Exact as long as it is rational, else a float. Nothing is executed: the code below reads every sign, and length, depth and
size of powers are limited.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

LONGEST = 200
"""Most characters."""
DEEPEST = 20
"""Most brackets within brackets."""
LARGEST_EXPONENT = 64
MOST_BITS = 4096
"""Largest numerator or denominator of a power."""

Value = Fraction | float
_TOKEN = re.compile(r"\s*(?:([0-9]+(?:\.[0-9]+)?|\.[0-9]+)|(\\[a-z]+|[-+*/^(){}\[\]]))")
_CLOSING = {"(": ")", "{": "}", "[": "]"}


class _Unreadable(Exception):
    """Error: not a numeric expression, or one that is too large."""


def value(text: str) -> Value | None:
    """Return the value of `text`; None if it is not a numeric expression, has no finite real value or is beyond the limits."""
    try:
        tokens = _tokens(text)
        reader = _Reader(tokens)
        result = reader.sum(0)
        if reader.at != len(tokens) or not math.isfinite(result):
            return None
    except (_Unreadable, ZeroDivisionError, OverflowError, ValueError):
        return None
    return result


def _tokens(text: str) -> list[str]:
    if len(text) > LONGEST:
        raise _Unreadable
    found: list[str] = []
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if not token:
            raise _Unreadable
        found.append(token[1] or token[2])
        at = token.end()
    return found


class _Reader:
    """One method a level of precedence; `at` is the next token."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0

    def next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, wanted: str = "") -> str:
        token = self.next()
        if not token or (wanted and token != wanted):
            raise _Unreadable
        self.at += 1
        return token

    def sum(self, depth: int) -> Value:
        total = self.product(depth)
        while self.next() in ("+", "-"):
            sign = -1 if self.take() == "-" else 1
            total = total + sign * self.product(depth)
        return total

    def product(self, depth: int) -> Value:
        result = self.signed(depth)
        while (token := self.next()) and token not in "+-)}]":
            if token in "*/":
                self.take()
                factor = self.signed(depth)
                result = result * factor if token == "*" else result / factor
            elif _is_number(token):
                raise _Unreadable
            else:
                result = result * self.power(depth)
        return result

    def signed(self, depth: int) -> Value:
        sign = 1
        while self.next() in ("+", "-"):
            sign = -sign if self.take() == "-" else sign
        return sign * self.power(depth)

    def power(self, depth: int) -> Value:
        base = self.atom(depth)
        if self.next() != "^":
            return base
        self.take()
        sign = -1 if self.next() == "-" and self.take() else 1
        exponent = Fraction(self.take()) if _is_number(self.next()) else self.atom(depth + 1)
        if self.next() == "^":
            raise _Unreadable
        return _power(base, sign * exponent)

    def atom(self, depth: int) -> Value:
        token = self.take()
        if depth > DEEPEST:
            raise _Unreadable
        if token in _CLOSING:
            inner = self.sum(depth + 1)
            self.take(_CLOSING[token])
            return inner
        if token == "\\frac":
            top, bottom = self.group(depth), self.group(depth)
            return top / bottom
        if token == "\\sqrt":
            root = self.group(depth, "[") if self.next() == "[" else Fraction(2)
            return _root(self.group(depth), root)
        if token == "\\pi":
            return math.pi
        if not _is_number(token):
            raise _Unreadable
        return Fraction(token) + (self.proper_fraction() if token.isdigit() else 0)

    def proper_fraction(self) -> Fraction:
        r"""Return the 1/2 of "3 1/2" and "3\frac{1}{2}"; 0 if none follows."""
        following = self.tokens[self.at : self.at + 7]
        if following[1:2] == ["/"] and len(following) > 2:
            top, bottom, length = following[0], following[2], 3
        elif len(following) == 7 and "".join(following[k] for k in (0, 1, 3, 4, 6)) == "\\frac{}{}":
            top, bottom, length = following[2], following[5], 7
        else:
            return Fraction(0)
        if not (top.isdigit() and bottom.isdigit() and 0 < int(top) < int(bottom)):
            return Fraction(0)
        self.at += length
        return Fraction(int(top), int(bottom))

    def group(self, depth: int, opening: str = "{") -> Value:
        self.take(opening)
        inner = self.sum(depth + 1)
        self.take(_CLOSING[opening])
        return inner


def _is_number(token: str) -> bool:
    return token[:1].isdigit() or token[:1] == "."


def _power(base: Value, exponent: Value) -> Value:
    if not -LARGEST_EXPONENT <= exponent <= LARGEST_EXPONENT:
        raise _Unreadable
    if isinstance(base, Fraction) and isinstance(exponent, Fraction) and exponent.denominator == 1:
        if max(base.numerator.bit_length(), base.denominator.bit_length()) * abs(exponent.numerator) > MOST_BITS:
            raise _Unreadable
        power: Fraction = base**exponent.numerator
        return power
    return math.pow(base, exponent)


def _root(radicand: Value, degree: Value) -> Value:
    if radicand < 0 or degree not in (2, 3, 4):
        raise _Unreadable
    if isinstance(radicand, Fraction) and degree == 2:
        top, bottom = math.isqrt(radicand.numerator), math.isqrt(radicand.denominator)
        if top * top == radicand.numerator and bottom * bottom == radicand.denominator:
            return Fraction(top, bottom)
    return math.pow(radicand, 1 / degree)
