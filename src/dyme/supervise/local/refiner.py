"""The local refiner: facts, question, answer and template -> the trace that a memorizing prompt imitates (paper, section 3.3).

No model writes: the answer is derived from the facts (`derivation.py`) and written as Observation and Reasoning, e.g.
"Observation: ham 47, fig 82, oat 13. Reasoning: fig 82, oat 13, 82 - 13 = 69." Operands are named right before the arithmetic:
on the embedded task that alone took a tiny model from 61 to 87 %. What cannot be derived is taken from the given rationale,
without the sentences that the facts contradict.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from dyme.errors import SupervisionError
from dyme.supervise.local.checker import HIGH, LocalChecker
from dyme.supervise.local.derivation import Derivation, derive
from dyme.supervise.local.entries import Entry, asked, decimal, entries, normal, numbers, paired, scope, words
from dyme.supervise.local.statements import Reader
from dyme.supervise.local.templates import fill, listing
from dyme.supervise.roles import Template
from dyme.types import Fact, Sample
from dyme.verify.answers import read

MOST_OBSERVED = 5
"""Number of facts up to which all are listed as observation; of more, only those that the question needs."""
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_ORDER = re.compile("[<>]=?")


class LocalRefiner:
    """Writes grounded traces (`roles.Refiner`) that never contain `marker`."""

    def __init__(self, *, marker: str) -> None:
        self.marker = marker
        self._checker = LocalChecker()

    def refine(self, sample: Sample, template: Template | None) -> str:
        """Return thinking that leads to `sample.answer_text`, by `template` if it fits the derivation and the result is graded high.

        Raises SupervisionError for a sample without facts and without a rationale that is left after the check.
        """
        found = derive(sample)
        if found:
            filled = fill(template, sample) if template else None
            text = filled if filled and self._checker.check(sample, [filled])[0].score >= HIGH else write(sample, found)
        else:
            text = self._reorganised(sample) or self._facts_alone(sample)
        if not text:
            raise SupervisionError(f"{sample.id}: has neither facts nor a rationale to write a trace from; give it either")
        return text.replace(self.marker, "").strip()

    def _reorganised(self, sample: Sample) -> str:
        """Return the facts that the rationale mentions and its sentences that the facts do not contradict; "" if no sentence is left.

        Each sentence is read separately, with the results of those before it.
        """
        reader = _reader(sample.question, sample.facts)
        kept: list[str] = []
        results: set[Fraction] = set()
        for sentence in _SENTENCE.split((sample.rationale or "").strip()):
            reading = reader.read(sentence, results)
            if sentence.strip() and not reading.faults and not (sample.facts and reading.strays):
                kept.append(sentence.strip())
                results.update(result for relation in reading.relations for result in relation.results)
        if not kept:
            return ""
        text = " ".join(kept)
        told = {entry for pair in reader.read(text).pairs for entry in pair.entries}
        said = words(normal(text))
        missing = tuple(e for e in scope(reader.entries, reader.question) if e not in told and words(e.parts[0]) <= said)
        observed = f"Observation: {listing(missing)}. " if 0 < len(missing) <= MOST_OBSERVED else ""
        closing = "" if _ends_in(text, sample.answer_text) else f" So {sample.answer_text}."
        return f"{observed}{'Reasoning: ' if observed else ''}{text}{closing}"

    def _facts_alone(self, sample: Sample) -> str:
        """Return the facts that the question names; of an image without paired values, those that question or answer mention, else all."""
        every, said = entries(sample.facts), words(asked(sample.question)) | words(normal(sample.answer_text))
        shown = scope(paired(sample.facts), asked(sample.question)) or tuple(e for e in every if words(e.text) & said) or every
        shown = shown[: 2 * MOST_OBSERVED]
        return f"Observation: {listing(shown)}. So {sample.answer_text}." if shown else ""


@lru_cache(maxsize=256)
def _reader(question: str, facts: tuple[Fact, ...]) -> Reader:
    return Reader(entries(facts), question)


def write(sample: Sample, found: Derivation) -> str:
    """Return the derivation in the default form: observed facts, then the named operands and the work."""
    every = paired(sample.facts)
    shown = every if len(every) <= MOST_OBSERVED else (found.context or found.operands)
    if len(shown) > 2 * MOST_OBSERVED:
        shown = found.operands
    return f"Observation: {_full_stop(listing(shown))} Reasoning: {_full_stop(reasoning(found, sample.answer_text))}"


def reasoning(found: Derivation, answer: str) -> str:
    """Return the named operands, then the work: "fig 82, oat 13, 82 - 13 = 69"."""
    operands = found.operands
    if found.shape in ("highest", "lowest"):
        return f"{_named(operands[0])} is the {found.shape}"
    if found.shape in ("look-up", "find"):
        told = f"{operands[0].fact.subject} is {operands[0].fact.value}"
        return told if found.shape == "look-up" else f"{told}, so {answer}"
    if found.shape == "order":
        signs = _ORDER.findall(found.steps[0])
        return _named(operands[0]) + "".join(f" {sign} {_named(entry)}" for sign, entry in zip(signs, operands[1:], strict=True))
    if found.shape == "range":
        high, low = operands
        return f"{_named(high)} is the highest, {_named(low)} is the lowest, {found.steps[0]}"
    head = ", ".join(map(_named, operands))
    if found.threshold is not None:
        limit = decimal(found.threshold)
        head += {"above": f" above {limit}", "below": f" below {limit}", "least": f" at least {limit}", "at most": f" at most {limit}"}[
            found.shape
        ]
    if found.shape == "mode":
        head += f", {operands[0].fact.value} appears {len(operands)} times"
    closing = ""
    if found.shape == "enough":
        closing = ", so enough" if read(normal(answer)) == ("yes",) else ", so not enough"
    return ", ".join([head, *found.steps]) + closing


def _full_stop(text: str) -> str:
    return text if text.endswith(".") else f"{text}."


def _named(entry: Entry) -> str:
    return f"{entry.fact.subject} {entry.fact.value}"


def _ends_in(text: str, answer: str) -> bool:
    """Return whether the last sentence gives the answer."""
    last = normal([part for part in _SENTENCE.split(text) if part.strip()][-1])
    return all(item in last if isinstance(item, str) else item in numbers(last) for item in read(normal(answer)))
