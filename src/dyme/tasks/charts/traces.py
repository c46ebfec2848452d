"""Reference traces for the embedded charts in three qualities (the paper's Table 1), and the thinking that the base model was trained on.

low     free-form, about one value in three misread, steps left out or shuffled, the right answer all the same: the pseudo
        thinking traces that a general model writes for a question whose answer it was given
medium  semi-structured: the values that matter, now and then one misread, and the work
high    highly structured: Observation, Reasoning; everything true

How many values are misread is a setting of its own, `task.misread`. The work names its operands, as a person would; that of the base's
training data does not, so that the base has loose thinking and not the task's (second revision, November 2026; the results before it,
docs/results, had traces without these names).
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from dyme.tasks.charts.questions import HIGHEST, LOWEST, Chart, Table

QUALITIES = ("low", "medium", "high")
MISREAD = {"low": 0.3, "medium": 0.08, "high": 0.0}
"""Probability that a value in a trace is not the chart's."""
FORMATTED = 0.35
"""Share of the base's loose thinking that ends with the marker."""


def trace(chart: Chart, quality: str, rng: random.Random, *, misreading: float | None = None, named: bool = True) -> str:
    """Return the thinking of a reference trace, without the answer marker.

    `misreading` is the probability that a value is misread (None: MISREAD's for the quality); with `named`, the work names its operands.
    """
    seen = misread(chart.table, MISREAD[quality] if misreading is None else misreading, rng)
    answer = chart.question.solve(chart.table)
    if quality == "high":
        return f"Observation: {listing(seen)}. Reasoning: {work(chart, seen, answer, named=named)}."
    if quality == "medium":
        return f"The chart shows {listing(relevant(chart, seen))}. So {work(chart, seen, answer, named=named)}."
    return free_form(chart, seen, answer, rng, named=named)


def listing(table: Table) -> str:
    """Return a table as "fig 82, oat 13"."""
    return ", ".join(f"{name} {value}" for name, value in table)


def misread(table: Table, probability: float, rng: random.Random) -> Table:
    """Return the table with each value misread with `probability`, as digits are misread: by a little, or in the tens."""
    offsets = (-30, -20, -10, -7, -3, 4, 8, 10, 20, 30)
    return tuple(
        (name, max(LOWEST, min(HIGHEST, value + rng.choice(offsets))) if rng.random() < probability else value) for name, value in table
    )


def relevant(chart: Chart, seen: Table) -> Table:
    """Return the entries that the question names, or all of them."""
    named = chart.question.names
    return tuple(e for e in seen if e[0] in named) if chart.question.kind in ("read", "diff", "sum") else seen


def work(chart: Chart, seen: Table, answer: str, *, named: bool = True) -> str:
    """Return the step that leads from the values to the answer; misread values make it wrong, as in pseudo traces.

    With `named`, the names of its operands stand beside them, as in "fig 82, oat 13, 82 - 13 = 69"; without, as in "82 - 13 = 69".
    """
    values, question = dict(seen), chart.question
    ranked = sorted(values, key=lambda name: values[name])
    if question.kind in ("diff", "sum"):
        return _two_operands(seen, question.names, "-" if question.kind == "diff" else "+", answer, named)
    if question.kind == "range":
        return _two_operands(seen, (ranked[-1], ranked[0]), "-", answer, named)
    if question.kind in ("max", "min"):
        best = f"{_holder(chart.table, answer)} {answer}" if named else answer
        return f"{best} is the {'highest' if question.kind == 'max' else 'lowest'}"
    if question.kind == "which":
        name, value = answer.split(", ")
        return f"{name} {value} is the {question.names[0]}" if named else f"{value} is the {question.names[0]} and it is {name}"
    if question.kind == "order":
        return " < ".join(f"{name} {values[name]}" if named else str(values[name]) for name in ranked)
    if question.kind == "count":
        return _total(tuple(entry for entry in seen if entry[1] > question.threshold), question.threshold, answer, named)
    return f"{question.names[0]} is {answer}"


def _holder(table: Table, value: str) -> str:
    """Return the name of a value in the table."""
    return next(name for name, own in table if str(own) == value)


def _two_operands(seen: Table, names: Sequence[str], sign: str, answer: str, named: bool) -> str:
    """Return a difference or a sum of the values of two names."""
    values = dict(seen)
    a, b = names
    step = f"{values[a]} {sign} {values[b]} = {answer}"
    return f"{a} {values[a]}, {b} {values[b]}, {step}" if named else step


def _total(above: Table, threshold: int, answer: str, named: bool) -> str:
    """Return the values above a threshold and their total, added up one by one."""
    total = answer.split(", ")[1]
    listed = " and ".join(f"{name} {value}" if named else str(value) for name, value in above) or "none"
    steps, running = [], above[0][1] if above else 0
    for k, (_, value) in enumerate(above[1:], start=2):
        result = total if k == len(above) else str(running + value)
        steps.append(f"{running} + {value} = {result}")
        running += value
    return f"{listed} above {threshold}" + "".join(f", {s}" for s in steps)


def free_form(chart: Chart, seen: Table, answer: str, rng: random.Random, *, named: bool = True) -> str:
    """Return a trace in varied wording, in any order, sometimes with a value or the work missing."""
    entries = list(seen) if rng.random() < 0.4 else list(relevant(chart, seen))
    if rng.random() < 0.3:
        rng.shuffle(entries)
    if rng.random() < 0.25 and len(entries) > 1:
        entries = entries[: rng.randint(1, len(entries) - 1)]
    facts = rng.choice(
        (
            lambda: " and ".join(f"{n} is {v}" for n, v in entries),
            lambda: "the chart shows " + ", ".join(f"{n} {v}" for n, v in entries),
            lambda: "I see " + ", ".join(f"{n} at {v}" for n, v in entries),
            lambda: ", ".join(f"{n} has {v}" for n, v in entries),
        )
    )()
    opening = rng.choice(("", "", "Let me see, ", "Well, ", "Look at the bars, "))
    done = work(chart, seen, answer, named=named)
    return opening + facts + rng.choice(("", f". {done}", f" so {done}", ". I compare them", f". Then {done}")) + "."


def base_thinking(chart: Chart, rng: random.Random, *, formatted: float = FORMATTED) -> str:
    """Return thinking that the base model is trained on: free form, noisy, often wrong; the share `formatted` ends with the marker."""
    seen = misread(chart.table, 0.25, rng)
    wrong = misread(chart.table, 1.0, rng)
    answer = chart.question.solve(seen if rng.random() < 0.7 else wrong)
    body = free_form(chart, seen, answer, rng, named=False)
    if rng.random() < formatted:
        return f"{body} Answer: {answer}"
    return rng.choice(
        (f"{body} So it is {answer}.", f"{body} I think {answer}.", f"{answer}. {body}", f"Answer: {answer}. {body} Answer: {answer}", body)
    )
