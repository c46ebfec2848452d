"""The local checker: grades a trace against facts, question and gold answer without a model (paper, section 3.3).

    score = truth * focus * evidence^(1/2) * (0.1 + 0.6 work + 0.3 support)

truth     halved by every false statement: a value or comparison that the facts contradict, an equation that does not
          hold, arithmetic on numbers of unknown origin
evidence  share of the facts that the answer needs (`derivation.py`) and the trace states; a number without its name counts a little
work      the step that leads to the answer: true arithmetic on those facts, the right comparison, or the one fact stated alone
support   whether the last words give the gold answer, or the work reaches it
focus     falls with facts that the question does not need, repetition and idle equations, to 0.6 at worst

So copied facts without work, the answer without evidence, and many true but idle statements are graded low. Words that command a
grade have no effect. Where no derivation is known, any fact near the question's words is evidence, and `high` needs arithmetic or a
comparison that supports the answer. A sample without facts is graded by arithmetic and support of the answer alone, `medium` at
most; so is one whose facts are running text, where shared words count as evidence.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

from dyme.supervise.local.derivation import Derivation, derive
from dyme.supervise.local.entries import Entry, entries, normal, numbers, words
from dyme.supervise.local.statements import Reader, Reading
from dyme.types import Assessment, Fact, Level, Sample
from dyme.verify.answers import number, read
from dyme.verify.notation.words import NUMBER_WORDS
from dyme.verify.thinking import NUMBER

HIGH, MEDIUM = 0.8, 0.5
"""Least score of each level."""
_FAULT, _STRAY = 0.45, 0.7
"""Factors of the score for a false statement and for a number of unknown origin."""
_UNNAMED = 0.3
"""Evidence of a value that is stated without its name."""
_FACTLESS = 0.75
"""Highest score of a trace without support: no facts to compare it with, or neither a derivation nor a step."""
_PHRASE = 4
"""Least number of content words of a value that is running text."""
_SENTENCE = re.compile(r"(?<![0-9])\.(?= |$)|\.(?= |$)|[;\n!?]|\b(?:so|then|hence|therefore|thus)\b")
_CONCLUSION = re.compile(
    r"\b(?:so|hence|therefore|thus|answer is),?"
    r"(?: (?:(?:the )?(?:it|that|this|answer|result|difference|total|sum|value|number) )?(?:is|=))?"
    rf"(?: about| roughly)? ?({NUMBER})%?(?: [a-z]+)?[. ]*$"
)
"""A number alone in the last words of a trace, if they draw a conclusion."""
_NEGATION = re.compile(r"\b(?:not|no|cannot)\b|n't\b")


class LocalChecker:
    """Grades traces by the facts (`roles.Checker`); `marker` and the text after it are not part of a trace."""

    def __init__(self, *, marker: str = "") -> None:
        self.marker = marker

    def check(self, sample: Sample, traces: Sequence[str]) -> list[Assessment]:
        """Return one assessment per trace, in order; never raises, as it needs only the sample."""
        found = derive(sample)
        reader = _reader(sample.question, sample.facts)
        return [_assess(sample, found, reader, self._thinking(trace)) for trace in traces]

    def trust(self, sample: Sample, trace: str) -> float:
        """Return how far a target may be trusted, in [0, 1]: its score, or 1 for a sample without facts to compare a trace with."""
        reader = _reader(sample.question, sample.facts)
        comparable = any(entry.paired and not _is_text(entry) for entry in reader.entries)
        return self.check(sample, [trace])[0].score if comparable else 1.0

    def objection(self, sample: Sample, trace: str) -> str:
        """Return the reason why `trace` must not be imitated; "" if there is none.

        Reasons are a statement that the facts contradict, a false step, and a wrong or missing answer. A statement about things that
        the facts do not contain is not a reason, as a helper may see more in the image.
        """
        reader = _reader(sample.question, sample.facts)
        reading, gold = reader.read(self._thinking(trace)), normal(sample.answer_text)
        values = {entry.value for entry in reader.entries}
        if false := next((pair.name for pair in reading.pairs if not pair.entries), None):
            return f"says of {false} what the facts do not"
        if not all(r.holds or (r.kind != "=" and not values.issuperset(r.operands)) for r in reading.relations):
            return "has a step that does not hold"
        if _contradicted(reading, gold):
            return "ends in another answer"
        said = words(reading.text)
        counted = {Fraction(NUMBER_WORDS[word]) for word in said & NUMBER_WORDS.keys()} | set(numbers(reading.text))
        named = said & words(gold) or counted & set(numbers(gold))
        return "" if named or gold in ("yes", "no") or not words(gold) else "never names the answer"

    def truth(self, sample: Sample, trace: str) -> tuple[int, int]:
        """Return (true, stated): distinct statements of `trace` about the facts, its comparisons and its arithmetic."""
        reading = _reader(sample.question, sample.facts).read(self._thinking(trace))
        pairs = {(pair.name, pair.value): bool(pair.entries) for pair in reading.pairs}
        true = sum(pairs.values()) + sum(relation.holds for relation in reading.relations)
        return true, len(pairs) + len(reading.relations)

    def _thinking(self, trace: str) -> str:
        return trace.partition(self.marker)[0] if self.marker else trace


@lru_cache(maxsize=1024)
def _reader(question: str, facts: tuple[Fact, ...]) -> Reader:
    return Reader(entries(facts), question)


def level_of(score: float) -> Level:
    """Return the level of a score in [0, 1]."""
    return "high" if score >= HIGH else "medium" if score >= MEDIUM else "low"


def _assess(sample: Sample, found: Derivation | None, reader: Reader, trace: str) -> Assessment:
    reading = reader.read(trace)
    if not reading.text or not words(reading.text):
        return Assessment(level="low", score=0.0, reason="says nothing")
    support = _support(sample, found, reading)
    misnamed, ceiling = "", 1.0
    if found:
        evidence, work = _evidence(found, reading), _work(found, reading, support)
        focus = _focus(found, reading) * (_FAULT if (misnamed := _misnamed(found, reader, reading)) else 1)
    else:
        evidence, work, proven = _loose(sample, reader, reading, support)
        ceiling = 1.0 if proven else _FACTLESS
        focus = _repetition(reading)
    strays = _strays(sample, reading)
    faults = reading.faults + _contradicted(reading, normal(sample.answer_text))
    truth = _FAULT ** min(faults, 8) * _STRAY ** min(strays, 4)
    score = truth * focus * evidence**0.5 * (0.1 + 0.6 * work + 0.3 * support)
    score = round(min(score, ceiling if any(entry.paired and not _is_text(entry) for entry in reader.entries) else _FACTLESS), 4)
    return Assessment(level=level_of(score), score=score, reason=_reason(reading, misnamed, strays, (evidence, work, support, focus)))


def _reason(reading: Reading, misnamed: str, strays: int, parts: tuple[float, float, float, float]) -> str:
    """Return the strongest objection in a few words; `parts` are evidence, work, support and focus."""
    evidence, work, support, focus = parts
    false = next((pair.name for pair in reading.pairs if not pair.entries), None)
    wrong = next((relation for relation in reading.relations if not relation.holds), None)
    if false is not None:
        return f"says of {false} what the facts do not"
    if wrong is not None:
        return "a step of arithmetic is wrong" if wrong.kind == "=" else "a comparison is wrong"
    if any(not relation.grounded for relation in reading.relations):
        return "calculates with numbers that are not in the facts"
    if misnamed:
        return f"speaks of {misnamed}, which the question does not ask for"
    if strays:
        return "has numbers that are neither facts nor results"
    if evidence < 0.5:
        return "states few of the facts that the question needs"
    if work < 0.5:
        return "states facts but no step that leads to the answer"
    if support < 0.5:
        return "does not lead to the answer"
    return "true and to the point" if focus > 0.9 else "true, with more than the question needs"


def _support(sample: Sample, found: Derivation | None, reading: Reading) -> float:
    """Return the support, in [0, 1]: 1 if the trace gives the gold answer in its last words or as its last result, 0.5 if elsewhere."""
    answer = normal(sample.answer_text)
    results = [result for relation in reading.relations if relation.holds and relation.grounded for result in relation.results[-1:]]
    parts = _sentences(reading)
    last = _last(reading)
    if _contradicted(reading, answer):
        return 0.0
    if answer in ("yes", "no"):
        negated = bool(_NEGATION.search(last)) and not re.search(r"\bno\b.{0,3}$", last) or last.endswith(" no")
        return float(negated == (answer == "no")) if len(parts) > 1 or reading.relations else 0.0
    gold = numbers(answer)
    wanted = found.target if found else None
    if results and results[-1] == (gold[0] if len(gold) == 1 and len(read(answer)) == 1 else wanted):
        return 1.0
    if found and found.threshold is not None and not found.steps and all(entry.value in numbers(last) for entry in found.operands):
        return 1.0
    return 1.0 if _gives(last, answer) else 0.5 if _gives(" ".join(parts[-3:]), answer) or _chained(reading, gold) else 0.0


def _sentences(reading: Reading) -> list[str]:
    return [part.strip() for part in _SENTENCE.split(reading.text) if part.strip(" .:")]


def _last(reading: Reading) -> str:
    return next(iter(_sentences(reading)[::-1]), "")


def _contradicted(reading: Reading, answer: str) -> bool:
    """Return whether the trace ends with a number ("So 95.") that is not the gold answer, even rounded, as a share or without sign."""
    closing, gold = _CONCLUSION.search(reading.text), read(answer)
    if not closing or len(gold) != 1 or not isinstance(gold[0], Fraction) or (said := number(closing[1])) is None:
        return False
    decimals = len(closing[1].partition(".")[2])
    return all(round(abs(gold[0]) * scale, decimals) != abs(said) for scale in (1, 100, Fraction(1, 100)))


def _chained(reading: Reading, gold: Sequence[Fraction]) -> bool:
    return bool(gold) and any(relation.holds and set(gold) <= {*relation.operands, *relation.results} for relation in reading.relations)


def _gives(text: str, answer: str) -> bool:
    """Return whether the items of `answer` occur in `text`, as whole words or numbers, in any order."""
    held = set(numbers(text))
    for item in read(answer):
        if isinstance(item, Fraction):
            if item not in held:
                return False
        elif own := numbers(item):
            if not set(own) <= held and item not in text:
                return False
        elif not words(item) <= words(text):
            return False
    return True


def _evidence(found: Derivation, reading: Reading) -> float:
    """Return the share of the needed facts that are stated; a value with its name counts more than one without."""
    stated = {entry for pair in reading.pairs for entry in pair.entries}
    held, said = set(numbers(reading.text)), words(reading.text)
    total = 0.0
    for entry in found.operands:
        named = words(entry.parts[0]) <= said or (len(entry.parts) > 1 and words(entry.parts[1]) <= said)
        shown = entry.value in held if entry.value is not None else entry.text in reading.text
        listed = shown and len(found.operands) > 2 and found.shape != "mode" and found.shape not in ("highest", "lowest", "look-up", "find")
        total += 1.0 if entry in stated or (shown and (named or listed)) else _UNNAMED * shown
    return total / len(found.operands)


def _misnamed(found: Derivation, reader: Reader, reading: Reading) -> str:
    """Return a name without value in the place of a needed fact's missing name; "" if there is none."""
    said = words(reading.text)
    if all(words(entry.parts[0]) <= said for entry in found.operands):
        return ""
    matters = {*found.operands, *(found.context if found.threshold is None else ())}
    valued = {pair.name for pair in reading.pairs}
    mentioned = (reader.letter_names[letter] for letter in dict.fromkeys(reading.coded) if letter in reader.letter_names)
    return next((name for name in mentioned if name not in valued and not matters & set(reader.named[name])), "")


def _work(found: Derivation, reading: Reading, support: float) -> float:
    """Return how far, in [0, 1], the trace has the step from the needed facts to the answer."""
    sound = [relation for relation in reading.relations if relation.holds and relation.grounded]
    stated = {entry for pair in reading.pairs for entry in pair.entries}
    needed = {entry.value for entry in found.operands}
    if found.shape in ("look-up", "find"):
        return _singled(found.operands[0], reading, support)
    if found.shape in ("highest", "lowest"):
        compared = any(entry in stated for entry in found.context if entry not in found.operands)
        best = max if found.shape == "highest" else min
        told = any(
            found.operands[0].value in relation.operands
            and (relation.kind == found.shape or (relation.kind == "<" and best(relation.operands) == found.operands[0].value))
            for relation in sound
        )
        return (1.0 if compared or _corresponds(found, reading) else 0.6) * told
    if found.shape in ("order", "median"):
        used = {value for relation in sound if relation.kind == "<" for value in relation.operands}
        arranged = found.shape == "median" and found.steps[0].replace(" <=", ",") in reading.text
        return 1.0 if needed <= used or arranged else 0.7 * support * (found.shape == "order" and _ranked(found, reading))
    if found.shape == "mode":
        closing = set(numbers(_last(reading)))
        counted = len(_sentences(reading)) > 1 or any(pair.entries for pair in reading.pairs)
        return float(counted and needed <= closing <= needed | {Fraction(len(found.operands))})
    if found.target is None:  # a count: the counted items are distinguished
        return float(any(relation.kind in ("above", "below", "<", "=") for relation in sound))
    used = {value for relation in sound if relation.kind == "=" for value in relation.operands}
    reached = any(abs(found.target) == abs(result) for relation in sound for result in relation.results)
    covered = sum(value in used for value in needed) / len(needed)
    return covered if reached else 0.3 * covered


def _corresponds(found: Derivation, reading: Reading) -> bool:
    """Return whether the winner is given by value and by name in two steps: "The greatest number is 38. Jeanette corresponds to 38"."""
    winner = found.operands[0]
    return reading.text.count(winner.text) > 1 and any(winner in pair.entries for pair in reading.pairs)


def _ranked(found: Derivation, reading: Reading) -> bool:
    """Return whether the last sentence names the items in their order."""
    last = _last(reading)
    places = [last.find(entry.parts[0]) for entry in found.operands]
    return min(places) >= 0 and places == sorted(places)


def _singled(entry: Entry, reading: Reading, support: float) -> float:
    """Return how far, in [0, 1], a looked-up fact is separated from the others: stated alone, or alone in a last sentence."""
    others = [pair for pair in reading.pairs if pair.entries and entry not in pair.entries]
    own = [pair for pair in reading.pairs if entry in pair.entries]
    if not own:
        shown = entry.text in reading.text or (entry.value is not None and entry.value in numbers(reading.text))
        return 0.9 * support if shown and words(entry.parts[0]) <= words(reading.text) and not others else 0.0
    if not others:
        return 1.0
    between = reading.coded[others[-1].at : own[-1].at]
    return 1.0 if own[-1].at > others[-1].at and len(_SENTENCE.split(between)) > 1 else 0.15


def _focus(found: Derivation, reading: Reading) -> float:
    """Return the focus, in [0, 1]: it falls with unneeded facts, idle equations and repetition."""
    matters = {*found.operands, *found.context}
    idle = sum(not matters & set(pair.entries) for pair in reading.pairs if pair.entries)
    targets = {abs(found.target)} if found.target is not None else set()
    equations = [relation for relation in reading.relations if relation.kind == "=" and relation.holds]
    useful = targets | {abs(value) for relation in reading.relations for value in relation.operands}
    reached, vain = {abs(entry.value) for entry in found.operands if entry.value is not None}, 0
    for equation in equations:  # an equation is of use if it starts from a needed fact, or its result, and is used later
        results = {abs(value) for value in equation.results}
        if results & useful and reached & {abs(value) for value in equation.operands}:
            reached |= results
        else:
            vain += 1
    count = len(found.operands)
    return (1 - 0.25 * idle / (idle + count)) * (1 - 0.4 * vain / (vain + 1)) * _repetition(reading)


def _repetition(reading: Reading) -> float:
    """Return 1 up to three mentions of the same pair and two of the same equation; less for more, down to 0.4."""
    pairs = Counter((pair.name, pair.entries) for pair in reading.pairs)
    equations = Counter((relation.kind, relation.operands) for relation in reading.relations)
    excess = sum(max(0, count - 3) for count in pairs.values()) + sum(max(0, count - 2) for count in equations.values())
    return max(0.4, 0.8**excess)


def _loose(sample: Sample, reader: Reader, reading: Reading, support: float) -> tuple[float, float, bool]:
    """Return evidence, work, and whether a step supports the answer, where no derivation is known."""
    asked = words(reader.question)
    sound = [relation for relation in reading.relations if relation.holds and relation.grounded and relation.kind == "="]
    reached = {abs(result) for relation in sound for result in relation.results}
    gold = {abs(v) for v in numbers(normal(sample.answer_text))}
    compared = support == 1 and not gold and any(r.holds and r.grounded and r.kind != "=" for r in reading.relations)
    worked = bool(gold & reached) or compared
    every = [entry for entry in reader.entries if entry.paired]
    if not every:
        return min(1.0, 0.6 + 0.2 * len(sound)) if sound else 0.3, float(worked), worked
    said = words(reading.text)
    values = set(numbers(reading.text)) - gold
    told = {entry for pair in reading.pairs for entry in pair.entries}
    told |= {e for e in every if e.value in values or (len(e.text) > 2 and e.text in reading.text) or values & set(numbers(e.parts[0]))}
    told |= {e for e in every if _is_text(e) and len((words(e.text) & said) - words(normal(sample.answer_text))) > 1}
    relevant = len(said & asked) / max(1, len(asked))
    evidence = min(1.0, (len(told) + len(sound)) / min(2, len(every))) * min(1.0, 0.4 + 1.5 * relevant)
    sentences = len(_sentences(reading))
    return evidence, 1.0 if worked else min(1.0, 0.4 + 0.2 * sentences) * support * (sentences > 1), worked


def _is_text(entry: Entry) -> bool:
    return entry.value is None and len(words(entry.text)) >= _PHRASE


def _strays(sample: Sample, reading: Reading) -> int:
    """Return the count of numbers of unknown origin, without the gold answer's and small counts."""
    answer = normal(sample.answer_text)
    gold = {abs(value) for value in (*numbers(answer), *numbers(answer.replace("/", " ")))}
    return sum(abs(value) not in gold for value in reading.strays)
