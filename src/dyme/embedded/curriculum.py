"""The base's training data, as conversations made from a seed: captions, look-ups, short answers, loose thinking, and text.

Every conversation is a list of (prompt, answer) turns about one chart of the `pretrain` split, or about a table in words.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from dyme.tasks.charts.questions import NAMES, WEIGHTS, Chart, Table, random_chart, random_question
from dyme.tasks.charts.traces import QUALITIES, base_thinking, free_form, listing, trace, work

THINK = "Think step by step, then write Answer:"
DIRECT = "Answer briefly."
CAPTION = "Describe the chart."

Turns = list[tuple[str, str]]
"""(prompt, answer) pairs of a conversation."""
Segments = list[tuple[str, bool]]
"""Pieces of one row's text; only the True ones are trained on."""


def caption_turns(chart: Chart, rng: random.Random) -> Turns:
    """Return turns that state all names and values of a chart, in chart order or in a requested order."""
    turns = [(CAPTION, listing(chart.table) + "."), lookup_turn(chart.table, rng)]
    return turns if rng.random() < 0.5 else turns[::-1]


def lookup_turn(table: Table, rng: random.Random) -> tuple[str, str]:
    """Return a turn that asks for values by name, in a random order, and answers it."""
    asked = rng.sample(table, len(table))
    return "List " + ", ".join(name for name, _ in asked) + ".", listing(tuple(asked)) + "."


def direct_turns(chart: Chart, rng: random.Random) -> Turns:
    """Return turns of short answers, with a caption or a look-up among them."""
    turns = [(f"{q.text()} {DIRECT}", q.solve(chart.table)) for q in (random_question(rng, chart.table) for _ in range(3))]
    extra = rng.random()
    if extra < 0.4:
        turns.insert(rng.randrange(4), (CAPTION, listing(chart.table) + "."))
    elif extra < 0.7:
        turns.insert(rng.randrange(4), lookup_turn(chart.table, rng))
    return turns


def thinking_turns(chart: Chart, rng: random.Random, formatted: float) -> Turns:
    """Return turns of loose thinking, like that of web text; the share `formatted` of them ends in the asked format."""
    return [(f"{chart.question.text()} {THINK}", base_thinking(chart, rng, formatted=formatted))]


def text_practice(rng: random.Random, statements: int = 7) -> Segments:
    """Return a table in words and statements that follow from it, a language model's usual skill; half of the texts are only look-ups.

    The listing and the questions cannot be predicted and are not trained on.
    """
    chart = random_chart(rng, "pretrain")
    opening = rng.choice(("Observation: ", "The chart shows ", "I see ", ""))
    segments: Segments = [(f"{opening}{listing(chart.table)}.", False)]
    lookups = rng.random() < 0.5
    for _ in range(statements):
        if lookups:
            prompt, done = lookup_turn(chart.table, rng)
        else:
            question = random_question(rng, chart.table, rng.choice(list(WEIGHTS)))
            prompt, done = (
                question.text(),
                work(Chart(chart.table, question, 0), chart.table, question.solve(chart.table), named=False) + ".",
            )
        segments += [(f" {prompt}", False), (f" {done}", True)]
    return segments


def arithmetic(rng: random.Random, count: int = 16) -> Segments:
    """Return sums and differences of the sizes that the charts need; only results are trained on, because operands are random."""
    segments: Segments = []
    for _ in range(count):
        a, b = rng.randint(10, 99), rng.randint(10, 99)
        if rng.random() < 0.5:
            a, b, sign = max(a, b), min(a, b), "-"
        else:
            a, sign = a + (rng.randint(10, 99) if rng.random() < 0.1 else 0), "+"
        segments += [(f" {a} {sign} {b} =", False), (f" {a - b if sign == '-' else a + b}.", True)]
    return segments


def corpus(seed: int = 0, conversations: int = 3000) -> Iterator[str]:
    """Yield text that holds every word and number of the task, for the tokenizer."""
    rng = random.Random(seed)
    yield f"User: Assistant: {CAPTION} List {THINK} {DIRECT} " + " ".join(NAMES)
    yield from (f" {n} {n}" for n in range(400))
    for _ in range(conversations):
        chart = random_chart(rng, "pretrain")
        counted = free_form(chart, chart.table, "0, 0", rng, named=False) if chart.question.kind == "count" else ""
        yield f" {chart.question.text()} {counted}"
        yield " " + base_thinking(chart, rng)
        yield from (" " + trace(chart, quality, rng, named=False) for quality in QUALITIES)
