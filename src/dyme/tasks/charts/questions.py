"""Chart tables and the questions about them: types, answers, the distribution of questions, and the splits.

Answers are hard to guess by design: a guesser who knows the question type and the names in the chart and draws from the
distribution of that type's answers, but has not seen the values, is right less than 2 % of the time, which
`tests/tasks/test_charts.py` measures.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass

from dyme.tasks.charts.drawing import DrawnChart

NAMES = (
    "ale", "bun", "cod", "eel", "egg", "fig", "ham", "hop", "ice", "jam",
    "nut", "oat", "pea", "pie", "roe", "rum", "rye", "soy", "tea", "yam",
)  # fmt: skip
LOWEST, HIGHEST = 10, 99
SPLITS = {"pretrain": range(80), "train": range(80, 88), "validation": range(88, 92), "test": range(92, 100)}
"""Values of the table's hash, 0 to 99, that belong to each split."""
WEIGHTS = {"read": 22, "max": 10, "min": 10, "diff": 16, "sum": 14, "range": 8, "which": 8, "order": 6, "count": 6}
"""Mix of the question types, in percent."""

Table = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A question type with its arguments: names, a threshold, or "highest" / "lowest"."""

    kind: str
    names: tuple[str, ...] = ()
    threshold: int = 0

    def text(self) -> str:
        """Return the question as asked."""
        a, b = (*self.names, "", "")[:2]
        return {
            "read": f"What is the value of {a}?",
            "max": "What is the highest value?",
            "min": "What is the lowest value?",
            "diff": f"How much larger is {a} than {b}?",
            "sum": f"What is the sum of {a} and {b}?",
            "range": "What is the difference between the highest and the lowest value?",
            "which": f"Which item is the {a} and what is its value?",
            "order": "What is the order of the items from the lowest to the highest?",
            "count": f"How many items are above {self.threshold} and what is their total?",
        }[self.kind]

    def solve(self, table: Table) -> str:
        """Return the answer, given the values in `table` (which may be misread ones)."""
        values = dict(table)
        a, b = (*self.names, "", "")[:2]
        ranked = sorted(values, key=lambda name: values[name])
        if self.kind == "which":
            best = ranked[-1] if a == "highest" else ranked[0]
            return f"{best}, {values[best]}"
        if self.kind == "order":
            return ", ".join(ranked)
        if self.kind == "count":
            above = [v for v in values.values() if v > self.threshold]
            return f"{len(above)}, {sum(above)}"
        if self.kind == "read":
            return str(values[a])
        if self.kind == "diff":
            return str(values[a] - values[b])
        if self.kind == "sum":
            return str(values[a] + values[b])
        high, low = values[ranked[-1]], values[ranked[0]]
        return str({"max": high, "min": low, "range": high - low}[self.kind])


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart with one question; the seed draws the picture."""

    table: Table
    question: Question
    seed: int

    @property
    def image(self) -> DrawnChart:
        """Return the picture, drawn when loaded."""
        return DrawnChart(self.table, self.seed)


def random_table(rng: random.Random) -> Table:
    """Return three or four distinct names with distinct values of LOWEST..HIGHEST, in chart order."""
    n = rng.choice((3, 4, 4, 4))
    return tuple(zip(rng.sample(NAMES, n), rng.sample(range(LOWEST, HIGHEST + 1), n), strict=True))


def split_of(table: Table) -> str:
    """Return the split of a chart, from a hash of its names and values."""
    bucket = zlib.crc32(repr(table).encode()) % 100
    return next(split for split, buckets in SPLITS.items() if bucket in buckets)


def random_question(rng: random.Random, table: Table, kind: str | None = None) -> Question:
    """Return a question about `table`, of a type drawn by WEIGHTS unless given."""
    kind = kind or rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
    values = dict(table)
    if kind == "read":
        return Question(kind, (rng.choice(list(values)),))
    if kind in ("diff", "sum"):
        a, b = rng.sample(list(values), 2)
        return Question(kind, (a, b) if kind == "sum" or values[a] > values[b] else (b, a))
    if kind == "which":
        return Question(kind, (rng.choice(("highest", "lowest")),))
    if kind == "count":  # one to n - 1 items are above the threshold, and none is equal to it
        ranked = sorted(values.values())
        k = rng.randrange(len(ranked) - 1)
        return Question(kind, threshold=rng.randint(ranked[k], ranked[k + 1] - 1))
    return Question(kind)


def random_chart(rng: random.Random, split: str) -> Chart:
    """Return a chart of `split` with one question."""
    while True:
        table = random_table(rng)
        if split_of(table) == split:
            return Chart(table, random_question(rng, table), rng.getrandbits(31))
