"""Find readings that may be no value, or another label's: these are left out of the pairs, since the policy learns facts as truth.

A missing fact costs little; a wrong one is imitated. So readings that contradict each other, and values that contradict their position
on the chart's scale, are kept as words only (`chart_pairs.ROLES`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import combinations
from statistics import median

from dyme.facts.chart_text import Text, amount_of, is_row, is_year

AWAY = 2.5
"""Largest distance, in heights of its text, of a value from its place on the scale: it is above, beside or inside its bar or point."""
FEWEST = 5
"""Least number of values of a series for its proportion to be judged."""
CENTRED = 0.17
"""Largest distance, in heights of its text, between the middles of a value and its label; a missed digit shifts it by more."""
LONGEST_NAME = 48
"""Most characters of a name; a longer text is a title or a note."""
_ABOUT = re.compile(r"source|survey|note:|©|https?:|www\.|\bcc by\b|statista|research cent|\.(?:org|com)\b", re.IGNORECASE)
MOST = 0.8
"""Share of values that must be at their places on a scale before the others are left out; in stacked bars they are not at them."""
MOST_OF_SERIES = 0.7
"""The same share for the values of one series against one another."""


def credible(numbers: Sequence[Text], scales: Sequence[Sequence[Text]]) -> list[Text]:
    """Return `numbers` without ticks that the scales lack, signs read as 0, misread values, and two neighbours read as one."""
    kept = [v for v in numbers if not _leads_with_zero(v.text) and not any(_in_line(v, scale) for scale in scales)]
    for scale in scales:
        high = 2 * abs(max(amount_of(t.text) or 0.0 for t in scale))
        judged = len(kept) >= FEWEST and sum(_away(v, scale) <= AWAY for v in kept) >= MOST * len(kept)
        kept = [
            v for v in kept if abs(amount_of(v.text) or 0.0) <= high and (_away(v, scale) <= AWAY or not (judged or amount_of(v.text) == 0))
        ]
    return kept


def unambiguous(pairs: Iterable[tuple[Text, str]]) -> list[tuple[Text, str]]:
    """Return `pairs` without subjects that have two values: bars of two series without names, or labels of another line."""
    pairs = list(pairs)
    values: dict[str, set[str]] = {}
    for value, subject in pairs:
        values.setdefault(subject, set()).add(value.text)
    return [(value, subject) for value, subject in pairs if len(values[subject]) == 1]


def faithful(values: Sequence[tuple[Text, str]], across: bool) -> set[int]:
    """Return the id() of those of `values`, each with its series, whose positions agree with the others of the series.

    Bars and lines put a value at a height, or a distance, in proportion to it; where most values of a series agree, one that does not
    was misread, as "2.38" for 12.38. Stacked bars and tables have no such proportion, and all their values are kept.
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
    """Return the id() of values off the middle of their labels where most values are right over it: a first digit is missing.

    `places` holds each value with the x of its label. Empty where most values are off the middle, as in groups of bars.
    """
    away = [(abs(v.x - x) / v.height, v) for v, x in places]
    centred = sum(distance <= CENTRED for distance, _ in away)
    return (
        {id(v) for distance, v in away if distance > 1.2 * CENTRED}
        if len(away) >= FEWEST and centred >= MOST_OF_SERIES * len(away)
        else set()
    )


def is_name(text: str) -> bool:
    """Return whether `text` can name a value: it is neither a sentence nor a note on the chart's source."""
    return len(text) <= LONGEST_NAME and not _ABOUT.search(text) and not (text.endswith(".") and text.count(" ") > 3)


def _in_line(v: Text, scale: Sequence[Text]) -> bool:
    """Return whether `v` stands in the row or column of a scale, between its ends, where no value can be."""
    if is_row(scale):
        return any(abs(v.y - t.y) < 0.3 * t.height for t in scale) and scale[0].left - v.height < v.x < scale[-1].right + v.height
    low, high = min(t.top for t in scale), max(t.bottom for t in scale)
    edges = (abs(v.right - t.right) < 0.3 * t.height or abs(v.left - t.left) < 0.3 * t.height for t in scale)
    return low <= v.y <= high and any(edges) and min(t.left for t in scale) - v.height <= v.x <= max(t.right for t in scale) + v.height


def _away(v: Text, scale: Sequence[Text]) -> float:
    """Return the distance of `v`, in heights of its text, from its place on the scale; 0 for a number without a place."""
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
    """Return whether a number begins with a needless zero: "037" is a point's marker and 37."""
    digits = text.lstrip("+-−–~<>$€£¥₹ ")
    return len(digits) > 1 and digits[0] == "0" and digits[1].isdigit() and not is_year(text)
