"""What was read but may be no value, or not that label's: left out of the pairs, as facts train the policy as truth.

A fact that is missing costs a little; one that is wrong is imitated. So whatever two readings contradict, and whatever stands where its
chart's own scale says otherwise, is kept for its words alone (`chart_pairs.ROLES`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import combinations
from statistics import median

from dyme.facts.chart_text import Text, amount_of, is_row, is_year

AWAY = 2.5
"""Heights of a value's text between it and its place on the scale, at most: it stands above, beside or inside its bar or point."""
FEWEST = 5
"""Values of a series from which on its proportion is judged."""
CENTRED = 0.17
"""Heights of its text between the middles of a value and of its label, at most; a digit that was not read shifts it by more."""
LONGEST_NAME = 48
"""Characters; what is longer is a title or a note."""
_ABOUT = re.compile(r"source|survey|note:|©|https?:|www\.|\bcc by\b|statista|research cent|\.(?:org|com)\b", re.IGNORECASE)
MOST = 0.8
"""Share of the values that must stand at their places on a scale before those that do not are left out; in stacked bars they do not."""
MOST_OF_SERIES = 0.7
"""The same for the values of one series among one another."""


def credible(numbers: Sequence[Text], scales: Sequence[Sequence[Text]]) -> list[Text]:
    """`numbers` without ticks that the scales lack, signs read as 0, misread values, and two neighbours read as one."""
    kept = [v for v in numbers if not _leads_with_zero(v.text) and not any(_in_line(v, scale) for scale in scales)]
    for scale in scales:
        high = 2 * abs(max(amount_of(t.text) or 0.0 for t in scale))
        judged = len(kept) >= FEWEST and sum(_away(v, scale) <= AWAY for v in kept) >= MOST * len(kept)
        kept = [
            v for v in kept if abs(amount_of(v.text) or 0.0) <= high and (_away(v, scale) <= AWAY or not (judged or amount_of(v.text) == 0))
        ]
    return kept


def unambiguous(pairs: Iterable[tuple[Text, str]]) -> list[tuple[Text, str]]:
    """`pairs` without subjects that have two values: bars of two series without names, or labels of another line."""
    pairs = list(pairs)
    values: dict[str, set[str]] = {}
    for value, subject in pairs:
        values.setdefault(subject, set()).add(value.text)
    return [(value, subject) for value, subject in pairs if len(values[subject]) == 1]


def faithful(values: Sequence[tuple[Text, str]], across: bool) -> set[int]:
    """Return the id() of those of `values`, each with its series, that stand where the others of the series say that they should.

    Bars and lines put a value at a height, or a distance, in proportion to it; where most values of a series do, one that does not was
    read wrongly, as "2.38" for 12.38. Stacked bars and tables have no such proportion, and all of theirs are kept.
    """
    kept = {id(v) for v, _ in values}
    for series in {name for _, name in values}:
        own = [
            (amount, -v.y if across else v.left, v) for v, name in values if name == series and (amount := amount_of(v.text)) is not None
        ]
        slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(own, 2) if a[0] != b[0]]
        if len(own) < FEWEST or not slopes or (slope := median(slopes)) <= 0:
            continue
        start = median(place - slope * amount for amount, place, _ in own)
        away = {id(v): abs(start + slope * amount - place) / v.height for amount, place, v in own}
        if sum(distance <= AWAY for distance in away.values()) >= MOST_OF_SERIES * len(own):
            kept -= {id(v) for amount, place, v in own if away[id(v)] > AWAY and abs((place - start) / slope - amount) > 0.5 * abs(amount)}
    return kept


def shifted(places: Sequence[tuple[Text, float]]) -> set[int]:
    """Return the id() of values that stand beside the middle of their labels, x of each, where most stand right over it: a first digit is missing.

    Empty where most do not, as in groups of bars.
    """
    away = [(abs(v.x - x) / v.height, v) for v, x in places]
    centred = sum(distance <= CENTRED for distance, _ in away)
    return (
        {id(v) for distance, v in away if distance > 1.2 * CENTRED}
        if len(away) >= FEWEST and centred >= MOST_OF_SERIES * len(away)
        else set()
    )


def is_name(text: str) -> bool:
    """Return whether `text` can name a value: neither a sentence nor what is said about the chart's source."""
    return len(text) <= LONGEST_NAME and not _ABOUT.search(text) and not (text.endswith(".") and text.count(" ") > 3)


def _in_line(v: Text, scale: Sequence[Text]) -> bool:
    """Whether `v` stands in the row or column of a scale, between its ends, where there is no room for a value."""
    if is_row(scale):
        return any(abs(v.y - t.y) < 0.3 * t.height for t in scale) and scale[0].left - v.height < v.x < scale[-1].right + v.height
    low, high = min(t.top for t in scale), max(t.bottom for t in scale)
    edges = (abs(v.right - t.right) < 0.3 * t.height or abs(v.left - t.left) < 0.3 * t.height for t in scale)
    return low <= v.y <= high and any(edges) and min(t.left for t in scale) - v.height <= v.x <= max(t.right for t in scale) + v.height


def _away(v: Text, scale: Sequence[Text]) -> float:
    """How many heights of its text `v` stands from the place that the scale has for it; 0 for a number without a place."""
    amount = amount_of(v.text)
    row = is_row(scale)
    places = sorted((amount_of(t.text) or 0.0, t.x if row else t.y) for t in scale)
    (low, start), (high, end) = places[0], places[-1]
    if amount is None or high == low:
        return 0.0
    place = start + (amount - low) / (high - low) * (end - start)
    if row:
        return max(v.left - place, place - v.right, 0.0) / v.height
    return max(v.top - place, place - v.bottom, 0.0) / v.height


def _leads_with_zero(text: str) -> bool:
    """Whether a number is written as none is: "037" is a point's marker and 37."""
    digits = text.lstrip("+-−–~<>$€£¥₹ ")
    return len(digits) > 1 and digits[0] == "0" and digits[1].isdigit() and not is_year(text)
