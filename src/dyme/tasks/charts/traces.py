"""Reference traces for the embedded charts in three qualities (the paper's Table 1), and the thinking that the base model was trained on.

low     free-form, about one value in three misread, steps left out or shuffled, the right answer all the same: the pseudo
        thinking traces that a general model writes for a question whose answer it was given
medium  semi-structured: the values that matter, now and then one misread, and the work
high    highly structured: Observation, Reasoning; everything true
"""

from __future__ import annotations

import random

from dyme.tasks.charts.questions import HIGHEST, LOWEST, Chart, Table

QUALITIES = ("low", "medium", "high")
MISREAD = {"low": 0.3, "medium": 0.08, "high": 0.0}
"""Probability that a value in a trace is not the chart's."""


def trace(chart: Chart, quality: str, rng: random.Random) -> str:
    """Return the thinking of a reference trace, without the answer marker."""
    seen = misread(chart.table, MISREAD[quality], rng)
    answer = chart.question.solve(chart.table)
    if quality == "high":
        return f"Observation: {listing(seen)}. Reasoning: {work(chart, seen, answer)}."
    if quality == "medium":
        return f"The chart shows {listing(relevant(chart, seen))}. So {work(chart, seen, answer)}."
    return free_form(chart, seen, answer, rng)


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


def work(chart: Chart, seen: Table, answer: str) -> str:
    """Return the step that leads from the values to the answer; misread values make it wrong, as in pseudo traces."""
    values, question = dict(seen), chart.question
    high, low = max(values.values()), min(values.values())
    if question.kind == "diff":
        return f"{values[question.names[0]]} - {values[question.names[1]]} = {answer}"
    if question.kind == "sum":
        return f"{values[question.names[0]]} + {values[question.names[1]]} = {answer}"
    if question.kind == "range":
        return f"{high} - {low} = {answer}"
    if question.kind in ("max", "min"):
        return f"{answer} is the {'highest' if question.kind == 'max' else 'lowest'}"
    if question.kind == "which":
        name, value = answer.split(", ")
        return f"{value} is the {question.names[0]} and it is {name}"
    if question.kind == "order":
        return " < ".join(str(v) for v in sorted(values.values()))
    if question.kind == "count":
        return _total([v for v in values.values() if v > question.threshold], question.threshold, answer)
    return f"{question.names[0]} is {answer}"


def _total(above: list[int], threshold: int, answer: str) -> str:
    total = answer.split(", ")[1]
    listed = " and ".join(str(v) for v in above) or "none"
    steps, running = [], above[0] if above else 0
    for k, value in enumerate(above[1:], start=2):
        result = total if k == len(above) else str(running + value)
        steps.append(f"{running} + {value} = {result}")
        running += value
    return f"{listed} above {threshold}" + "".join(f", {s}" for s in steps)


def free_form(chart: Chart, seen: Table, answer: str, rng: random.Random) -> str:
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
    done = work(chart, seen, answer)
    return opening + facts + rng.choice(("", f". {done}", f" so {done}", ". I compare them", f". Then {done}")) + "."


def base_thinking(chart: Chart, rng: random.Random, *, formatted: float = 0.35) -> str:
    """Return thinking that the base model is trained on: free form, noisy, often wrong; about a third ends with the marker."""
    seen = misread(chart.table, 0.25, rng)
    wrong = misread(chart.table, 1.0, rng)
    answer = chart.question.solve(seen if rng.random() < 0.7 else wrong)
    body = free_form(chart, seen, answer, rng)
    if rng.random() < formatted:
        return f"{body} Answer: {answer}"
    return rng.choice(
        (f"{body} So it is {answer}.", f"{body} I think {answer}.", f"{answer}. {body}", f"Answer: {answer}. {body} Answer: {answer}", body)
    )
