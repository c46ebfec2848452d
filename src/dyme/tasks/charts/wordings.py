"""True traces for the embedded charts in many wordings, for rating checkers; none has the form of the local refiner's traces.

`traces.py` makes the traces that a model imitates, false ones among them; these here are complete and true.
"""

from __future__ import annotations

import random

from dyme.tasks.charts.questions import Chart, Table
from dyme.tasks.charts.traces import listing, relevant, trace, work


def true_trace(chart: Chart, rng: random.Random) -> str:
    """Return the high trace, the medium one without misreadings, or a free-form one."""
    answer = chart.question.solve(chart.table)
    style = rng.randrange(4)
    if style == 0:
        return trace(chart, "high", rng)
    if style == 1:
        return f"The chart shows {listing(relevant(chart, chart.table))}. So {work(chart, chart.table, answer)}."
    return free(chart, rng)


def free(chart: Chart, rng: random.Random) -> str:
    """Return a free-form trace with every value that matters and the step to the answer."""
    seen = relevant(chart, chart.table)
    facts = rng.choice((
        lambda: " and ".join(f"{name} is {value}" for name, value in seen),
        lambda: ", ".join(f"{name} has {value}" for name, value in seen),
        lambda: "I see " + ", ".join(f"{name} at {value}" for name, value in seen),
        lambda: ", ".join(f"{value} for {name}" for name, value in seen),
        lambda: "the bar of " + ", the bar of ".join(f"{name} shows {value}" for name, value in seen),
        lambda: "; ".join(f"{name}: {value}" for name, value in seen),
    ))()  # fmt: skip
    opening = rng.choice(("", "", "Let me see, ", "Well, ", "Looking at the bars, "))
    return f"{opening}{facts}. {rng.choice(('', 'So ', 'Then ', 'Therefore '))}{_worded(chart, rng)}."


def _worded(chart: Chart, rng: random.Random) -> str:
    values, question = dict(chart.table), chart.question
    answer = question.solve(chart.table)
    ranked = sorted(values, key=lambda name: values[name])
    low, high = ranked[0], ranked[-1]
    if question.kind == "read":
        return rng.choice(
            (f"{question.names[0]} is {answer}", f"the value of {question.names[0]} is {answer}", f"{question.names[0]} has {answer}")
        )
    if question.kind in ("diff", "sum"):
        a, b = (values[name] for name in question.names)
        sign, word = ("-", "minus") if question.kind == "diff" else ("+", "plus")
        return rng.choice(
            (
                f"{a} {word} {b} is {answer}",
                f"{a} {sign} {b} = {answer}",
                f"{question.names[0]} {a} {sign} {question.names[1]} {b} = {answer}",
            )
        )
    if question.kind in ("max", "min", "which"):
        best, kind = (high, "highest") if question.kind == "max" or question.names[:1] == ("highest",) else (low, "lowest")
        return rng.choice(
            (
                f"{best} is the {kind} with {values[best]}",
                f"the {kind} is {best} at {values[best]}",
                f"{best} has the {kind} value, {values[best]}",
            )
        )
    if question.kind == "range":
        return f"the highest is {values[high]} and the lowest is {values[low]}, and {values[high]} - {values[low]} = {answer}"
    if question.kind == "order":
        return rng.choice(
            (
                " < ".join(ranked),
                ", ".join(f"{name} {values[name]}" for name in ranked) + " from the lowest to the highest",
                _chain(chart.table),
            )
        )
    above = [(name, value) for name, value in chart.table if value > question.threshold]
    told = " and ".join(f"{name} {value}" for name, value in above) + f" are above {question.threshold}"
    return told + (f", {' + '.join(str(value) for _, value in above)} = {answer.split(', ')[1]}" if len(above) > 1 else "")


def _chain(table: Table) -> str:
    return " < ".join(f"{name} {value}" for name, value in sorted(table, key=lambda entry: entry[1]))
