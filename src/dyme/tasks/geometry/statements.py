"""Formal statements about a diagram as facts in words: "Equal(LengthOfLine(CA),y)" says that the length of CA is y.

Two dialects are read: FormalGeo's (letters run together: MeasureOfAngle(ABC)) and that of Inter-GPS and Geometry3K (letters as
arguments: MeasureOf(Angle(A, B, C))).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from dyme.types import Fact

_TERM = re.compile(r"\s*([A-Za-z_]\w*)\s*\(")
_LETTERS = re.compile(r"[A-Z][A-Z0-9']*")
_POLYGONS = {3: "triangle", 4: "quadrilateral", 5: "pentagon", 6: "hexagon"}
_TOGETHER = {"Collinear": "on one line", "Cocircular": "on one circle"}
_BETWEEN = {"Perpendicular": "perpendicular to", "Parallel": "parallel to", "Similar": "similar to", "Congruent": "congruent to"}
_SUMS = {"Add": " + ", "Sub": " - ", "Mul": " * ", "Div": " / ", "SumOf": " + "}
LONGEST = 500
"""Most characters; a longer statement is passed on unchanged."""


@dataclass(frozen=True, slots=True)
class Term:
    """A term, name(arguments); a bare word or expression has no arguments."""

    name: str
    arguments: tuple[Term, ...] = ()


def facts(statements: Sequence[str]) -> tuple[Fact, ...]:
    """Return one fact for each statement, without repeats; a statement that is not a term is passed on unchanged."""
    found = []
    for statement in statements:
        term = _parse(statement) if len(statement) <= LONGEST else None
        found.append(_fact(term) if term and term.arguments else Fact("given", " ".join(statement.split())))
    return tuple(dict.fromkeys(found))


def _parse(text: str) -> Term | None:
    """Return `text` as a term, or None if its brackets do not match; "2(x+1)" is a bare expression."""
    text = text.strip()
    opened = _TERM.match(text)
    if not opened or not text.endswith(")"):
        return Term(text) if text else None
    parts, depth, start = [], 0, opened.end()
    for k in range(opened.end(), len(text)):
        character = text[k]
        if character == ")" and depth == 0:
            if k != len(text) - 1:
                return Term(text)
            parts.append(text[start:k])
        elif character == "," and depth == 0:
            parts.append(text[start:k])
            start = k + 1
        depth += (character == "(") - (character == ")")
    arguments = [_parse(part) for part in parts]
    return None if depth != -1 or None in arguments else Term(opened[1], tuple(a for a in arguments if a))


def _fact(term: Term) -> Fact:
    """Return the subject and value of a statement."""
    name, arguments = term.name, term.arguments
    said = [_said(argument) for argument in arguments]
    if name in ("Equal", "Equals") and len(said) == 2:
        return Fact(said[0], said[1])
    if name == "Shape":
        return _shape([argument.name for argument in arguments])
    if name in _TOGETHER:
        points = ", ".join(said[-1])
        return Fact(points, f"on circle {said[0]}" if len(said) == 2 else _TOGETHER[name])
    for word, phrase in _BETWEEN.items():
        if (found := re.fullmatch(rf"(?:Mirror)?{word}(?:Between(\w+))?", name)) and len(said) == 2:
            noun = f"{found[1].lower()} " if found[1] and found[1] != "Line" else ""
            return Fact(f"{noun}{said[0]}", f"{phrase} {noun}{said[1]}")
    if (found := re.fullmatch(r"Is([A-Z]\w*?)Of(?:([A-Z]\w*))?", name)) and len(said) == 2:
        noun = f"{_words(found[2])} " if found[2] and found[2] != "Line" else ""
        return Fact(said[0], f"{_words(found[1])} of {noun}{said[1]}")
    if (found := re.fullmatch(r"PointLiesOn(\w+)", name)) and len(said) == 2:
        return Fact(said[0], f"on {said[1]}" if said[1].startswith("circle") else f"on {_words(found[1])} {said[1]}")
    if len(said) == 1:
        return Fact(said[0], _words(name))
    if all(_LETTERS.fullmatch(one) for one in said):
        return Fact("".join(said), _words(name))
    return Fact(said[0], f"{_words(name)} {', '.join(said[1:])}")


def _said(term: Term) -> str:
    """Return a term in words: "length of AB", "angle ABC", "circle O"."""
    name, said = term.name, [_said(argument) for argument in term.arguments]
    if not said:
        return name
    if name in _SUMS:
        return _SUMS[name].join(said)
    if name in ("Line", "LengthOfLine"):
        return ("length of " if name == "LengthOfLine" else "") + "".join(said)
    if name.startswith("MeasureOf"):
        return f"{_words(name.removeprefix('MeasureOf'))} {''.join(said)}".strip()
    if found := re.fullmatch(r"([A-Z]\w*?)Of([A-Z]\w*)?", name):
        noun = f"{_words(found[2])} " if found[2] else ""
        return f"{_words(found[1])} of {noun}{', '.join(said)}"
    if name == "Circle":
        return f"circle {said[0]}"
    return f"{_words(name)} {''.join(said)}" if all(_LETTERS.fullmatch(one) for one in said) else f"{_words(name)} of {', '.join(said)}"


def _shape(sides: Sequence[str]) -> Fact:
    """Return a closed run of lines as a polygon, named by its corners; a shape with an arc is described side by side."""
    if len(sides) == 1:
        return Fact(sides[0], "line" if len(sides[0]) == 2 else "arc")
    if all(len(side) == 2 for side in sides) and len(sides) > 2:
        return Fact("".join(side[0] for side in sides), _POLYGONS.get(len(sides), "polygon"))
    return Fact("region", "bounded by " + ", ".join(f"arc {side}" if len(side) == 3 else side for side in sides))


def _words(name: str) -> str:
    """Return a name in words: "PerimeterOfCircle" -> "perimeter of circle"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name).lower()
