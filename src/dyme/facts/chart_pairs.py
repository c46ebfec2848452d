"""From texts with positions to visual facts (paper, section 3.3): which printed value belongs to which label of a chart or table.

The paper asks DePlot, a model of 282 M parameters, for the table behind a chart. Here plain geometry does it, on what an OCR engine
read, and so only for values that are printed: a label axis (a row or a column of labels) is found by how many values line up with
it; a value belongs to the label in whose slot it lies, and to the series whose legend colour it stands on or beside. Numbers evenly
spaced along a line are a scale, not values. Every other text becomes a fact whose subject is a role, so that nothing is lost.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import mean, median

from dyme.facts.chart_doubt import MOST, credible, faithful, is_name, shifted, unambiguous
from dyme.facts.chart_text import (
    Colour,
    Text,
    cleaned,
    columns_of,
    groups_of,
    is_value,
    is_words,
    is_year,
    joined_lines,
    named_value,
    rows_of,
    scales_of,
    within,
    year_of,
)
from dyme.types import Fact

TITLE, X_AXIS, Y_AXIS, LEGEND, LABEL, TICK, TEXT = "title", "x axis", "y axis", "legend", "label", "tick", "text"
ROLES = (TITLE, X_AXIS, Y_AXIS, LEGEND, LABEL, TICK, TEXT)
"""Subjects of facts that are not pairs: the part of the picture that the value was read from."""
SAME_COLOUR = 30.0
"""Euclidean distance in RGB up to which a mark has the colour of a legend entry."""
MOST_VALUES = 4
"""If labels usually have more values than this, and nothing distinguishes the values, they do not belong to the labels."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """Labels in a row below the values (`across`), or in a column left of them."""

    labels: tuple[Text, ...]
    across: bool

    def at(self, text: Text) -> float:
        """Return the position of `text` along this axis, in pixels."""
        return text.x if self.across else text.y

    def before(self, text: Text) -> bool:
        """Return whether `text` lies on the side of this axis' values."""
        edge = mean(label.y for label in self.labels) if self.across else min(label.x for label in self.labels)
        return text.y < edge if self.across else text.x > edge

    def gap(self, values: Sequence[Text]) -> float:
        """Return the distance from a row to the nearest value above it, in pixels."""
        edge = min(label.top for label in self.labels)
        return min((max(edge - v.bottom, 0.0) for v in values if self.before(v)), default=math.inf)

    def slot(self, text: Text) -> tuple[Text, float] | None:
        """Return the label in whose slot `text` lies and its nearness (1: centred, 0: at the border); slots end midway between labels."""
        label = min(self.labels, key=lambda candidate: abs(self.at(candidate) - self.at(text)))
        away = abs(self.at(label) - self.at(text))
        half = min(abs(self.at(label) - self.at(other)) for other in self.labels if other is not label) / 2
        return (label, max(0.0, 1 - away / half)) if half and away < 1.05 * half else None


def chart_facts(texts: Iterable[Text]) -> tuple[Fact, ...]:
    """Return all facts of a chart, table or document, pairs first, each once; every text read is the subject or the value of at least one.

    A pair is Fact(label, value), or Fact("series label", value) where a legend or a table's head distinguishes series; the other
    facts have one of `ROLES` as their subject.
    """
    whole = joined_lines(cleaned(texts))
    upright = [t for t in whole if not t.turned]
    scales = scales_of(upright)
    years = [t for scale in scales if all(is_year(t.text) for t in scale) for t in scale]
    scales = [scale for scale in scales if scale[0] not in years]
    ticks = [t for scale in scales for t in scale]
    numbers = [t for t in upright if is_value(t.text) and t not in ticks and t not in years and within(t, scales)]
    numbers = credible(numbers, scales)
    legend = _legend([t for t in upright if t not in ticks], numbers)
    values = [t for t in numbers if t not in legend]
    axis = _label_axis([t for t in whole if t not in ticks and t not in legend], values)
    axis = None if axis and not axis.across and _captioned(values, upright) else axis
    pairs = _axis_pairs(axis, values, legend, upright) if axis else []
    paired = {id(value) for value, _ in pairs}
    labels = list(axis.labels) if axis else []
    settled = len(pairs) > MOST * len(values) or len({subject for _, subject in pairs}) > len(labels)
    free = [] if settled else [v for v in values if id(v) not in paired and v not in labels and not is_year(v.text)]
    pairs = unambiguous([*pairs, *_neighbours(free, [t for t in upright if t not in legend and is_name(t.text)])])
    found = [Fact(subject, value.text) for value, subject in pairs]
    found += [Fact(*named) for t in upright if (named := named_value(t.text)) and is_name(named[0]) and not is_year(named[1])]
    found += _roles(whole, {id(value) for value, _ in pairs}, ticks, legend, labels)
    return tuple(dict.fromkeys(fact for fact in found if fact.subject and fact.value))


def _legend(texts: Sequence[Text], numbers: Sequence[Text]) -> list[Text]:
    """Return the row or column of names (or years) behind signs of different colours, at least two of which are colours of values' marks.

    In a picture without values, return the largest such row or column.
    """
    named = [t for t in texts if _sign(t) and (not is_value(t.text) or is_year(t.text))]
    best: list[Text] = []
    most = 1
    for group in [*rows_of(named), *columns_of(named)]:
        if len({is_year(t.text) for t in group}) == 1 and all(
            _distance(_sign(a), _sign(b)) > SAME_COLOUR for a, b in combinations(group, 2)
        ):
            marked = [{id(near) for mark in _marks(v) if (near := _nearest(mark, group))} for v in numbers if v not in group]
            support = len(set().union(*marked)) if marked else len(group)
            if support > most:
                best, most = group, support
    for t in named:  # of a legend in several rows
        close = any(abs(t.y - entry.y) < 2.5 * entry.height for entry in best)
        if close and is_words(t) and not is_year(best[0].text) and all(_distance(_sign(t), _sign(entry)) > SAME_COLOUR for entry in best):
            best = [*best, t]
    return best


def _sign(t: Text) -> Colour | None:
    """Return the colour of the sign of a legend entry, or of its letters if it has none."""
    return t.before or t.colour


def _marks(t: Text) -> list[Colour]:
    """Return the colours that the mark of a value may have."""
    return [t.colour] if t.colour else [mark for mark in (t.below, t.above, t.before) if mark]


def _nearest(colour: Colour, legend: Sequence[Text]) -> Text | None:
    """Return the legend entry of that colour."""
    entry = min(legend, key=lambda entry: _distance(colour, _sign(entry)), default=None)
    return entry if entry and _distance(colour, _sign(entry)) <= SAME_COLOUR else None


def _distance(a: Colour | None, b: Colour | None) -> float:
    return math.dist(a, b) if a and b else math.inf


def _label_axis(texts: Sequence[Text], values: Sequence[Text]) -> _Axis | None:
    """Return the row or column of labels with which most values line up; of rows with at least half as many, the one nearest the values."""
    upright = [t for t in texts if not t.turned]
    turned = groups_of([t for t in texts if t.turned], lambda t: t.top, 0.3)
    rows = [_Axis(tuple(row), True) for row in [*rows_of(upright), *turned]]
    scored = [(_fit(axis, values), axis) for axis in [*rows, *(_Axis(tuple(column), False) for column in columns_of(upright))]]
    most, best = max(scored, key=lambda entry: entry[0], default=(0.0, None))
    if best is None or most < 0.6:
        return None
    rivals = [axis for score, axis in scored if axis.across and score >= 0.5 * most]
    return min(rivals, key=lambda axis: axis.gap(values)) if best.across else best


def _fit(axis: _Axis, values: Sequence[Text]) -> float:
    """Return the number of labels with a value, each weighted by how well that is centred; amounts make poor labels, years good ones."""
    if len({round(axis.at(label)) for label in axis.labels}) < len(axis.labels):
        return 0.0
    nearest: dict[int, float] = {}
    for value in values:
        if value not in axis.labels and axis.before(value) and (found := axis.slot(value)):
            label, near = found
            nearest[id(label)] = max(near, nearest.get(id(label), 0.0))
    amounts = sum(is_value(label.text) and not is_year(label.text) for label in axis.labels)
    return sum(nearest.values()) * (1 - amounts / len(axis.labels)) if len(nearest) > 1 else 0.0


def _axis_pairs(axis: _Axis, values: Sequence[Text], legend: Sequence[Text], texts: Sequence[Text]) -> list[tuple[Text, str]]:
    """Return each value in a slot of `axis` with its subject: the label, after the name of the series if there are several."""
    slots = [(v, *found) for v in values if v not in axis.labels and axis.before(v) and (found := axis.slot(v))]
    heads = {} if legend else _heads(axis, [value for value, _, _ in slots], texts)
    read = []
    for value, label, near in slots:
        year = _year_between(axis, value)
        name = (label.text if near > 0.05 else "") if year is None else label.text if near > 0.9 else year
        if name:  # otherwise it is midway between two labels
            read.append((value, label, 1 - near, _series(value, legend, axis.across) or heads.get(id(value), ""), name))
    if (legend or heads) and sum(bool(series) for _, _, _, series, _ in read) >= len(read) / 2:
        read = [entry for entry in read if entry[3]]  # the series of the others is not known
    kept = faithful([(value, series) for value, _, _, series, _ in read], axis.across)
    kept -= shifted([(value, label.x) for value, label, *_ in read]) if axis.across else set()
    named = [
        (away if axis.across else value.left - label.right, value, f"{series} {name}".strip())
        for value, label, away, series, name in read
        if id(value) in kept
    ]
    counts = Counter(subject for _, _, subject in named)
    usual = median(counts.values()) if counts else 0
    if usual > MOST_VALUES:
        return []
    if usual == 1:  # a sign that is read as a digit lies beyond the value
        nearest = {subject: min(entry[0] for entry in named if entry[2] == subject) for subject in counts}
        named = [entry for entry in named if entry[0] == nearest[entry[2]]]
    return [(value, subject) for _, value, subject in named]


def _series(value: Text, legend: Sequence[Text], across: bool) -> str:
    """Return the legend entry with the colour of the value's mark, or ""."""
    bars = (value.below, value.above, value.before) if across else (value.before, value.below, value.above)
    for colour in (value.colour,) if value.colour else bars:
        if colour and (entry := _nearest(colour, legend)):
            return entry.text
    return ""


def _heads(axis: _Axis, values: Sequence[Text], texts: Sequence[Text]) -> dict[int, str]:
    """Return the column head of each value of a table, by the value's id(); empty unless there are two columns with heads."""
    if axis.across:
        return {}
    top = min(label.top for label in axis.labels)
    above = [t for t in texts if t.bottom <= top + 0.3 * t.height and (is_words(t) or is_year(t.text))]
    heads: dict[int, str] = {}
    for column in groups_of(values, lambda v: v.x, 0.8):
        x = mean(v.x for v in column)
        beside = [v for v in values for w in column if v is not w and abs(v.y - w.y) < 0.5 * w.height]
        over = [t for t in above if t.left <= x <= t.right and not any(t.left < v.x < t.right for v in beside)]
        if over:
            heads |= dict.fromkeys((id(v) for v in column), max(over, key=lambda t: t.bottom).text)
    return heads if len(set(heads.values())) > 1 else {}


def _year_between(axis: _Axis, value: Text) -> str | None:
    """Return the year at the place of `value` on an axis that names only every second year, or fewer; None for any other axis.

    "" for a place between two years, beyond the axis, or on one whose years are not evenly spaced.
    """
    years = sorted((label for label in axis.labels if is_year(label.text)), key=axis.at)
    if len(years) < 3 or len(years) < len(axis.labels):
        return None
    first, last = years[0], years[-1]
    rate = (year_of(last) - year_of(first)) / (axis.at(last) - axis.at(first))
    if abs(rate) * (axis.at(years[1]) - axis.at(first)) < 1.5:
        return None

    def read(t: Text) -> float:
        return year_of(first) + rate * (axis.at(t) - axis.at(first))

    even = all(abs(read(year) - year_of(year)) < 0.25 for year in years)
    exact = read(value)
    inside = min(map(year_of, years)) <= round(exact) <= max(map(year_of, years))
    return str(round(exact)) if even and inside and abs(exact - round(exact)) < 0.25 else ""


def _captioned(values: Sequence[Text], texts: Sequence[Text]) -> bool:
    """Return whether most values are centred right above or below separate words, as in a pie: these belong to no axis."""

    def caption(value: Text) -> int:
        close = [t for t in texts if t is not value and abs(t.x - value.x) < value.height and _gap(value, t) < value.height]
        return id(min(close, key=lambda t: _gap(value, t))) if close and is_words(min(close, key=lambda t: _gap(value, t))) else 0

    captions = {found for value in values if (found := caption(value))}
    return len(captions) > 1 and len(captions) >= 0.6 * len(values)


def _gap(a: Text, b: Text) -> float:
    """Return the pixels between two boxes, horizontal and vertical distance added."""
    return max(b.left - a.right, a.left - b.right, 0.0) + max(b.top - a.bottom, a.top - b.bottom, 0.0)


def _neighbours(values: Sequence[Text], texts: Sequence[Text]) -> list[tuple[Text, str]]:
    """Return values off the axis with the words directly above, below or beside them, as in a pie; ambiguous ones are left out.

    A name takes its nearest value only, a value its nearest name unless the next one is nearly as near.
    """
    near: dict[int, tuple[float, Text, Text]] = {}
    for value in values:
        words = sorted((t for t in texts if is_words(t)), key=lambda t: _gap(value, t))[:2]
        if words and (distance := _gap(value, words[0])) < value.height:
            if len(words) > 1 and _gap(value, words[1]) < distance + 0.3 * value.height:
                continue
            entry = (distance, value, words[0])
            near[id(words[0])] = min(near.get(id(words[0]), entry), entry, key=lambda entry: entry[0])
    return [(value, words.text) for _, value, words in near.values()]


def _roles(texts: Sequence[Text], used: set[int], ticks: Sequence[Text], legend: Sequence[Text], labels: Sequence[Text]) -> list[Fact]:
    """Return facts on the texts that are not paired values: titles first, then legend, ticks and the rest, labels included."""
    left = [t for t in texts if id(t) not in used]
    core = [t for t in texts if id(t) in used or t in ticks or t in labels]
    free = [t for t in left if t not in core and t not in legend and not is_value(t.text)]
    roles = {id(t): TICK for t in ticks} | {id(t): LEGEND for t in legend} | {id(t): LABEL for t in labels}
    roles |= {id(t): Y_AXIS for t in free if t.turned}
    upright = [t for t in free if not t.turned and " " in t.text]
    if core:
        left_edge, right_edge = min(t.left for t in core), max(t.right for t in core)
        top, bottom, width = min(t.top for t in core), max(t.bottom for t in core), right_edge - left_edge
        heads = [t for t in upright if t.bottom <= top + 0.3 * t.height and t.width > 0.25 * width]
        below = [t for t in upright if -0.5 * t.height <= t.top - bottom < 3 * t.height]
        below = [t for t in below if abs(t.x - (left_edge + right_edge) / 2) < width / 4]
        if heads:
            roles[id(min(heads, key=lambda t: t.top))] = TITLE
        if below and (ticks or labels):
            roles[id(min(below, key=lambda t: t.top))] = X_AXIS
    order = {role: k for k, role in enumerate(ROLES)}
    return sorted((Fact(roles.get(id(t), TEXT), t.text) for t in left), key=lambda fact: order[fact.subject])
