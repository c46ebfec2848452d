"""Measure how true a thinking trace is: the thinking reward r_t without a judge (paper, Eq. 2; "Pure DyME" is `token_f1`).

A trace is read for two kinds of statements: name-value ones about known subjects ("fig 82", "fig is 82") and equations
("82 - 13 = 69"). `fact_f1` compares them with the facts of the image. It is an F1 because one safe fact would give full precision and
a list of everything full recall; true equations earn nothing, since there is no end of them. `marked` says where in the trace each
statement stands, for those who read it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
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
_WORD = re.compile(r"(?<![\w'])[^\W\d_]{2,}+")
_NO_NAMES = frozenset(re.findall(
    "[a-z]+", "a about an and answer are at between by equal equals for from gives had has have in is it leaves makes minus number of on or"
    " over plus so step than that the then therefore these this thus times to total under value was we were with",
))  # fmt: skip
"""Words before a number that name nothing."""


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
    for name, value, _ in _named_values(text, tuple(sorted(names))):
        facts.setdefault((name, read(value)), Fact(names[name], value))
    equations = dict.fromkeys(found.replace(" ", "") for found in _EQUATION.findall(text)) if "=" in text else {}
    return Statements(tuple(facts.values()), tuple(Equation(e, _holds(e)) for e in equations))


@dataclass(frozen=True, slots=True)
class Marked:
    """A statement where it stands in a trace: characters `start` to `end`."""

    start: int
    end: int
    holds: bool | None
    """Whether it is true; None: nothing that is known decides it."""
    known: str
    """The fact or the result to compare it with, in words."""


def marked(thinking: str, facts: Sequence[Fact]) -> list[Marked]:
    """Return the statements of `thinking` in the order of the text, each with its truth: those that `true_statements` counts, repeated ones
    too, and, with facts, names that the facts do not have with a number from neither a fact nor an equation: their truth is not known.
    """
    text, places = _located(thinking)
    subjects = {name: fact.subject for fact in facts if (name := _subject(fact.subject))}
    found: list[tuple[tuple[int, int], bool | None, str]] = []
    found += [(span, *_compared(name, value, facts)) for name, value, span in _named_values(text, tuple(sorted(subjects)))]
    taken = {k for (start, end), _, _ in found for k in range(start, end)}
    values, numbers = {part for fact in facts for part in read(fact.value)}, set[object]()
    for equation in _EQUATION.finditer(text) if "=" in text else ():
        if taken.isdisjoint(range(*equation.span())):
            found.append((equation.span(), *_computed(equation[0], values | numbers if facts else None)))
            numbers |= {number(one) for _, one in _TERM.findall(equation[0])}
            taken.update(range(*equation.span()))
    for word in _WORD.finditer(text) if facts else ():
        value = _VALUE.match(text, word.end()) if word[0] not in _NO_NAMES and word[0] not in subjects else None
        if value and taken.isdisjoint(range(word.start(), value.end())) and (values | numbers).isdisjoint(read(value[1])):
            found.append(((word.start(), value.end()), None, f"the facts do not name {word[0]}"))
    found.sort(key=lambda one: one[0])
    return [Marked(places[start], places[end - 1] + 1, holds, known) for (start, end), holds, known in found]


def _compared(name: str, value: str, facts: Sequence[Fact]) -> tuple[bool, str]:
    """Return whether the facts give `name` this value, and the facts about it."""
    own = [fact for fact in facts if _subject(fact.subject) == name]
    return any(read(fact.value) == read(value) for fact in own), "fact: " + ", ".join(f"{fact.subject} {fact.value}" for fact in own)


def _computed(equation: str, known: Collection[object] | None) -> tuple[bool | None, str]:
    """Return whether an equation holds, and its result with the numbers that are not among those `known` (None: nothing is)."""
    first = equation.partition("=")[0]
    result = _evaluate(first.replace(" ", ""))
    if result is None:
        return None, "cannot be computed"
    if not _holds(equation.replace(" ", "")):
        return False, f"{first.strip()} is {result if result.denominator == 1 else format(float(result), '.4g')}"
    strays = [one for _, one in _TERM.findall(first) if known is not None and number(one) not in known]
    return True, "the arithmetic is right" + (f", but {', '.join(strays)} is no fact" if strays else "")


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


def _located(text: str) -> tuple[str, list[int]]:
    """Return `plain(text)`, and for each of its characters the position in `text` of the one that it comes from."""
    pairs = [(one, k) for k, whole in enumerate(text) for one in whole.casefold().translate(_PLAIN)]
    folded = "".join(one for one, _ in pairs)
    kept: list[tuple[str, int]] = []
    end = 0
    for gap in _BULLET_OR_GAP.finditer(folded):
        kept += [*pairs[end : gap.start()], (" ", pairs[gap.start()][1])]
        end = gap.end()
    kept += pairs[end:]
    found = "".join(one for one, _ in kept)
    before = len(found) - len(found.lstrip())
    return found.strip(), [k for _, k in kept[before:]]


def _named_values(text: str, names: tuple[str, ...]) -> Iterator[tuple[str, str, tuple[int, int]]]:
    """Yield each of `names` that a value follows, with that value and the place of both."""
    pattern = any_of(names)
    found = pattern.search(text) if names else None
    while found:
        value = _VALUE.match(text, found.end())
        if value:
            yield found[0], value[1], (found.start(), value.end())
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
