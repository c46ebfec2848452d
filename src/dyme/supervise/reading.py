"""What a trace states, and whether the facts bear it out: name-value pairs, comparisons and arithmetic.

It extends `verify/thinking.py` (same numbers and names) by the wordings of free-form traces and of published solutions: "82 for
fig", "Jeanette corresponds to 38", "82 is the highest", "10 < 13 < 82", "28 minutes - 26 minutes", money, fractions, clock times.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache

from dyme.supervise.derivation import HIGHEST, LOWEST
from dyme.supervise.entries import Entry, asked, groups, normal, numbers
from dyme.verify.answer import number
from dyme.verify.thinking import NUMBER, any_of

LONGEST = 4000
"""Characters of a trace that are read; a longer one is cut."""
_LINK = r"(?: ?[:=] ?| (?:(?:is|was|at|has|had|shows?|reads?|costs?|corresponds to|equals|stands at|with|sold|got|reaches|a value of|about|the|only|is at|to be)(?: |(?= ))){0,3})"
_CLOCK = r"[0-9]{1,2}:[0-9]{2}[ap]m"
_VALUE_AFTER = re.compile(rf"{_LINK}({_CLOCK}|{NUMBER})%?(?![\w:]| ?[*/+-] ?[0-9(])")
_NAME_AFTER = re.compile(rf"(?<![\w.:])(?<![-+*/=<>] )({_CLOCK}|{NUMBER})%? (?:for|belongs to|, which is in|is in|is the value of|goes to) (?:the )?$")
_WORDED = (
    (re.compile(rf"({NUMBER}) (?:plus|and|added to) (?=[a-z ]{{0,20}}{NUMBER} (?:makes|gives|sum to|add up to))"), r"\1 + "),
    (re.compile(rf"({NUMBER}) plus (?={NUMBER})"), r"\1 + "),
    (re.compile(rf"({NUMBER}) minus (?={NUMBER})"), r"\1 - "),
    (re.compile(rf"({NUMBER}) times (?={NUMBER})"), r"\1 * "),
    (re.compile(rf"({NUMBER}) divided by (?={NUMBER})"), r"\1 / "),
    (re.compile(rf"([-+*/] {NUMBER}) (?:is|makes|gives|equals|leaves|sum to|add up to) (?={NUMBER}(?!\w| (?:more|less)))"), r"\1 = "),
)
_UNIT = re.compile(r"(?<=[0-9]) [a-z]+(?: [a-z]+)?(?= ?[-+*/=)] ?[0-9(=])")
_RUN = re.compile(rf"(?:(?<![\w.:]){NUMBER}(?![\w:%])|(?<!\w)-?\(|[-+*/)=<>]|<=|>=| (?=[-+*/()=<>0-9])|\n ?(?==))+")
_TOKEN = re.compile(rf"[0-9][0-9,]*(?:\.[0-9]+)?|[-+*/()]")
_SIDES = re.compile(r"[<>]=?|=")
_MOST_TOKENS = 80
_MORE, _LESS = "more|greater|higher|larger|bigger|above|over|taller|longer", "less|fewer|lower|smaller|below|under|shorter"


@dataclass(frozen=True, slots=True)
class Pair:
    """A value that the trace gives a name, and the facts that bear it out (none: it is false)."""

    name: str
    entries: tuple[Entry, ...]
    at: int


@dataclass(frozen=True, slots=True)
class Relation:
    """An equation, a chain of comparisons or a superlative: whether it holds, and what it is about."""

    kind: str
    """"=", "<", "highest", "lowest", "above" or "below"."""
    holds: bool
    operands: tuple[Fraction, ...]
    results: tuple[Fraction, ...] = ()
    """The sides of an equation that are a single number."""
    grounded: bool = True
    """Whether all operands come from facts, the question or earlier results."""
    at: int = 0


@dataclass(slots=True)
class Reading:
    """All statements of a trace, in normal text."""

    text: str
    pairs: list[Pair] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    strays: list[Fraction] = field(default_factory=list)
    """Numbers that neither facts nor question nor true arithmetic account for."""

    @property
    def faults(self) -> int:
        """False statements: pairs, relations that do not hold, arithmetic on numbers from nowhere."""
        wrong = {(pair.name, self.text[pair.at : pair.at + 12]) for pair in self.pairs if not pair.entries}
        return len(wrong) + sum(not (relation.holds and relation.grounded) for relation in self.relations)


class Reader:
    """Reads traces about one set of facts; what depends on the facts alone is prepared once."""

    def __init__(self, found: tuple[Entry, ...], question: str) -> None:
        self.entries = found
        self.named: dict[str, list[Entry]] = {}
        for entry in found:
            for name in dict.fromkeys((", ".join(entry.parts), *entry.parts)):
                if name and not re.fullmatch(rf"{NUMBER}|.", name):
                    self.named.setdefault(name, []).append(entry)
        self.names = any_of(tuple(sorted(self.named))) if self.named else None
        self.groups = groups(found)
        self.question = asked(question)
        held = [value for entry in found for value in (*numbers(entry.text), *(v for part in entry.parts for v in numbers(part)))]
        self.known = frozenset(map(abs, (*held, *numbers(self.question), *map(Fraction, range(max(map(len, self.groups), default=0) + 1)))))
        name = "|".join(re.escape(name) for name in sorted(self.named, key=len, reverse=True)) or r"(?!)"
        thing = rf"(?:(?:the )?(?P<name>{name})(?: at| with| is|'s)?(?: (?P<both>{NUMBER}))?|(?P<value>{NUMBER}))"
        best = rf"(?P<high>{HIGHEST})|(?P<low>{LOWEST})"
        self.superlatives = (
            re.compile(rf"(?<![\w.])(?<![-+*/] ){thing},? (?:is|was|has|had|as|being|, )? ?the (?:{best})\b(?: and it is (?P<it>{name})(?!\w))?"),
            re.compile(rf"\bthe (?:{best})(?: (?:number|value|one|bar|item|sum))?,? (?:is|was|at|of|has|:) ?(?:the value of )?{thing}(?!\w)"),
        )
        one, other = thing.replace("P<", "P<a_"), thing.replace("P<", "P<b_")
        self.comparison = re.compile(rf"(?<![\w.])(?<![-+*/=] ){one},? (?:(?:is|are|was|lies|all) )*(?:(?P<more>{_MORE})|(?P<less>{_LESS})) (?:than )?{other}(?!\w)")
        self.within = re.compile(rf"(?<=[-+*/=<>(] )(?:{name}) (?=[0-9])")
        self.chained = re.compile(rf"(?<!\w)(?:{name})(?= ?[<>])|(?<=[<>] )(?:{name})(?!\w| ?[0-9])")

    def read(self, trace: str) -> Reading:
        """What `trace` states, held against the facts."""
        text = normal(trace[:LONGEST])
        reading = Reading(text)
        self._pairs(reading)
        self._superlatives(reading)
        self._comparisons(reading)
        self._arithmetic(reading)
        return reading

    def _pairs(self, reading: Reading) -> None:
        if self.names is None:
            return
        text = reading.text
        for found in self.names.finditer(text):
            value, at = None, found.start()
            if after := _VALUE_AFTER.match(text, found.end()):
                value = after[1]
            elif before := _NAME_AFTER.search(text[max(0, at - 60) : at]):
                value = before[1]
            if value is not None:
                exact = number(value)
                hits = tuple(e for e in self.named[found[0]] if e.text == value or (exact is not None and e.value == exact))
                if hits or any(e.value is not None or e.text[:1].isdigit() for e in self.named[found[0]]):
                    reading.pairs.append(Pair(found[0], hits, at))
            else:
                self._worded(reading, found[0], found.end(), at)

    def _worded(self, reading: Reading, name: str, end: int, at: int) -> None:
        """ "The ball is red": a value in words after the name, if the facts know it as a value of anything."""
        texts = {entry.text for entry in self.entries if entry.value is None and entry.text}
        rest = re.match(r" ?(?:is|:|=|has|are)? ?(?:a |the )?([^,.;\n]+)", reading.text[end : end + 60])
        said = rest and next((text for text in texts if rest[1].strip() == text), None)
        if said:
            reading.pairs.append(Pair(name, tuple(e for e in self.named[name] if e.text == said), at))

    def _superlatives(self, reading: Reading) -> None:
        for pattern in self.superlatives:
            for found in pattern.finditer(reading.text):
                high = found["high"] is not None
                values = self._values(found["name"], found["both"] or found["value"])
                best = {(max if high else min)(e.value for e in group if e.value is not None) for group in self.groups}
                also = found.groupdict().get("it")
                hits = tuple(value for value in values if value in best and (also is None or value in self._values(also, None)))
                reading.relations.append(Relation("highest" if high else "lowest", bool(hits), hits or tuple(values[:1]), at=found.start()))

    def _comparisons(self, reading: Reading) -> None:
        for found in self.comparison.finditer(reading.text):
            left = self._values(found["a_name"], found["a_both"] or found["a_value"])
            right = self._values(found["b_name"], found["b_both"] or found["b_value"])
            if not left or not right or re.match(r"[^.;\n]{0,25}?\bthan\b", reading.text[found.end() :]):
                continue
            more = found["more"] is not None
            holds = any(a > b if more else a < b for a in left for b in right)
            count = sum((e.value or 0) > right[0] if more else (e.value or 0) < right[0] for e in self.entries if e.value is not None)
            counted = found["a_value"] is not None and left[0] == count
            reading.relations.append(Relation("above" if more else "below", holds or counted, (left[0], right[0]), at=found.start()))

    def _values(self, name: str | None, value: str | None) -> list[Fraction]:
        """The values that a name, a number, or a name with its number stand for."""
        if value is not None:
            exact = number(value)
            return [] if exact is None else [exact]
        return [e.value for e in self.named.get(name or "", ()) if e.value is not None]

    def _arithmetic(self, reading: Reading) -> None:
        text = reading.text
        if self.named and re.search(r"[-+*/=<>(] ?[a-z]|[a-z'] ?[<>]", text):
            text = self.chained.sub(lambda found: f"{self._first(found[0])}", self.within.sub("", text))
        for pattern, into in _WORDED:
            text = pattern.sub(into, text)
        text = _UNIT.sub("", text)
        known = set(self.known)
        for run in _RUN.finditer(text):
            if relation := _relation(run[0], known, run.start()):
                reading.relations.append(relation)
                if relation.holds and relation.grounded:
                    known |= {abs(result) for result in relation.results}
        reading.strays = [value for value in dict.fromkeys(numbers(text)) if abs(value) not in known]

    def _first(self, name: str) -> str:
        values = self._values(name, None)
        return str(values[0]) if values and values[0].denominator == 1 else str(float(values[0])) if values else name


def _relation(run: str, known: set[Fraction], at: int) -> Relation | None:
    """The equation or chain in a run of numbers and signs; None if it is neither."""
    signs = _SIDES.findall(run)
    if not signs:
        return None
    sides = [_TOKEN.findall(side) for side in _SIDES.split(run)]
    if not sides[0]:
        sides, signs = sides[1:], signs[1:]
    if not sides[-1:] or not sides[-1]:
        sides, signs = sides[:-1], signs[:-1]
    values = [_evaluate(tuple(side)) for side in sides]
    if len(sides) < 2 or any(value is None for value in values):
        return None
    exact = [value for value in values if value is not None]
    holds = all(_compare(a, b, sign, side) for a, b, sign, side in zip(exact, exact[1:], signs, sides[1:], strict=False))
    worked = [k for k, side in enumerate(sides) if len(side) > 2 or (len(side) == 2 and side[0] != "-")]
    if "=" in signs and not worked:
        return None
    operands = tuple(value for k in (worked if "=" in signs else range(len(sides))) for token in sides[k] if (value := number(token)) is not None)
    results = tuple(exact[k] for k in range(len(sides)) if k not in worked) if "=" in signs else ()
    grounded, held = True, set(known)
    for k in worked if "=" in signs else range(len(sides)):
        own = {abs(value) for token in sides[k] if (value := number(token)) is not None}
        grounded &= own <= held or (k > 0 and "=" in signs)  # later sides only rewrite the first
    return Relation("=" if "=" in signs else "<", holds, operands, results, grounded, at)


def _compare(a: Fraction, b: Fraction, sign: str, side: Sequence[str]) -> bool:
    if sign != "=":
        return {"<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b}[sign]
    decimals = len(side[-1].partition(".")[2])
    return a == b or (decimals > 0 and len(side) < 3 and round(a, decimals) == b)


@lru_cache(maxsize=4096)
def _evaluate(tokens: tuple[str, ...]) -> Fraction | None:
    """The value of an expression with brackets; None if it is none, too long, or divides by zero."""
    if not tokens or len(tokens) > _MOST_TOKENS:
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
