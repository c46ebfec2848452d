"""Derive the answer from the facts: a search over readings of the question, without a model.

Each reading (look-up, difference, highest, count, ...) proposes operands; it is accepted if its result is the gold answer, and the accepted
reading that the question's words support best wins. The checker uses its facts as the needed ones, the refiner writes it as a trace. No
derivation is found for questions that need more than a table of numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from itertools import pairwise

from dyme.supervise.local.entries import Entry, asked, decimal, groups, normal, numbers, paired, scope, words
from dyme.types import Fact, Sample
from dyme.verify.answers import read

HIGHEST = "highest|most|largest|greatest|maximum|max|longest|biggest|best|top|oldest|heaviest|tallest|peak"
LOWEST = "lowest|least|fewest|smallest|minimum|min|shortest|youngest|lightest|worst"
_CUES = {
    "difference": "difference|more|fewer|less|larger|higher|lower|smaller|greater|change|rise|fall|drop|increase|decrease|than",
    "sum": "sum|total|altogether|combined|together|in all|need|cost|spend|and",
    "highest": HIGHEST, "lowest": LOWEST, "range": "range|span", "mean": "mean|average", "median": "median|middle", "mode": "mode",
    "order": "order|sort|rank|arrange", "ratio": "ratio|times|many times|divided", "share": "fraction|share|proportion|percent|percentage",
    "above": "above|more than|greater than|over|higher than|exceed", "below": "below|fewer than|less than|under|lower than",
    "least": "at least", "at most": "at most", "left": "left|change|remain", "enough": "enough|afford",
    "product": "cost|spend|need|pay|price|total", "look-up": "what|how|value|when", "find": "which|what|who|where|when",
}  # fmt: skip
_CUE = {shape: re.compile(rf"\b(?:{cue})\b") for shape, cue in _CUES.items()}
_MOST_PAIRS = 40
"""Number of numeric entries above which pairs that the question does not name are not tried."""


@dataclass(frozen=True, slots=True)
class Derivation:
    """One way from the facts to the gold answer."""

    shape: str
    operands: tuple[Entry, ...]
    """The facts that it needs, in the order in which it uses them."""
    steps: tuple[str, ...] = ()
    """The work in numbers: "82 - 13 = 69", "13 < 47 < 82"; empty for a look-up and for the highest or lowest."""
    target: Fraction | None = None
    """Result of the last step of arithmetic."""
    context: tuple[Entry, ...] = ()
    """Facts that are compared on the way and may be stated, but need not."""
    threshold: Fraction | None = None
    support: int = 0


@lru_cache(maxsize=4096)
def _derive(question: str, answer: str, facts: tuple[Fact, ...]) -> Derivation | None:
    search = _Search(question, answer, paired(facts))
    found = [option for option in search.options() if option.support > 0]
    return max(found, key=lambda option: option.support, default=None)  # the first of equals


def derive(sample: Sample) -> Derivation | None:
    """Return the best supported way to `sample.answer_text`, or None."""
    return _derive(sample.question, sample.answer_text, sample.facts) if sample.facts else None


def running_total(values: Sequence[Fraction]) -> tuple[str, ...]:
    """Return the sums in order: "82 + 47 = 129", "129 + 13 = 142"."""
    total, steps = values[0], []
    for value in values[1:]:
        steps.append(f"{decimal(total)} + {decimal(value)} = {decimal(total + value)}")
        total += value
    return tuple(steps)


class _Search:
    def __init__(self, question: str, answer: str, found: tuple[Entry, ...]) -> None:
        self.question = asked(question)
        self.answer = normal(answer)
        self.items = read(self.answer)
        own = numbers(self.answer)
        self.gold = own[0] if len(own) == 1 and len(self.items) == 1 and not words(re.sub(r"[0-9./]", " ", self.answer)) else None
        self.entries = found
        self.named = scope(found, self.question)
        self.singled = len(self.named) < len(found)
        self.quantities = numbers(self.question)
        named = tuple(entry for entry in self.named if entry.value is not None)
        rest = [group for group in groups(found) if group != named]
        self.groups = [named, *rest] if named else rest

    def cue(self, shape: str) -> int:
        return 2 * bool(_CUE[shape].search(self.question))

    def naming(self, used: Sequence[Entry]) -> int:
        """Return 2 if the question names exactly these entries, 1 if these among others, 0 if not these."""
        if not self.singled or not set(used) <= set(self.named):
            return 0
        return 2 if len(used) == len(self.named) else 1

    def options(self) -> Iterator[Derivation]:
        yield from self.lookups()
        for group in self.groups:
            yield from self.extremes(group)
            yield from self.orders(group)
            if self.gold is not None:
                yield from self.summaries(group)
            yield from self.counts(group)
        named = [entry for entry in self.named if entry.value is not None]
        if self.singled and named:
            yield from self.purchases(named)
        if self.gold is not None:
            yield from self.pairs(named if self.singled else [])
            yield from self.frequencies()

    def lookups(self) -> Iterator[Derivation]:
        for entry in self.entries:
            if (entry.value is not None and entry.value == self.gold) or (entry.text and entry.text == self.answer):
                named = self.naming((entry,))
                yield Derivation("look-up", (entry,), support=2 * named - (entry.value is not None and named < 2))
            if words(self.answer) and words(entry.parts[0]) <= words(self.answer) and entry.text and entry.text in self.question:
                yield Derivation("find", (entry,), support=self.cue("find") + (entry.value is None))

    def extremes(self, group: tuple[Entry, ...]) -> Iterator[Derivation]:
        values = [_number(entry) for entry in group]
        for shape, best in (("highest", max(values)), ("lowest", min(values))):
            winners = [entry for entry in group if entry.value == best]
            right = [e for e in winners if self.items in (_items(e), (best,), (*_items(e), best), (best, *_items(e)))]
            if right and len(group) > 1 and (self.gold is not None or len(winners) == 1) and (cue := self.cue(shape)):
                yield Derivation(shape, (right[0],), context=group, support=cue + (group == self.groups[0]))
        low, high = min(group, key=_number), max(group, key=_number)
        difference = _number(high) - _number(low)
        if self.gold == difference and len(group) > 1:
            cue = self.cue("range") or (self.cue("highest") and self.cue("lowest") and 2 + self.cue("difference"))
            step = f"{decimal(_number(high))} - {decimal(_number(low))} = {decimal(difference)}"
            if cue:
                yield Derivation("range", (high, low), (step,), difference, group, support=cue + 1)

    def orders(self, group: tuple[Entry, ...]) -> Iterator[Derivation]:
        ranked = sorted(group, key=_number)
        for order in (ranked, ranked[::-1]):
            if len(order) > 1 and self.items == tuple(item for entry in order for item in _items(entry)):
                yield Derivation("order", tuple(order), (_chain([_number(e) for e in order], "<" if order is ranked else ">"),), support=4)

    def counts(self, group: tuple[Entry, ...]) -> Iterator[Derivation]:
        for limit in self.quantities:
            tests = (("above", limit.__lt__), ("below", limit.__gt__), ("least", limit.__le__), ("at most", limit.__ge__))
            for shape, test in tests:
                cue = self.cue(shape)
                taken = tuple(entry for entry in group if test(_number(entry)))
                if not cue or not taken:
                    continue
                total = sum((_number(entry) for entry in taken), Fraction(0))
                if self.items in ((Fraction(len(taken)),), (Fraction(len(taken)), total)):
                    steps = running_total([_number(entry) for entry in taken]) if len(self.items) == 2 else ()
                    yield Derivation(shape, taken, steps, total if steps else None, group, limit, support=cue + (len(self.items) == 2))

    def summaries(self, group: tuple[Entry, ...]) -> Iterator[Derivation]:
        values = [_number(entry) for entry in group]
        total = sum(values, Fraction(0))
        ranked = sorted(values)
        if len(values) < 2:
            return
        mean = total / len(values)
        if self.gold in (mean, round(mean, 2)) and (cue := self.cue("mean")):
            steps = (*running_total(values), f"{decimal(total)} / {len(values)} = {decimal(mean)}")
            yield Derivation("mean", group, steps, mean, support=cue + 1)
        half = len(ranked) // 2
        median = ranked[half] if len(ranked) % 2 else (ranked[half - 1] + ranked[half]) / 2
        if self.gold == median and (cue := self.cue("median")):
            yield Derivation("median", group, (" <= ".join(decimal(v) for v in ranked),), support=cue + 1)
        counted = [values.count(value) for value in values]
        if self.gold is not None and values.count(self.gold) == max(counted) and (cue := self.cue("mode")):
            yield Derivation("mode", tuple(e for e in group if e.value == self.gold), context=group, support=cue + 1)
        if self.gold == total and self.cue("sum"):
            yield Derivation("sum", group, running_total(values), total, support=self.cue("sum") - 1 + self.naming(group))
        for entry in group:
            if total and self.gold == _number(entry) / total and (cue := self.cue("share")):
                steps = (*running_total(values), f"{decimal(_number(entry))} / {decimal(total)} = {decimal(_number(entry) / total)}")
                wanted = words(entry.parts[0]) <= words(self.question)
                yield Derivation("share", (entry, *(e for e in group if e is not entry)), steps, self.gold, support=cue + wanted)

    def pairs(self, named: Sequence[Entry]) -> Iterator[Derivation]:
        """Yield differences and ratios of two named entries; unnamed ones are left out, as too many would fit by chance."""
        for a in named[:_MOST_PAIRS]:
            for b in named[:_MOST_PAIRS]:
                if a is b:
                    continue
                x, y = _number(a), _number(b)
                support = self.naming((a, b))
                if x - y == self.gold and (cue := self.cue("difference")):
                    yield Derivation(
                        "difference", (a, b), (f"{decimal(x)} - {decimal(y)} = {decimal(x - y)}",), x - y, support=cue + support
                    )
                if y and x / y == self.gold and (cue := self.cue("ratio")):
                    yield Derivation("ratio", (a, b), (f"{decimal(x)} / {decimal(y)} = {decimal(x / y)}",), x / y, support=cue + support)
                if x + y == self.gold and self.cue("sum") and self.entries.index(a) < self.entries.index(b):
                    first, second = sorted((a, b), key=self._place)
                    steps = running_total([_number(first), _number(second)])
                    yield Derivation("sum", (first, second), steps, x + y, support=self.cue("sum") + support)

    def purchases(self, named: list[Entry]) -> Iterator[Derivation]:
        """Yield prices times amounts, the rest of a sum of money, and whether the sum is enough."""
        asked = tuple(sorted(named, key=self._place))
        values = [_number(entry) for entry in asked]
        total, steps = sum(values, Fraction(0)), running_total(values)
        for money in self.quantities[:1]:
            if self.gold == money - total and (cue := self.cue("left")):
                step = f"{decimal(money)} - {decimal(total)} = {decimal(money - total)}"
                yield Derivation("left", asked, (*steps, step), money - total, support=cue + 2)
            enough = self.cue("enough")
            if enough and self.items == ("yes" if total <= money else "no",):
                yield Derivation(
                    "enough",
                    asked,
                    (*steps, f"{decimal(total)} {'<' if total < money else '>' if total > money else '='} {decimal(money)}"),
                    total,
                    support=enough + 2,
                )
        amounts = [self._amount(entry) for entry in asked]
        if self.gold is None or not all(amounts):
            return
        products = [value * (amount or 1) for value, amount in zip(values, amounts, strict=True)]
        if sum(products, Fraction(0)) == self.gold and (cue := self.cue("product")):
            lines = tuple(f"{decimal(v)} * {decimal(a or v)} = {decimal(p)}" for v, a, p in zip(values, amounts, products, strict=True))
            yield Derivation("product", asked, (*lines, *running_total(products)), self.gold, support=cue + self.naming(asked))

    def frequencies(self) -> Iterator[Derivation]:
        """Yield sums of values of rows labelled by a number ("Goals scored 3") whose label meets the condition."""
        labelled = [(found[-1], entry) for entry in self.entries if entry.value is not None and (found := numbers(entry.parts[0]))]
        for limit in self.quantities:
            for shape, test in (("above", limit.__lt__), ("below", limit.__gt__), ("least", limit.__le__), ("at most", limit.__ge__)):
                taken = tuple(entry for label, entry in labelled if test(label))
                total = sum((_number(entry) for entry in taken), Fraction(0))
                if taken and total == self.gold and (cue := self.cue(shape)):
                    yield Derivation("sum", taken, running_total([_number(e) for e in taken]), total, support=cue + 1)
            for label, entry in labelled:
                if label == limit and entry.value == self.gold:
                    yield Derivation("look-up", (entry,), support=2)

    def _place(self, entry: Entry) -> int:
        """Return the position of the entry's name in the question; of the name's words if the whole name is missing."""
        at = self.question.find(entry.parts[0])
        if at >= 0:
            return at
        own = words(entry.parts[0])
        hits = [found.start() for found in re.finditer(r"[^\W_]+", self.question) if words(found[0]) & own]
        gaps = [(b - a, a) for a, b in pairwise(hits)]
        return min(gaps)[1] if len(own) > 1 and gaps else (hits or [0])[0]

    def _amount(self, entry: Entry) -> Fraction | None:
        """Return the last number before the entry's name in the question."""
        before = numbers(self.question[: self._place(entry)])
        mixed = [value for value in before if value.denominator > 1]
        return mixed[-1] if len(mixed) == 1 and len(self.named) == 1 else before[-1] if before else None


def _chain(values: Sequence[Fraction], sign: str) -> str:
    """Return ranked values as a chain: "10 <= 10 < 20"."""
    signs = [sign + "=" * (a == b) for a, b in pairwise(values)]
    return decimal(values[0]) + "".join(f" {sign} {decimal(value)}" for sign, value in zip(signs, values[1:], strict=True))


def _number(entry: Entry) -> Fraction:
    if entry.value is None:
        raise ValueError(f"{entry.fact} has no number")
    return entry.value


def _items(entry: Entry) -> tuple[Fraction | str, ...]:
    return read(normal(entry.name))
