"""The facts of an image as the local helpers see them: entries with a name, the parts of that name, and a value.

The subject of a table's cell is "row, column"; a chart's or a two-column table's is its label alone. A question singles out
entries by naming their rows or columns: "On Sunday, which beverage had the lowest sales?" names a column of a table of drinks.
A text that OCR read without a label ("tick 100") has the name of its role (`chart_pairs.ROLES`) and counts as text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from dyme.facts.chart_pairs import ROLES
from dyme.types import Fact
from dyme.verify.answers import number
from dyme.verify.thinking import NUMBER, plain

_TIME = re.compile(r"\b([0-9]{1,2})[:.]([0-9]{2}) ?([ap])\. ?m\b\.?")
_MONEY = re.compile(r"[$€£¥₹] ?(?=[0-9.])")
_PERCENT = re.compile(r"(?<=[0-9])(?: |\\)+%")
_FRACTION = re.compile(r"(?:(?<![0-9])([0-9]+))?\\frac\{([^{}]*)\}\{([^{}]*)\}")
_MIXED = re.compile(rf"(?<![\w.,/+*-])(?:({NUMBER})\+)?({NUMBER})/({NUMBER})(?![\w/])")
_LEADING = re.compile(rf"({NUMBER})(?![\w:])")
_NUMBERS = re.compile(rf"(?<![\w.:])(?<!\w[-/]){NUMBER}(?![\w:])")
_ARGUMENT = re.compile(r"(?<=\w), (?=[^()\s]{1,20}(?:, [^()\s]{1,20}){0,6}\))")
"""The space between the arguments of a relation: "parallel(ab, cd)"."""
_CHOICES = re.compile(r"\n(?:choices|options):.*", re.IGNORECASE | re.DOTALL)
_WORD = re.compile(r"[^\W_]+")
_LETTER = re.compile(r"\b[a-z]\b")
_FILLERS = frozenset(re.findall(r"\w+", "a an the of in on at for and or to per number is are was were ms mr mrs dr s"))


@dataclass(frozen=True, slots=True)
class Entry:
    """One fact, read: `parts` of the subject in plain characters (row and, if there is one, column)."""

    fact: Fact
    parts: tuple[str, ...]
    text: str
    """The value in plain characters."""
    value: Fraction | None
    """The number that the value is or begins with ("$5 per lb", "1/2"); None for text, times, lists and unpaired values."""
    paired: bool = True
    """Whether the subject names the value's item; False for the roles of `chart_pairs`."""

    @property
    def name(self) -> str:
        """Return the row's or the item's name, as the facts spell it."""
        return self.fact.subject.rpartition(", ")[0] if len(self.parts) > 1 else self.fact.subject


@lru_cache(maxsize=16384)
def normal(text: str) -> str:
    """Return `text` in plain characters, without currency signs; clock times, fractions and percent in one spelling."""
    text = _PERCENT.sub("%", _MONEY.sub("", plain(text))).replace("\u2192", "=")
    if "\\frac" in text:
        text = _FRACTION.sub(_fraction, text.replace("\\\\", "\\"))
    if "(" in text:
        text = _ARGUMENT.sub(",", text)
    return _TIME.sub(r"\1:\2\3m", text) if "m" in text else text


def asked(question: str) -> str:
    """Return the question in normal text, without the line of choices, which names other rows."""
    return normal(_CHOICES.sub("", question))


def _fraction(found: re.Match[str]) -> str:
    whole, above, below = found.groups()
    value, under = number(above), number(below)
    if whole and value is not None and under:
        return decimal(int(whole) + value / under)
    return f"({above}) / ({below})" if value is None or under is None else f"{above}/{below}"


def decimal(value: Fraction) -> str:
    """Return a number as written in a trace: "69", "0.75"; "2/3" if its decimals do not end within four places."""
    if value.denominator == 1:
        return str(value.numerator)
    exact = value * 10_000
    return f"{float(value):.4f}".rstrip("0") if exact.denominator == 1 else f"{value.numerator}/{value.denominator}"


@lru_cache(maxsize=4096)
def entries(facts: tuple[Fact, ...]) -> tuple[Entry, ...]:
    """Return the entries of `facts`, in order; a subject is split into row and column where several subjects share either."""
    halves = [tuple(part for part in normal(fact.subject).rpartition(", ")[::2] if part) for fact in facts]
    rows = [half[0] for half in halves if len(half) == 2]
    columns = [half[1] for half in halves if len(half) == 2]
    read = []
    for fact, half in zip(facts, halves, strict=True):
        whole = len(half) < 2 or half[0].count("(") != half[0].count(")")
        shared = not whole and (rows.count(half[0]) > 1 or columns.count(half[1]) > 1)
        text = normal(fact.value)
        paired = fact.subject not in ROLES
        read.append(Entry(fact, half if shared else (normal(fact.subject),), text, _value(text) if paired else None, paired))
    return tuple(read)


def paired(facts: tuple[Fact, ...]) -> tuple[Entry, ...]:
    """Return the entries of `facts` whose subject names the value's item."""
    return tuple(entry for entry in entries(facts) if entry.paired)


def _value(text: str) -> Fraction | None:
    """Return the number that `text` begins with; None if it is the start of a list, a date or a time."""
    if fraction := _MIXED.match(text):
        return numbers(fraction[0])[0] if numbers(fraction[0]) else None
    leading = _LEADING.match(text)
    return number(leading[1]) if leading and not re.match(r"(?:, ?|/)[0-9]", text[leading.end() :]) else None


@lru_cache(maxsize=16384)
def numbers(text: str) -> tuple[Fraction, ...]:
    """Return the numbers in normal `text`; "3/4" and "4+3/4" are one number each and come first, the others follow in order."""
    found: list[Fraction] = []
    if "/" in text:
        for whole, above, below in _MIXED.findall(text):
            over, under = _exact(above), _exact(below)
            if over is not None and under:
                found.append((_exact(whole) or 0 if whole else 0) + over / under)
        text = _MIXED.sub(" ", text)
    return (*found, *(value for written in _NUMBERS.findall(text) if (value := _exact(written)) is not None))


_exact = lru_cache(maxsize=16384)(number)


@lru_cache(maxsize=16384)
def words(text: str) -> frozenset[str]:
    """Return the content words of normal `text`, singular."""
    return frozenset(_singular(word) for word in _WORD.findall(text) if word not in _FILLERS)


def _singular(word: str) -> str:
    if len(word) > 3 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def naming(entry: Entry, question: frozenset[str]) -> int:
    """Return the number of parts of the entry's name that the question contains in full."""
    return sum(bool(own) and own <= question for own in map(_core, entry.parts))


def _core(part: str) -> frozenset[str]:
    """Return the words by which a question names `part`: of a heading with a number ("Year 2015"), the number alone."""
    *_, last = part.split() or [""]
    return words(last) if number(last) is not None else words(part) or frozenset(part.split())


def scope(found: Sequence[Entry], question: str) -> tuple[Entry, ...]:
    """Return the entries that `question` (normal text) names most fully; all of them if it names none."""
    asked = words(question) | set(_LETTER.findall(question))
    ranks = [naming(entry, asked) for entry in found]
    best = max(ranks, default=0)
    return tuple(entry for entry, rank in zip(found, ranks, strict=True) if rank == best)


def groups(found: Sequence[Entry]) -> list[tuple[Entry, ...]]:
    """Return groups of entries to compare: all with a number, and those of each row and of each column."""
    numeric = [entry for entry in found if entry.value is not None]
    shared: dict[tuple[int, str], list[Entry]] = {}
    for entry in numeric:
        if len(entry.parts) > 1:
            for k, part in enumerate(entry.parts):
                shared.setdefault((k, part), []).append(entry)
    return [tuple(group) for group in (numeric, *shared.values()) if group]
