"""The template pool (paper, section 3.3): traces graded high become templates that the refiner writes by.

A template is such a trace with the parts that belong to its sample replaced by slots: {facts} for a list of facts, {name1} and {value1} for
the first fact that the answer needs, {result1} for the first result, {threshold}. A trace in which a number or a name of the
sample is left is not used, nor is one without sections ("Observation: ... Reasoning: ..."): a free-form trace, even a true one, has
no structure to pass on, and a pool of them undoes the effect of the refiner (docs/results, Table 3 in miniature).
The pool is plain data: the same traces in the same order give the same pool everywhere.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from typing import Any

from dyme.errors import RunError
from dyme.supervise.local.derivation import Derivation, derive
from dyme.supervise.local.entries import Entry, decimal, paired
from dyme.supervise.roles import Template
from dyme.types import Assessment, Sample

BEST_PER_KIND = 8
LONGEST = 600
"""Most characters of a template; longer traces are not kept."""
_SECTION = re.compile(r"(?:^|[.;!?]\s|\n)\W{0,16}[A-Z][A-Za-z ]{2,30}:\s")
"""The head of a section."""
_SENTENCES = re.compile(r"[.;!?](?:\s+|$)|\n+")
_NEGATION = re.compile(r"\b(?:not|no|never|cannot)\b|n't\b", re.IGNORECASE)
_SLOT = re.compile(r"\{([a-z]+[0-9]*)\}")


def slots(sample: Sample, found: Derivation) -> dict[str, str]:
    """Return the text of each slot for `sample`."""
    filled = {"facts": listing(paired(sample.facts))}
    for k, entry in enumerate(found.operands, start=1):
        filled |= {f"name{k}": entry.name, f"value{k}": entry.fact.value}
    results = [step.rpartition("= ")[2] for step in found.steps if "=" in step]
    filled |= {f"result{k}": result for k, result in enumerate(results, start=1)}
    return filled | ({"threshold": decimal(found.threshold)} if found.threshold is not None else {})


def listing(shown: tuple[Entry, ...]) -> str:
    """Return entries as a list: "fig 82, oat 13"; separated by semicolons if a value is itself a list."""
    return ("; " if any(", " in entry.fact.value for entry in shown) else ", ").join(
        f"{entry.fact.subject} {entry.fact.value}" for entry in shown
    )


def generalise(sample: Sample, trace: str) -> str | None:
    """Return `trace` with slots, or None if it has no sections, follows no derivation of its sample or keeps a part of the sample."""
    found = derive(sample)
    if found is None or len(trace) > LONGEST or "{" in trace or "}" in trace or len(_SECTION.findall(trace)) < 2:
        return None
    text = trace.strip()
    everything = ", ".join(f"{re.escape(e.fact.subject)}(?: is| at| has|:)? {re.escape(e.fact.value)}" for e in paired(sample.facts))
    text = re.sub(everything, "{facts}", text, count=1)
    meant = {text_: slot for slot, text_ in reversed(slots(sample, found).items()) if slot != "facts"}
    # values before results, longest first: in "42 - 21 = 21" the value is meant twice, which filling would show as false
    words = sorted(filter(None, meant), key=len, reverse=True)
    pattern = re.compile("|".join(rf"(?<![\w.]){re.escape(word)}(?![\w])" for word in words))
    text = "".join(
        part if part == "{facts}" else pattern.sub(lambda m: f"{{{meant[m[0]]}}}", part) for part in re.split(r"(\{facts\})", text)
    )
    if _NEGATION.search(text) or not all(_SLOT.search(part) for part in _SENTENCES.split(text) if part.strip()):
        return None  # a text without facts of the sample, or one that denies them, is no template
    rest = _SLOT.sub(" ", text).casefold()
    left = any(re.search(rf"(?<!\w){re.escape(entry.name.casefold())}(?!\w)", rest) for entry in paired(sample.facts))
    return None if left or re.search(r"\d", rest) or text == trace.strip() else text


def fill(template: Template, sample: Sample) -> str | None:
    """Return the template written out for `sample`; None if the sample lacks a slot or has more operands than it has names."""
    found = derive(sample)
    if found is None:
        return None
    values = slots(sample, found)
    used = set(_SLOT.findall(template.text))
    wanted = {slot for slot in values if slot.startswith(("value", "result"))}
    if not used <= values.keys() or not wanted <= used:
        return None
    return _SLOT.sub(lambda slot: values[slot[1]], template.text)


class TemplatePool:
    """The best templates of each kind of question, at most `per_kind` of them."""

    def __init__(self, per_kind: int = BEST_PER_KIND) -> None:
        self.per_kind = per_kind
        self._seen: dict[str, dict[str, tuple[float, int]]] = {}
        """Per kind: text -> (mean score, how often it was graded high)."""

    def __len__(self) -> int:
        """Number of templates of all kinds."""
        return sum(map(len, self._seen.values()))

    def add(self, sample: Sample, trace: str, assessment: Assessment) -> bool:
        """Add a trace that was graded high; return whether it is in the pool now."""
        if assessment.level != "high" or (text := generalise(sample, trace)) is None:
            return False
        kept = self._seen.setdefault(sample.kind, {})
        score, count = kept.get(text, (0.0, 0))
        kept[text] = ((score * count + assessment.score) / (count + 1), count + 1)
        for worst in sorted(kept, key=lambda t: self._rank(kept, t))[self.per_kind :]:
            del kept[worst]
        return text in kept

    def draw(self, sample: Sample, rng: random.Random) -> Template | None:
        """Return a template for the sample's kind of question, better ones more often; None if there is none."""
        kept = self._seen.get(sample.kind, {})
        if not kept:
            return None
        ranked = sorted(kept, key=lambda text: self._rank(kept, text))
        text = rng.choices(ranked, [0.5**k for k in range(len(ranked))])[0]
        return Template(text=text, kind=sample.kind, score=kept[text][0])

    def state(self) -> dict[str, Any]:
        """Return the pool as plain data for JSON; `restore` reads it exactly."""
        rows = [[kind, text, score, count] for kind, kept in sorted(self._seen.items()) for text, (score, count) in sorted(kept.items())]
        return {"per_kind": self.per_kind, "templates": rows}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Replace the pool's content. Raises RunError if `state` does not have the form that `state()` returns."""
        try:
            seen: dict[str, dict[str, tuple[float, int]]] = {}
            for kind, text, score, count in state["templates"]:
                seen.setdefault(str(kind), {})[str(text)] = (float(score), int(count))
            self.per_kind, self._seen = int(state["per_kind"]), seen
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"the template pool of this run cannot be read ({error}); remove its file to start with an empty pool"
            ) from error

    @staticmethod
    def _rank(kept: Mapping[str, tuple[float, int]], text: str) -> tuple[float, int, int, str]:
        """Return the sort key, best first: score, then how often, then the shorter one."""
        score, count = kept[text]
        return -round(score, 6), -count, len(text), text
