"""Where in a picture the things stand that a statement speaks of, by the texts that OCR read there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dyme.facts.chart_text import Text
from dyme.types import Fact
from dyme.verify.answers import read
from dyme.verify.thinking import NUMBER, plain

_NUMBER = re.compile(rf"(?<!\w){NUMBER}")


@dataclass(frozen=True, slots=True)
class Box:
    """Edges in pixels of the picture, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def __or__(self, other: Box) -> Box:
        """Return the smallest box around both."""
        return Box(min(self.left, other.left), min(self.top, other.top), max(self.right, other.right), max(self.bottom, other.bottom))


def regions(statement: str, facts: Sequence[Fact], texts: Sequence[Text]) -> list[Box]:
    """Return the region of each fact that a statement speaks of, as far as the texts of the picture show where it is."""
    return list(dict.fromkeys(box for fact in spoken_of(statement, facts) if (box := region(fact, texts))))


def spoken_of(statement: str, facts: Sequence[Fact]) -> list[Fact]:
    """Return the facts whose subjects a statement names; in a statement without names, such as an equation, those with its numbers."""
    said = plain(statement)
    if named := [fact for fact in facts if (name := plain(fact.subject)) and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", said)]:
        return named
    numbers = [read(value) for value in _NUMBER.findall(said)]
    return [fact for fact in facts if read(fact.value) in numbers]


def region(fact: Fact, texts: Sequence[Text]) -> Box | None:
    """Return the box around a fact's name and its value; around one of them if the other was not read; None if neither can be placed.

    Of several equal values that one counts which lies straight above, below or beside the name.
    """
    names = [box for text in texts for box in _within(text, fact.subject)]
    values = [_box(text) for text in texts if read(text.text) == read(fact.value)]
    if names and values:
        name, value = min(((n, v) for n in names for v in values), key=lambda pair: _apart(*pair))
        return name | value
    found = names or values
    return found[0] if len(found) == 1 else None


def _within(text: Text, name: str) -> Iterable[Box]:
    """Yield the box of each place where a text holds a name as whole words; of a text that holds more, its part by characters."""
    size = max(len(text.text), 1)
    for found in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", text.text, re.IGNORECASE) if name else ():
        if text.turned:
            yield _box(text)
        else:
            yield Box(text.left + text.width * found.start() / size, text.top, text.left + text.width * found.end() / size, text.bottom)


def _box(text: Text) -> Box:
    return Box(text.left, text.top, text.right, text.bottom)


def _apart(one: Box, other: Box) -> float:
    """Return how far two boxes are from being straight above or beside each other, and a little of their distance."""
    across = abs(one.left + one.right - other.left - other.right) / 2
    down = abs(one.top + one.bottom - other.top - other.bottom) / 2
    return min(across, down) + 0.05 * (across + down)
