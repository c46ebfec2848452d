"""Measure how true a thinking trace is: the thinking reward r_t without a judge (paper, Eq. 2; "Pure DyME" is `token_f1`).

A trace is read for two kinds of statements: name-value ones about known subjects ("fig 82", "fig is 82") and equations
("82 - 13 = 69"). `fact_f1` compares them with the facts of the image. It is an F1 because one safe fact would give full precision and
a list of everything full recall; true equations earn nothing, since there is no end of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from dyme.types import Fact
from dyme.verify.answers import number, read

_PLAIN = str.maketrans(dict.fromkeys("\u2013\u2212", "-") | {"×": "*", "÷": "/"})
_BULLET_OR_GAP = re.compile(r"^[^\S\n]*[-*•][^\S\n]+|[^\S\n]+", re.MULTILINE)
NUMBER = r"(?>-?(?:[0-9]{1,3}(?:,[0-9]{3}){1,8}(?![0-9])|[0-9]+)(?:\.[0-9]+)?)"
"""Pattern of a number in plain characters: "-4.5", "1,640"; groups of thousands are limited, so that a search takes linear time."""
_OPERATOR = " ?[-+*/] ?"
_VALUE = re.compile(rf"(?: ?[:=] ?| (?:(?:is|at|has) )?)((?:[$€£¥₹] ?)?{NUMBER}%?+)(?!\w|{_OPERATOR}[0-9])")
_MOST_TERMS = 30
"""Most operators on one side of an equation; a longer one is not read."""
_SIDE = rf"{NUMBER}(?:{_OPERATOR}{NUMBER}){{0,{_MOST_TERMS}}}+"
_EQUATION = re.compile(
    r"(?<![\w.])(?<![-+*/])(?<![-+*/] )"  # not from the middle of a number or of an expression with words in it
    rf"{NUMBER}(?:{_OPERATOR}{NUMBER}){{1,{_MOST_TERMS}}}+(?: ?= ?{_SIDE})+(?![\w%])"
)
_TERM = re.compile(rf"([-+*/]?) ?({NUMBER})")
_TOKEN = re.compile(r"[0-9]+(?:[.,][0-9]+)*|[^\W\d_]+")


@dataclass(frozen=True, slots=True)
class Equation:
    """An equation as stated, in plain characters, and whether all its sides are exactly equal."""

    text: str
    holds: bool


@dataclass(frozen=True, slots=True)
class Statements:
    """The distinct statements of a trace, in order: "fig 82" and "fig is 82.0" are one."""

    facts: tuple[Fact, ...]
    equations: tuple[Equation, ...]


def statements(thinking: str, subjects: Sequence[str]) -> Statements:
    """Return the numeric statements of `thinking` about `subjects` (whole words, any case), and its equations.

    Read as name and value: "fig 82", "fig is 82", "fig at 82", "fig has 82", "fig = 82" and "fig: 82", not "fig, 82" nor
    "fig is 82 - 13". Read as an equation: numbers with + - * / × between them and at least one "=" after them.
    """
    text = plain(thinking)
    names = {name: subject for subject in subjects if (name := _subject(subject))}
    facts: dict[object, Fact] = {}
    for name, value in _named_values(text, tuple(sorted(names))):
        facts.setdefault((name, read(value)), Fact(names[name], value))
    equations = dict.fromkeys(found.replace(" ", "") for found in _EQUATION.findall(text)) if "=" in text else {}
    return Statements(tuple(facts.values()), tuple(Equation(e, _holds(e)) for e in equations))


def true_statements(thinking: str, facts: Sequence[Fact]) -> tuple[int, int]:
    """Return (true, stated): stated counts distinct statements about the subjects of `facts` and equations, true those that are true."""
    stated = statements(thinking, [fact.subject for fact in facts])
    true = len(_keys(stated.facts) & _keys(facts)) + sum(e.holds for e in stated.equations)
    return true, len(stated.facts) + len(stated.equations)


def fact_f1(thinking: str, facts: Sequence[Fact]) -> float:
    """Return F1 in [0, 1] between the facts that `thinking` states and `facts`; a false equation counts as a false fact."""
    stated = statements(thinking, [fact.subject for fact in facts])
    known = _keys(facts)
    hits = len(_keys(stated.facts) & known)
    return _f1(hits, len(stated.facts) + sum(not e.holds for e in stated.equations), len(known))


def token_f1(thinking: str, reference: str) -> float:
    """Return F1 in [0, 1] between the words and numbers of two traces, in lower case, each counted as often as it occurs."""
    said, wanted = _tokens(thinking), _tokens(reference)
    return _f1((said & wanted).total(), said.total(), wanted.total())


def _f1(hits: int, stated: int, wanted: int) -> float:
    return 2 * hits / (stated + wanted) if hits else 0.0


def _keys(facts: Sequence[Fact]) -> set[object]:
    return {(_subject(fact.subject), read(fact.value)) for fact in facts}


def plain(text: str) -> str:
    """Return `text` in lower case with ASCII signs of arithmetic, single spaces and no bullets; line breaks stay."""
    return _BULLET_OR_GAP.sub(" ", text.casefold().translate(_PLAIN)).strip()


@lru_cache(maxsize=8192)
def _subject(name: str) -> str:
    return plain(name)


def _tokens(text: str) -> Counter[str]:
    return Counter(_TOKEN.findall(text.lower()))


def _named_values(text: str, names: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield each of `names` that a value follows, with that value."""
    pattern = any_of(names)
    found = pattern.search(text) if names else None
    while found:
        value = _VALUE.match(text, found.end())
        if value:
            yield found[0], value[1]
        found = pattern.search(text, (value or found).end())


@lru_cache(maxsize=8192)
def any_of(names: tuple[str, ...]) -> re.Pattern[str]:
    """Return a pattern for any of `names`, the longest one first."""
    return re.compile(rf"(?<!\w)(?:{'|'.join(re.escape(name) for name in sorted(names, key=len, reverse=True))})(?!\w)")


def _holds(equation: str) -> bool:
    first, *others = (_evaluate(side) for side in equation.split("="))
    return first is not None and all(other == first for other in others)


def _evaluate(side: str) -> Fraction | None:
    """Return the value of "1+2*3"; None for a division by zero or a number too long to read."""
    total = product = Fraction(0)
    for operator, text in _TERM.findall(side):
        value = number(text)
        if value is None or (operator == "/" and not value):
            return None
        if operator == "*":
            product *= value
        elif operator == "/":
            product /= value
        else:
            total, product = total + product, -value if operator == "-" else value
    return total + product
