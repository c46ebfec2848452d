"""Texts with positions as an OCR engine reads them: put right, told apart, grouped in rows and columns, and the scales among them.

What is read is not yet what is printed: a box may hold half a paragraph or several numbers, thousands are set apart by spaces, and a
number may be a value, a year or the tick of a scale. Which value belongs to which label is the next question (`chart_pairs`).
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
"""Characters of a text that is read as a name and its value."""
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?!\d)")
_GLUED = re.compile(r"(?<![\d.,])(?=\d+ \d)\d{1,3}(?: ?\d{3})+(?!\d)")
"""The same with a space that was not read, "8070 486"; only where others of the picture have theirs."""
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
    """Of its letters, or of what it is written on, if it is not dark on light."""
    below: Colour | None = None
    """What is drawn just below it: the bar of a value, if bars are upright."""
    above: Colour | None = None
    """What is drawn just above it."""
    before: Colour | None = None
    """What is drawn just left of it: the bar of a value, if bars lie; the sign of a legend entry."""

    @property
    def x(self) -> float:
        """Centre."""
        return (self.left + self.right) / 2

    @property
    def y(self) -> float:
        """Centre."""
        return (self.top + self.bottom) / 2

    @property
    def width(self) -> float:
        """In pixels."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """In pixels."""
        return self.bottom - self.top

    @property
    def turned(self) -> bool:
        """Return whether it is written along the vertical."""
        return len(self.text) > 2 and self.height > 1.5 * self.width


def is_value(text: str) -> bool:
    """Return whether `text` is one number, perhaps with a currency, a percent sign or a unit such as "million"."""
    return _VALUE.fullmatch(text) is not None


def named_value(text: str) -> tuple[str, str] | None:
    """Name and value of a text such as "Rent: 40" or "Rent 40%"; None if it is no such text."""
    if len(text) > LONGEST or is_value(text) or not (found := _NAMED.fullmatch(text)):
        return None
    return found[1].strip(_BULLETS), text[found.end(1) :].strip(" :,")


def bare_number(text: str) -> str | None:
    """Return the number of a value, without its unit ("$7.5 million": "$7.5"); None if `text` is no value."""
    found = _VALUE.fullmatch(text)
    return found[1] if found else None


def cleaned(texts: Iterable[Text]) -> list[Text]:
    """Without empty texts, with "2 500" as "2500"; several numbers in one box are split in proportion to their characters."""
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
    """ "115.31115.31" as two numbers: those that are printed side by side have equally many decimals."""
    decimals = len(word.rpartition(".")[2])
    parts = re.findall(rf"\d+\.\d{{{decimals}}}", word) if word.count(".") > 1 else []
    return parts if "".join(parts) == word else [word]


def joined_lines(texts: list[Text]) -> list[Text]:
    """With the lines of one label or paragraph made one text: stacked closely and flush left, right or centred."""
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
    """Return texts that agree in `at` to within `slack` heights of one another's mean, at least two each."""
    groups: list[list[Text]] = []
    for t in sorted(texts, key=at):
        if groups and abs(at(t) - mean(at(other) for other in groups[-1])) <= slack * t.height:
            groups[-1].append(t)
        else:
            groups.append([t])
    return [group for group in groups if len(group) > 1]


def rows_of(texts: Sequence[Text]) -> list[list[Text]]:
    """Return texts of equal height on the page, at least two each, from left to right."""
    return [sorted(row, key=lambda t: t.x) for row in groups_of(texts, up, 0.4)]


def columns_of(texts: Sequence[Text]) -> list[list[Text]]:
    """Return texts flush right, flush left or centred, at least two each, from top to bottom; a text may be in several."""
    edges: list[Callable[[Text], float]] = [lambda t: t.right, lambda t: t.left, _x]
    return [sorted(column, key=lambda t: t.y) for edge in edges for column in groups_of(texts, edge, 0.5)]


def amount_of(text: str) -> float | None:
    """Return the number of a value, without its unit; None if `text` is no value."""
    bare = bare_number(text)
    value = None if bare is None else number(bare.replace("−", "-").replace("–", "-").replace(" ", ""))
    return None if value is None else float(value)


def is_year(text: str) -> bool:
    """Return whether `text` is a year of 1800 to 2099, perhaps with a footnote's star: on an axis a label rather than an amount."""
    return _YEAR.fullmatch(text) is not None


def year_of(t: Text) -> int:
    """Return the year that `t` is."""
    return int(t.text[:4])


def scales_of(texts: Sequence[Text]) -> list[list[Text]]:
    """Return rows and columns of numbers that grow evenly with their position, rightwards or upwards, in multiples of one step.

    Three numbers make a scale if 0 is among them, else four. Those that have a name in their row are values.
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
    """Return whether `value` lies where the scales have room for it, give or take a step: signs read as digits often lie elsewhere."""
    for scale in scales:
        row = is_row(scale)
        places = sorted(t.x if row else t.y for t in scale)
        step = (places[-1] - places[0]) / (len(places) - 1)
        if not places[0] - step <= (value.left if row else value.y) <= places[-1] + step:
            return False
    return True


def is_row(scale: Sequence[Text]) -> bool:
    """Return whether a scale lies along the horizontal."""
    return abs(scale[0].y - scale[-1].y) < abs(scale[0].x - scale[-1].x)


def _x(t: Text) -> float:
    return t.x


def up(t: Text) -> float:
    """Centre, upwards."""
    return -t.y


def _even(group: Sequence[Text], at: Callable[[Text], float]) -> list[Text]:
    """The members of `group` on the straight line of number against position, if these are nearly all; else none."""
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
