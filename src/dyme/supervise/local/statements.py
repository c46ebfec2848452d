"""The statements of a trace, and whether the facts support them: name-value pairs, comparisons and arithmetic.

It adds to `verify/thinking.py` (same numbers and names) the wordings of free-form traces and of published solutions: "82 for
fig", "Jeanette corresponds to 38", "82 is the highest", "10 < 13 < 82", "28 minutes - 26 minutes", money, fractions, clock times.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from dyme.supervise.local.derivation import HIGHEST, LOWEST
from dyme.supervise.local.entries import Entry, asked, groups, normal, numbers, words
from dyme.supervise.local.expression import evaluate
from dyme.verify.answers import number
from dyme.verify.notation.words import NUMBER_WORDS
from dyme.verify.thinking import NUMBER, any_of

_MOST_NAMES = 6400
"""Most names of a sample: the number of private-use characters."""
LONGEST = 4000
"""Most characters of a trace that are read; a longer trace is cut."""
_NAME = "[\ue000-\uf8ff]"
"""A name of the facts, as one private-use character: so no pattern depends on the sample."""
_LINK = (
    r"(?: ?[:=] ?| (?:(?:is|was|at|has|had|have|shows?|reads?|costs?|corresponds to|equals|stands at|with|sold|got|reaches"
    r"|a value of|about|the|only|to be)(?: |(?= ))){0,3})"
)
_CLOCK = r"[0-9]{1,2}:[0-9]{2}[ap]m"
_MORE, _LESS = "more|greater|higher|larger|bigger|above|over|taller|longer", "less|fewer|lower|smaller|below|under|shorter"
_VALUE_AFTER = re.compile(rf"{_LINK}({_CLOCK}|{NUMBER})%?(?![\w:]| ?[*/+-] ?[0-9(]| (?:{_MORE}|{_LESS}) (?!than [0-9]|[0-9]))")
_NOT_VALUE = re.compile(
    rf" (?:(?:is|was|has|does|did) not|(?:is|was|has|does|did)n't)(?: (?:at|have|had|show|read|equal))? ({NUMBER})(?![\w:])"
)
_NAME_AFTER = re.compile(
    rf"(?<![\w.:])(?<![-+*/=<>] )({_CLOCK}|{NUMBER})%? (?:for|belongs to|, which is in|is in|is the value of|goes to) (?:the )?$"
)
_AMOUNT = rf"{NUMBER}(?:/[0-9]{{1,4}}(?![0-9/])|%)?"
_THING = rf"(?:(?:the )?(?P<name>{_NAME})(?: at| with| is|'s)?(?: (?P<both>{_AMOUNT}))?|(?P<value>{_AMOUNT}))"
_BEST = rf"(?P<high>{HIGHEST})|(?P<low>{LOWEST})"
_SUPERLATIVES = (
    re.compile(
        rf"(?<![\w./])(?<![-+*/] ){_THING}(?: (?:[mbtr]+illion|thousand|percent))?,? (?:is|was|has|had|as|being|, )? ?the (?:{_BEST})\b"
        rf"(?! (?:(?:number|value|one|bar|item|sum) )?(?:is|was|of)\b)"
        rf"(?: and it is (?P<it>{_NAME})(?!\w)|(?: value| number| one| bar)?(?:,| at| with| of| is|:)"
        rf" (?P<then>{NUMBER})(?![\w%]| ?[-+*/]))?"
    ),
    re.compile(
        rf"\bthe (?:{_BEST})(?: (?:number|value|one|bar|item|sum))?(?: in (?:the )?{_NAME}(?: column| row)?)?"
        rf",? (?:is|was|at|of|has|:) ?(?:the value of )?{_THING}(?!\w)"
        rf"(?:,? (?:which is|and it is|for|of|in) (?:in |for )?(?:the )?(?P<it>{_NAME})(?!\w))?"
    ),
)
_COMPARISON = re.compile(
    rf"(?<![\w.])(?<![-+*/=] ){_THING.replace('P<', 'P<a_')},? (?:(?:is|are|was|lies|all) )*"
    rf"(?:(?P<more>{_MORE})|(?P<less>{_LESS})) (?:than )?"
    rf"{_THING.replace('P<', 'P<b_')}(?!\w)"
)
_BEFORE_NUMBER = re.compile(rf"(?:the )?{_NAME}(?:'s)? (?=[0-9])")
_BRACKETED = re.compile(rf"({_NAME}) \(({NUMBER})\)|(?<![\w.])({NUMBER}) \(({_NAME})\)")
_CHAINED = re.compile(rf"{_NAME}(?= ?[<>])|(?<=[<>] ){_NAME}(?!\w| ?[0-9])")
_IS = "(?:is|makes|gives|equals|leaves|sum to|add up to|=)"
_WORDED = tuple(
    (re.compile(pattern.replace("N", f"({NUMBER})").replace("IS", _IS)), into)
    for pattern, into in (
        (r"\b(?:subtract|subtracting|taking) N from N,? IS (?=[0-9])", r"\2 - \1 = "),
        (r"\b(?:add|adding) N (?:to|and) N,? IS (?=[0-9])", r"\1 + \2 = "),
        (r"\bdifference (?:between|of) N and N IS (?=[0-9])", r"\1 - \2 = "),
        (r"\bsum of N and N IS (?=[0-9])", r"\1 + \2 = "),
        (r"(?<![0-9])N (?:is )?(?:larger|higher|more|greater) than N by (?=[0-9])", r"\1 - \2 = "),
        (r"(?<![0-9])N and N (?:sum to|add up to|together are|make) (?=[0-9])", r"\1 + \2 = "),
        (r"(?<![0-9])N plus (?=[0-9])", r"\1 + "),
        (r"(?<![0-9])N minus (?=[0-9])", r"\1 - "),
        (r"(?<![0-9])N times (?=[0-9])", r"\1 * "),
        (r"(?<![0-9])N divided by (?=[0-9])", r"\1 / "),
        (rf"([-+*/] {NUMBER}),? (?:which )?IS (?={NUMBER}(?!\w| (?:more|less)))", r"\1 = "),
    )
)
"""Arithmetic in words, as signs; N stands for a number."""
_TIMES = re.compile(r"(?<=[0-9)]) ?x ?(?=[0-9(])")
_PERCENTS = re.compile(rf"(?<![\w.*/]){NUMBER}%(?: ?(?:[-+]|[<>]=?|=) ?{NUMBER}%)+")
"""Sums and comparisons of percents alone, whose signs can be dropped; "60% of a number" is not one."""
_UNIT = re.compile(r"(?<=[0-9]) [a-z]+(?: [a-z]+)?(?= ?\)| ?[-+*/=] ?[0-9(=])")
_RUN = re.compile(rf"(?:(?<![\w.:]){NUMBER}(?![\w:%])|(?<!\w)-?\((?=[-(0-9])|[-+*/)=<>]|<=|>=| (?=[-+*/()=<>0-9])|\n ?(?==))+")
_TOKEN = re.compile(r"[0-9][0-9,]*(?:\.[0-9]+)?|[-+*/()]")
_SIDES = re.compile(r"[<>]=?|=")
_WORDS_OF_ARITHMETIC = re.compile(r"\b(?:plus|minus|times|divided|and|is|makes|gives|equals|leaves|sum|from|by)\b")
_WORDS_AFTER = re.compile(r" ?(?:is|:|=|has|are)? ?(?:a |the )?([^,.;\n]{1,60})")
_WITHIN = re.compile(rf"({_NAME})(?:'s|,)?(?: (?:in|on|for|at|of|the))* $")
"""The row before its column, or the other way round: "men in 2015 is 40", "in 2015, men have 40"."""
_TOGETHER = re.compile(rf"{_NAME} and (?:the )?$")
_YEAR = re.compile("1[5-9][0-9]{2}|20[0-9]{2}")
_OWNER = re.compile(rf"({_NAME}) (?:has|had|is|was|sold|got|with) $")
_FORMAL = re.compile(r"(?<![a-z_])([a-z_]+)\(([^()\n]{1,60}(?:\([^()\n]{1,60}\)[^()\n]{0,60}){0,6})\)")
_THAN = re.compile(r"[^.;\n]{0,25}?\bthan\b")
_MIXED_SIGN = re.compile(r"[/+]")


@dataclass(frozen=True, slots=True)
class Pair:
    """A name and its value in a trace, and the facts that support the pair (none: it is false)."""

    name: str
    entries: tuple[Entry, ...]
    at: int
    """Position in `Reading.coded`."""
    value: str


@dataclass(frozen=True, slots=True)
class Relation:
    """An equation, a chain of comparisons or a superlative: whether it is true, and its subjects."""

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
    coded: str
    """The same text with each name of the facts as one character."""
    pairs: list[Pair] = field(default_factory=list)
    relations: list[Relation] = field(default_factory=list)
    strays: list[Fraction] = field(default_factory=list)
    """Numbers that come from neither facts nor question nor true arithmetic."""
    earlier: Collection[Fraction] = ()
    """Results of the sentences that were read before."""

    @property
    def faults(self) -> int:
        """Return the number of false statements: pairs, relations that are not true, arithmetic on numbers of unknown origin."""
        wrong = {(pair.name, pair.value) for pair in self.pairs if not pair.entries}
        return len(wrong) + sum(not (relation.holds and relation.grounded) for relation in self.relations)


class Reader:
    """Reads traces about one set of facts; patterns that depend on the facts alone are prepared once."""

    def __init__(self, found: tuple[Entry, ...], question: str) -> None:
        self.entries = found
        self.named: dict[str, list[Entry]] = {}
        for entry in found:
            for name in dict.fromkeys((", ".join(entry.parts), *entry.parts)) if entry.paired else ():
                if name:
                    self.named.setdefault(name, []).append(entry)
        self.letters = {name: chr(0xE000 + k) for k, name in enumerate(list(self.named)[:_MOST_NAMES])}
        self.letter_names = {letter: name for name, letter in self.letters.items()}
        bare = frozenset(name for name in self.letters if re.fullmatch(rf"{NUMBER}|.", name))
        spelled = {part for entry in found for part in (entry.fact.subject, *entry.fact.subject.rpartition(", ")[::2])}
        self.letter = _letters({part for part in spelled if len(part) == 1 and number(part) is None and part.casefold() in self.letters})
        self.names = any_of(tuple(sorted(self.letters.keys() - bare))) if self.letters.keys() - bare else None
        self.bare = _numbers_as_names(frozenset(name for name in bare if number(name) is not None), found)
        self.groups = groups(found)
        self.question = asked(question)
        texts = [text for entry in found for text in (entry.text, *entry.parts)] + [self.question]
        held = {
            value
            for text in texts
            for value in (*numbers(text), *(numbers(_MIXED_SIGN.sub(" ", text)) if _MIXED_SIGN.search(text) else ()))
        }
        held |= {Fraction(NUMBER_WORDS[word]) for word in words(self.question) & NUMBER_WORDS.keys()}
        counts = range(max(map(len, self.groups), default=0) + 1)
        self.known = frozenset(map(abs, held)) | set(map(Fraction, counts))
        self.predicates = {formal[1] for name in self.named if (formal := _FORMAL.fullmatch(name))}
        self.texts = {entry.text for entry in found if entry.paired and entry.value is None and entry.text}

    def read(self, trace: str, earlier: Collection[Fraction] = ()) -> Reading:
        """Return the statements of `trace`, compared with the facts and the results of `earlier` sentences."""
        text = coded = normal(trace[:LONGEST])
        if self.letter:
            coded = normal(self.letter.sub(lambda found: self.letters[found[0].casefold()], trace[:LONGEST]))
        for names in (self.names, *self.bare):
            coded = names.sub(lambda found: self.letters[found[0]], coded) if names else coded
        if "(" in coded:
            coded = _BRACKETED.sub(lambda found: f"{found[1] or found[4]} {found[2] or found[3]}", coded)
        reading = Reading(text, coded, earlier=earlier)
        self._pairs(reading)
        self._formal(reading)
        self._arithmetic(reading)
        self._superlatives(reading)
        self._comparisons(reading)
        return reading

    def _pairs(self, reading: Reading) -> None:
        text = reading.coded
        for found in re.finditer(_NAME, text):
            if found[0] not in self.letter_names:
                continue
            name, at, value = self.letter_names[found[0]], found.start(), None
            named = self._meant(name, text[max(0, at - 14) : at])
            if _TOGETHER.search(text[max(0, at - 8) : at]):  # "ham and fig have 129" gives a value to neither
                continue
            if denied := _NOT_VALUE.match(text, found.end()):
                if any(e.value == number(denied[1]) for e in named):
                    reading.pairs.append(Pair(name, (), at, f"not {denied[1]}"))
                continue
            if after := _VALUE_AFTER.match(text, found.end()):
                value = after[1]
            elif before := _NAME_AFTER.search(text[max(0, at - 60) : at]):
                value = before[1]
            if value is None and _FORMAL.fullmatch(name):
                reading.pairs.append(Pair(name, tuple(self.named[name]), at, ""))
            elif value is None:
                self._worded(reading, name, found.end(), at)
            if value is None:
                continue
            exact = number(value)
            hits = tuple(
                e
                for e in named
                if e.text == value or (exact is not None and e.value == exact) or (e.value is None and value in e.text.split(", "))
            )
            if hits or any(e.value is not None or e.text[:1].isdigit() for e in named):
                reading.pairs.append(Pair(name, hits, at, value))

    def _meant(self, name: str, before: str) -> list[Entry]:
        """Return the facts under `name`; if there are any of the row or column named right before it, these alone."""
        other = _WITHIN.search(before)
        both = [e for e in self.named.get(self.letter_names.get(other[1], ""), ()) if e in self.named[name]] if other else []
        return both or self.named[name]

    def _formal(self, reading: Reading) -> None:
        """Read relations such as Parallel(AB, CD): those among the facts are true, others of the same predicate are false."""
        for found in _FORMAL.finditer(reading.coded) if self.predicates else ():
            if found[1] in self.predicates:
                reading.pairs.append(Pair(found[0], (), found.start(), ""))

    def _worded(self, reading: Reading, name: str, end: int, at: int) -> None:
        """Read a value in words after the name ("The ball is red"), if it is the value of any fact."""
        if not self.texts:
            return
        rest = _WORDS_AFTER.match(reading.coded, end)
        said = rest[1].strip() if rest else ""
        if said in self.texts:
            reading.pairs.append(Pair(name, tuple(e for e in self.named[name] if e.text == said), at, said))

    def _superlatives(self, reading: Reading) -> None:
        results = [*reading.earlier, *(result for relation in reading.relations for result in relation.results)]
        of_groups = [[e.value for e in group if e.value is not None] for group in self.groups]
        bests = {extreme: {extreme(values) for values in (*of_groups, results) if values} for extreme in (max, min)}
        for pattern in _SUPERLATIVES:
            for found in pattern.finditer(reading.coded):
                high = found["high"] is not None
                values = self._values(found["name"], found["both"] or found["value"])
                best = bests[max if high else min]
                also = self._values(found["it"], None)
                also += self._values(None, found.groupdict().get("then"))
                hits = tuple(value for value in values if value in best and (not also or value in also))
                reading.relations.append(Relation("highest" if high else "lowest", bool(hits), hits or tuple(values[:1]), at=found.start()))

    def _comparisons(self, reading: Reading) -> None:
        for found in _COMPARISON.finditer(reading.coded):
            left = self._values(found["a_name"], found["a_both"] or found["a_value"])
            right = self._values(found["b_name"], found["b_both"] or found["b_value"])
            if not left or not right or _THAN.match(reading.coded, found.end()):
                continue
            more = found["more"] is not None
            owner = _OWNER.search(reading.coded[max(0, found.start() - 12) : found.start()]) if found["a_value"] is not None else None
            if owner and (own := self._values(owner[1], None)):  # "fig has 69 more than oat"
                fits = any(abs(a - b) == left[0] and (a > b) == more for a in own for b in right)
                reading.relations.append(Relation("above" if more else "below", fits, (own[0], right[0]), at=found.start()))
                continue
            holds = any(a > b if more else a < b for a in left for b in right)
            count = sum(e.value > right[0] if more else e.value < right[0] for e in self.entries if e.value is not None)
            counted = found["a_value"] is not None and left[0] == count
            reading.relations.append(Relation("above" if more else "below", holds or counted, (left[0], right[0]), at=found.start()))

    def _values(self, name: str | None, value: str | None) -> list[Fraction]:
        """Return the values that a name, a number, or a name with its number stand for."""
        if value is not None:
            return list(numbers(value)[:1])
        return [e.value for e in self.named.get(self.letter_names.get(name or "", ""), ()) if e.value is not None]

    def _arithmetic(self, reading: Reading) -> None:
        text = _CHAINED.sub(lambda found: self._first(found[0]), _BEFORE_NUMBER.sub("", reading.coded)) if self.named else reading.text
        if _WORDS_OF_ARITHMETIC.search(text):
            for pattern, into in _WORDED:
                text = pattern.sub(into, text)
        text = _TIMES.sub(" * ", _PERCENTS.sub(lambda found: found[0].replace("%", ""), _UNIT.sub("", text)))
        known = set(self.known) | set(map(abs, reading.earlier))
        for run in _RUN.finditer(text):
            if relation := _relation(run[0], known, run.start()):
                reading.relations.append(relation)
                if relation.holds and relation.grounded:
                    known |= {abs(result) for result in relation.results}
        reading.strays = [value for value in dict.fromkeys(numbers(text.replace("/", " "))) if abs(value) not in known]

    def _first(self, name: str) -> str:
        values = self._values(name, None)
        return str(values[0]) if values and values[0].denominator == 1 else str(float(values[0])) if values else name


def _letters(names: set[str]) -> re.Pattern[str] | None:
    """Return a pattern for names of one letter, as they are spelled, so that neither the article "a" nor the sign in "3 x 4" is one."""
    if not names:
        return None
    each = "|".join(r"a(?= is |[:=] )" if name == "a" else re.escape(name) for name in sorted(names))
    return re.compile(rf"(?<![\w.'])(?<![0-9] )(?:{each})(?![\w']|\.\w| {NUMBER} [a-z])")


def _numbers_as_names(names: frozenset[str], found: Sequence[Entry]) -> list[re.Pattern[str]]:
    """Return patterns for names that are numbers, which count as names only before a value ("2016 is 40", "5 30,").

    A year that is not the value of a fact is a name except in arithmetic, in signs or in words.
    """
    if not names:
        return []
    values = {entry.value for entry in found}
    years = frozenset(name for name in names if _YEAR.fullmatch(name) and number(name) not in values)
    before, after = r"(?<![-+*/=<>(])(?<![-+*/=<>] )(?<!by )(?<!plus )(?<!minus )(?<!times )(?<!and )", r" (?:minus|plus|times|divided)\b"
    any_name, value = any_of(tuple(sorted(names))).pattern, rf"(?:{_CLOCK}|{NUMBER}%?)(?= ?(?:[,.;)<>=\n-]|$|(?:is|was|and|for|as)\b))"
    patterns = [rf"{any_name}(?= {value})", rf"{before}{any_name}(?=(?: ?: ?| is | was | has | at ){value})"]
    if years:
        patterns.append(rf"{before}{any_of(tuple(sorted(years))).pattern}(?! ?[-+*/=<>)]|[.:,][0-9]|{after})")
    return [re.compile(pattern) for pattern in patterns]


def _relation(run: str, known: set[Fraction], at: int) -> Relation | None:
    """Return the equation or chain in a run of numbers and signs; None if it is neither."""
    signs = _SIDES.findall(run)
    if not signs:
        return None
    sides = [_TOKEN.findall(side) for side in _SIDES.split(run)]
    values = [evaluate(tuple(side)) for side in sides]
    start = next((k for k, value in enumerate(values) if value is not None), 0)
    end = next((k for k in range(start, len(values)) if values[k] is None), len(values))
    sides, values, signs = sides[start:end], values[start:end], signs[start : max(start, end - 1)]
    if len(sides) < 2:
        return None
    exact = [value for value in values if value is not None]
    holds = all(_compare(a, b, sign, side) for a, b, sign, side in zip(exact, exact[1:], signs, sides[1:], strict=False))
    worked = [k for k, side in enumerate(sides) if len(side) > 2 or (len(side) == 2 and side[0] != "-")]
    if "=" in signs and not worked:
        return None
    operands = tuple(
        value for k in (worked if "=" in signs else range(len(sides))) for token in sides[k] if (value := number(token)) is not None
    )
    results = (tuple(exact[k] for k in range(len(sides)) if k not in worked) or (exact[-1],)) if "=" in signs else ()
    grounded = True
    for k in worked if "=" in signs else range(len(sides)):
        own = {abs(value) for token in sides[k] if (value := number(token)) is not None}
        grounded &= own <= known or (k > 0 and "=" in signs)  # later sides only rewrite the first
    return Relation("=" if "=" in signs else "<", holds, operands, results, grounded, at)


def _compare(a: Fraction, b: Fraction, sign: str, side: Sequence[str]) -> bool:
    if sign != "=":
        return {"<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b}[sign]
    decimals = len(side[-1].partition(".")[2])
    return a == b or (decimals > 0 and len(side) < 3 and round(a, decimals) == b)
