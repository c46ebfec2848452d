"""Texts with positions from an OCR engine: corrected, classified, grouped in rows and columns, and the scales among them found.

A text that is read differs from the printed one: a box may hold half a paragraph or several numbers, thousands are separated by spaces,
and a number may be a value, a year or the tick of a scale. `chart_pairs` decides which value belongs to which label.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from statistics import mean, median

from dyme.verify.answers import number

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

LONGEST = 200
"""Most characters of a text that is read as a name and its value."""
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?!\d)")
_GLUED = re.compile(r"(?<![\d.,])(?=\d+ \d)\d{1,3}(?: ?\d{3})+(?!\d)")
"""The same with a missed space, "8070 486"; only where other numbers of the picture have their spaces."""
_NUMBER = r"(?:[$€£¥₹] ?)?[+\-−–]? ?(?:[$€£¥₹] ?)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_UNIT = (
    r"(?:[%€$]|thousand|million|billion|trillion|[kmb]|bn|tn|mn|pp"
    r"|hours?|days?|months?|years?|minutes?|seconds?|hrs?|mins?|secs?|people|pts?|points?|euros?|dollars?|pounds?|eur|usd|gbp|ppm"
    r"|[mk]?g|lbs?|oz|tonnes?|[mk]?t|[mck]?m[²³23]?|mi|ft[²2]?|in|ha|m?l|litres?|liters?|gallons?|barrels?"
    r"|[tgmk]?wh?|[tgmke]j|k?cal|[tgmk]b|[mg]bps|k?hz|mph|°[cf]?)"
)
_VALUE = re.compile(rf"[~<>]? ?({_NUMBER}) ?{_UNIT}?\**(?: \(\d{{4}}\))?", re.IGNORECASE)
_NAMED = re.compile(
    rf"(.*[^\W\d].*?)(?:: ?{_NUMBER}|,? (?=[$€£%\d+−-][^ ]*[$€£%\d])(?:[$€£]{_NUMBER}|{_NUMBER} ?%)) ?{_UNIT}?", re.IGNORECASE
)
_YEAR = re.compile(r"(1[89]|20)\d\d\**")
_BULLETS = " :,·•-–"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A text as read, with the edges of its box in pixels, y downwards."""

    text: str
    left: float
    top: float
    right: float
    bottom: float
    colour: Colour | None = None
    """Colour of its letters, or of their background, if the text is not dark on light."""
    below: Colour | None = None
    """Colour of the mark just below it: the bar of a value, if bars are upright."""
    above: Colour | None = None
    """Colour of the mark just above it."""
    before: Colour | None = None
    """Colour of the mark just left of it: the bar of a value, if bars are horizontal; the sign of a legend entry."""

    @property
    def x(self) -> float:
        """Return the x of the centre, in pixels."""
        return (self.left + self.right) / 2

    @property
    def y(self) -> float:
        """Return the y of the centre, in pixels."""
        return (self.top + self.bottom) / 2

    @property
    def width(self) -> float:
        """Return the width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """Return the height in pixels."""
        return self.bottom - self.top

    @property
    def turned(self) -> bool:
        """Return whether the text runs vertically."""
        return len(self.text) > 2 and self.height > 1.5 * self.width


def is_value(text: str) -> bool:
    """Return whether `text` is one number, perhaps with a currency, a percent sign or a unit such as "million"."""
    return _VALUE.fullmatch(text) is not None


def named_value(text: str) -> tuple[str, str] | None:
    """Return the name and value of a text such as "Rent: 40" or "Rent 40%"; None for any other text."""
    if len(text) > LONGEST or is_value(text) or not (found := _NAMED.fullmatch(text)):
        return None
    return found[1].strip(_BULLETS), text[found.end(1) :].strip(" :,")


def bare_number(text: str) -> str | None:
    """Return the number of a value, without its unit ("$7.5 million": "$7.5"); None if `text` is no value."""
    found = _VALUE.fullmatch(text)
    return found[1] if found else None


def cleaned(texts: Iterable[Text]) -> list[Text]:
    """Return texts without empty ones, with "2 500" as "2500"; several numbers in one box are split in proportion to their characters."""
    texts, out = list(texts), []
    thousands = _GLUED if any(_THOUSANDS.fullmatch(t.text.strip()) for t in texts) else _THOUSANDS
    for t in texts:
        words = thousands.sub(lambda m: m[0].replace(" ", ""), " ".join(t.text.split()))
        parts = [part for word in words.split(" ") for part in _unglued(word)]
        words = " ".join(parts)
        if len(parts) > 1 and all(is_value(part) for part in parts):
            step, start = t.width / len(words), 0
            for part in parts:
                out.append(replace(t, text=part, left=t.left + start * step, right=t.left + (start + len(part)) * step))
                start += len(part) + 1
        elif words:
            out.append(replace(t, text=words))
    return out


def _unglued(word: str) -> list[str]:
    """Return "115.31115.31" as two numbers: numbers printed side by side have equally many decimals."""
    decimals = len(word.rpartition(".")[2])
    parts = re.findall(rf"\d+\.\d{{{decimals}}}", word) if word.count(".") > 1 else []
    return parts if "".join(parts) == word else [word]


def joined_lines(texts: list[Text]) -> list[Text]:
    """Return texts with the lines of one label or paragraph joined: lines stacked closely and flush left, right or centred."""
    numbers = [t for t in texts if is_value(t.text)]

    def owns_value(t: Text) -> bool:
        return any(abs(v.y - t.y) < 0.3 * t.height and v.left >= t.right for v in numbers)

    def continues(upper: Text, lower: Text) -> bool:
        height = min(upper.height, lower.height)
        flush = min(abs(upper.left - lower.left), abs(upper.right - lower.right), abs(upper.x - lower.x)) < 0.5 * height
        close = 0.5 * height < lower.y - upper.y <= 1.05 * (upper.height / 2 + lower.height / 2)
        return flush and close and max(upper.height, lower.height) < 1.4 * height and not (owns_value(upper) and owns_value(lower))

    out: list[tuple[Text, Text]] = []  # the text so far and its last line
    for t in sorted(texts, key=lambda t: (t.y, t.x)):
        above = next((k for k, (_, last) in enumerate(out) if is_words(t) and is_words(last) and continues(last, t)), None)
        if above is None:
            out.append((t, t))
            continue
        first, _ = out[above]
        left, right = min(first.left, t.left), max(first.right, t.right)
        out[above] = (replace(first, text=f"{first.text} {t.text}", left=left, right=right, bottom=t.bottom), t)
    return [t for t, _ in out]


def is_words(t: Text) -> bool:
    """Return whether `t` is upright and no value."""
    return not t.turned and not is_value(t.text)


def groups_of(texts: Sequence[Text], at: Callable[[Text], float], slack: float) -> list[list[Text]]:
    """Return groups of at least two texts whose `at` is within `slack` text heights of the group's mean."""
    groups: list[list[Text]] = []
    for t in sorted(texts, key=at):
        if groups and abs(at(t) - mean(at(other) for other in groups[-1])) <= slack * t.height:
            groups[-1].append(t)
        else:
            groups.append([t])
    return [group for group in groups if len(group) > 1]


def rows_of(texts: Sequence[Text]) -> list[list[Text]]:
    """Return rows of at least two texts, from left to right."""
    return [sorted(row, key=lambda t: t.x) for row in groups_of(texts, up, 0.4)]


def columns_of(texts: Sequence[Text]) -> list[list[Text]]:
    """Return columns of at least two texts, flush right, flush left or centred, from top to bottom; a text may be in several."""
    edges: list[Callable[[Text], float]] = [lambda t: t.right, lambda t: t.left, _x]
    return [sorted(column, key=lambda t: t.y) for edge in edges for column in groups_of(texts, edge, 0.5)]


def amount_of(text: str) -> float | None:
    """Return the number of a value, without its unit; None if `text` is no value."""
    bare = bare_number(text)
    value = None if bare is None else number(bare.replace("−", "-").replace("–", "-").replace(" ", ""))
    return None if value is None else float(value)


def is_year(text: str) -> bool:
    """Return whether `text` is a year of 1800 to 2099, perhaps with a footnote's star; on an axis it is a label rather than an amount."""
    return _YEAR.fullmatch(text) is not None


def year_of(t: Text) -> int:
    """Return the year that `t` is."""
    return int(t.text[:4])


def scales_of(texts: Sequence[Text]) -> list[list[Text]]:
    """Return rows and columns of numbers that grow evenly with their position, rightwards or upwards, in multiples of one step.

    Three numbers make a scale if 0 is among them, else four. Numbers with a name in their row are values.
    """
    names = [t for t in texts if not is_value(t.text) and any(map(str.isalpha, t.text))]
    numbers = [t for t in texts if is_value(t.text) and not any(abs(name.y - t.y) < 0.3 * t.height for name in names)]
    rows = [(row, _x) for row in rows_of(numbers)]
    columns = [(column, up) for column in columns_of(numbers)]
    found: list[list[Text]] = []
    for group, at in sorted([*rows, *columns], key=lambda entry: -len(entry[0])):
        even = _even([t for t in group if not any(t in scale for scale in found)], at)
        if len(even) >= (3 if any(amount_of(t.text) == 0 for t in even) or all(is_year(t.text) for t in even) else 4):
            found.append(even)
    return found


def within(value: Text, scales: Sequence[Sequence[Text]]) -> bool:
    """Return whether `value` lies within the area of the scales, plus or minus a step; signs read as digits often lie outside."""
    for scale in scales:
        row = is_row(scale)
        places = sorted(t.x if row else t.y for t in scale)
        step = (places[-1] - places[0]) / (len(places) - 1)
        if not places[0] - step <= (value.left if row else value.y) <= places[-1] + step:
            return False
    return True


def is_row(scale: Sequence[Text]) -> bool:
    """Return whether a scale is horizontal."""
    return abs(scale[0].y - scale[-1].y) < abs(scale[0].x - scale[-1].x)


def _x(t: Text) -> float:
    return t.x


def up(t: Text) -> float:
    """Return the y of the centre, negated: it grows upwards."""
    return -t.y


def _even(group: Sequence[Text], at: Callable[[Text], float]) -> list[Text]:
    """Return the members of `group` on the straight line of number against position, if these are nearly all; else none."""
    points = sorted((at(t), amount, k) for k, t in enumerate(group) if (amount := amount_of(t.text)) is not None)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if a[0] != b[0]]
    if len(points) < 3 or not slopes or (slope := median(slopes)) <= 0:
        return []
    step = min((b[1] - a[1] for a, b in pairwise(points) if b[1] > a[1]), default=0.0)
    start = median(value - slope * place for place, value, _ in points)
    fitting = [k for place, value, k in points if abs(start + slope * place - value) <= 0.25 * step and _is_multiple(value, step)]
    return [group[k] for k in fitting] if len(fitting) >= 0.75 * len(points) else []


def _is_multiple(value: float, step: float) -> bool:
    return abs(value / step - round(value / step)) < 0.01
