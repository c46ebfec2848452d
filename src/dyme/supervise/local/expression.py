"""The value of an arithmetic expression in a trace, by recursive descent: exact fractions, brackets, no evaluation of code."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

from dyme.verify.answers import number

MOST_TOKENS = 80
"""Most numbers and signs of an expression; a longer one is not read."""


@lru_cache(maxsize=4096)
def evaluate(tokens: tuple[str, ...]) -> Fraction | None:
    """Return the value of an expression with brackets; None if it is not an expression, too long, or divides by zero."""
    if not tokens or len(tokens) > MOST_TOKENS:
        return None
    rest = list(tokens[::-1])
    try:
        value = _sum(rest)
    except (ValueError, ZeroDivisionError, IndexError, RecursionError):
        return None
    return None if rest else value


def _sum(rest: list[str]) -> Fraction:
    total = _product(rest)
    while rest and rest[-1] in "+-":
        total = total + _product(rest) if rest.pop() == "+" else total - _product(rest)
    return total


def _product(rest: list[str]) -> Fraction:
    total = _atom(rest)
    while rest and rest[-1] in "*/":
        total = total * _atom(rest) if rest.pop() == "*" else total / _atom(rest)
    return total


def _atom(rest: list[str]) -> Fraction:
    token = rest.pop()
    if token == "-":
        return -_atom(rest)
    if token == "(":
        value = _sum(rest)
        if rest.pop() != ")":
            raise ValueError("no closing bracket")
        return value
    value_ = number(token)
    if value_ is None:
        raise ValueError(f"{token!r} is no number")
    return value_
