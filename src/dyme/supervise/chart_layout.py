"""From texts with positions to visual facts (paper, section 3.3): which printed value belongs to which label of a chart or table.

The paper asks DePlot, a model of 282 M parameters, for the table behind a chart. Here plain geometry does it, on what an OCR engine
read, and so only for values that are printed: a label axis (a row or a column of labels) is found by how many values line up with
it, a value goes to the label in whose slot it lies, and to the series whose legend colour it stands on or beside. Numbers evenly
spaced along a line are a scale, not values. Whatever is left over becomes a fact about nothing in particular, so that nothing is lost.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise
from statistics import mean, median

from dyme.types import Fact
from dyme.verify.answer import number

Colour = tuple[int, int, int]
TITLE, X_AXIS, Y_AXIS, LEGEND, LABEL, TICK, TEXT = "title", "x axis", "y axis", "legend", "label", "tick", "text"
ROLES = (TITLE, X_AXIS, Y_AXIS, LEGEND, LABEL, TICK, TEXT)
"""Subjects of facts that are not pairs: they say what part of the picture the value was read from."""
SAME_COLOUR = 30.0
"""Euclidean distance in RGB up to which a mark has the colour of a legend entry."""

_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?!\d)")
_NUMBER = r"(?:[$€£¥₹] ?)?[+\-−–]? ?(?:[$€£¥₹] ?)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_UNIT = (
    r"(?:[%€$]|thousand|million|billion|trillion|[kmb]|bn|tn|mn|pp"
    r"|hours?|days?|months?|years?|minutes?|seconds?|people|kg|tonnes?|km|[tgmk]wh)"
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
        """Whether it is written along the vertical."""
        return len(self.text) > 2 and self.height > 1.5 * self.width


@dataclass(frozen=True, slots=True)
class _Axis:
    """Labels in a row below the values (`across`), or in a column left of them."""

    labels: tuple[Text, ...]
    across: bool

    def at(self, text: Text) -> float:
        """Where `text` lies along this axis."""
        return text.x if self.across else text.y

    def before(self, text: Text) -> bool:
        """Whether `text` lies on the side where this axis has its values."""
        edge = mean(label.y for label in self.labels) if self.across else min(label.x for label in self.labels)
        return text.y < edge if self.across else text.x > edge

    def gap(self, values: Sequence[Text]) -> float:
        """Distance from a row to the nearest value above it, in pixels."""
        edge = min(label.top for label in self.labels)
        return min((max(edge - v.bottom, 0.0) for v in values if self.before(v)), default=math.inf)

    def slot(self, text: Text) -> tuple[Text, float] | None:
        """The label in whose slot `text` lies and how near it is (1: centred, 0: at the border); slots end midway between labels."""
        label = min(self.labels, key=lambda candidate: abs(self.at(candidate) - self.at(text)))
        away = abs(self.at(label) - self.at(text))
        half = min(abs(self.at(label) - self.at(other)) for other in self.labels if other is not label) / 2
        return (label, 1 - away / half) if half and away < half else None


def chart_facts(texts: Iterable[Text]) -> tuple[Fact, ...]:
    """All facts of a chart, table or document, pairs first, each once; every text read is the subject or the value of at least one.

    A pair is Fact(label, value), or Fact("series label", value) where a legend or a table's head tells series apart; the other
    facts have one of `ROLES` as their subject.
    """
    whole = _joined_lines(_cleaned(texts))
    upright = [t for t in whole if not t.turned]
    scales = _scales(upright)
    years = [t for scale in scales if all(is_year(t.text) for t in scale) for t in scale]
    scales = [scale for scale in scales if scale[0] not in years]
    ticks = [t for scale in scales for t in scale]
    numbers = [t for t in upright if is_value(t.text) and t not in ticks and t not in years and _within(t, scales)]
    legend = _legend([t for t in upright if t not in ticks], numbers)
    values = [t for t in numbers if t not in legend]
    axis = _label_axis([t for t in whole if t not in ticks and t not in legend], values)
    pairs = _axis_pairs(axis, values, legend, upright) if axis else []
    paired = {id(value) for value, _ in pairs}
    labels = list(axis.labels) if axis else []
    pairs += _neighbours([v for v in values if id(v) not in paired and v not in labels], [t for t in upright if t not in legend])
    found = [Fact(subject, value.text) for value, subject in pairs]
    found += [Fact(*named) for t in upright if (named := _named_value(t.text))]
    found += _roles(whole, {id(value) for value, _ in pairs}, ticks, legend, labels)
    return tuple(dict.fromkeys(fact for fact in found if fact.subject and fact.value))


def is_value(text: str) -> bool:
    """Whether `text` is one number, perhaps with a currency, a percent sign or a unit such as "million"."""
    return _VALUE.fullmatch(text) is not None


def _named_value(text: str) -> tuple[str, str] | None:
    """Name and value of a text such as "Rent: 40" or "Rent 40%"; None if it is no such text."""
    if is_value(text) or not (found := _NAMED.fullmatch(text)):
        return None
    return found[1].strip(_BULLETS), text[found.end(1) :].strip(_BULLETS)


def bare_number(text: str) -> str | None:
    """The number of a value, without its unit ("$7.5 million": "$7.5"); None if `text` is no value."""
    found = _VALUE.fullmatch(text)
    return found[1] if found else None


def _cleaned(texts: Iterable[Text]) -> list[Text]:
    """Without empty texts, with "2 500" as "2500"; several numbers in one box are split in proportion to their characters."""
    out: list[Text] = []
    for t in texts:
        words = _THOUSANDS.sub(lambda m: m[0].replace(" ", ""), " ".join(t.text.split()))
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


def _joined_lines(texts: list[Text]) -> list[Text]:
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
        above = next((k for k, (_, last) in enumerate(out) if _is_words(t) and _is_words(last) and continues(last, t)), None)
        if above is None:
            out.append((t, t))
            continue
        first, _ = out[above]
        left, right = min(first.left, t.left), max(first.right, t.right)
        out[above] = (replace(first, text=f"{first.text} {t.text}", left=left, right=right, bottom=t.bottom), t)
    return [t for t, _ in out]


def _is_words(t: Text) -> bool:
    return not t.turned and not is_value(t.text)


def _groups(texts: Sequence[Text], at: Callable[[Text], float], slack: float) -> list[list[Text]]:
    """Texts that agree in `at` to within `slack` heights of one another's mean, at least two each."""
    groups: list[list[Text]] = []
    for t in sorted(texts, key=at):
        if groups and abs(at(t) - mean(at(other) for other in groups[-1])) <= slack * t.height:
            groups[-1].append(t)
        else:
            groups.append([t])
    return [group for group in groups if len(group) > 1]


def _rows(texts: Sequence[Text]) -> list[list[Text]]:
    return [sorted(row, key=lambda t: t.x) for row in _groups(texts, _up, 0.4)]


def _columns(texts: Sequence[Text]) -> list[list[Text]]:
    edges: list[Callable[[Text], float]] = [lambda t: t.right, lambda t: t.left, _x]
    return [sorted(column, key=lambda t: t.y) for edge in edges for column in _groups(texts, edge, 0.5)]


def _amount(text: str) -> float | None:
    bare = bare_number(text)
    value = None if bare is None else number(bare.replace("−", "-").replace("–", "-").replace(" ", ""))
    return None if value is None else float(value)


def is_year(text: str) -> bool:
    """Whether `text` is a year of 1800 to 2099, perhaps with a footnote's star: on an axis a label rather than an amount."""
    return _YEAR.fullmatch(text) is not None


def _year(t: Text) -> int:
    return int(t.text[:4])


def _scales(texts: Sequence[Text]) -> list[list[Text]]:
    """Rows and columns of numbers that grow evenly with their position, rightwards or upwards, in multiples of one step.

    Three numbers make a scale if 0 is among them, else four. Those that have a name in their row are values.
    """
    names = [t for t in texts if not is_value(t.text)]
    numbers = [t for t in texts if is_value(t.text) and not any(abs(name.y - t.y) < 0.3 * t.height for name in names)]
    rows = [(row, _x) for row in _rows(numbers)]
    columns = [(column, _up) for column in _columns(numbers)]
    found: list[list[Text]] = []
    for group, at in sorted([*rows, *columns], key=lambda entry: -len(entry[0])):
        even = _even([t for t in group if not any(t in scale for scale in found)], at)
        if len(even) >= (3 if any(_amount(t.text) == 0 for t in even) or all(is_year(t.text) for t in even) else 4):
            found.append(even)
    return found


def _within(value: Text, scales: Sequence[Sequence[Text]]) -> bool:
    """Whether `value` lies where the scales have room for it, give or take a step: signs read as digits often lie elsewhere."""
    for scale in scales:
        row = _is_row(scale)
        places = sorted(t.x if row else t.y for t in scale)
        step = (places[-1] - places[0]) / (len(places) - 1)
        if not places[0] - step <= (value.left if row else value.y) <= places[-1] + step:
            return False
    return True


def _is_row(scale: Sequence[Text]) -> bool:
    return abs(scale[0].y - scale[-1].y) < abs(scale[0].x - scale[-1].x)


def _x(t: Text) -> float:
    return t.x


def _up(t: Text) -> float:
    return -t.y


def _even(group: Sequence[Text], at: Callable[[Text], float]) -> list[Text]:
    """The members of `group` on the straight line of number against position, if these are nearly all; else none."""
    points = sorted((at(t), amount, k) for k, t in enumerate(group) if (amount := _amount(t.text)) is not None)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if a[0] != b[0]]
    if len(points) < 3 or not slopes or (slope := median(slopes)) <= 0:
        return []
    step = min((b[1] - a[1] for a, b in pairwise(points) if b[1] > a[1]), default=0.0)
    start = median(value - slope * place for place, value, _ in points)
    fitting = [k for place, value, k in points if abs(start + slope * place - value) <= 0.25 * step and _is_multiple(value, step)]
    return [group[k] for k in fitting] if len(fitting) >= 0.75 * len(points) else []


def _is_multiple(value: float, step: float) -> bool:
    return abs(value / step - round(value / step)) < 0.01


def _legend(texts: Sequence[Text], numbers: Sequence[Text]) -> list[Text]:
    """The row or column of names (or years) behind signs of different colours, at least two of which are those of values' marks.

    In a picture without values it is the largest such row or column.
    """
    named = [t for t in texts if _sign(t) and (not is_value(t.text) or is_year(t.text))]
    best: list[Text] = []
    most = 1
    for group in [*_rows(named), *_columns(named)]:
        if len({is_year(t.text) for t in group}) == 1 and all(
            _distance(_sign(a), _sign(b)) > SAME_COLOUR for a, b in combinations(group, 2)
        ):
            marked = [{id(near) for mark in _marks(v) if (near := _nearest(mark, group))} for v in numbers if v not in group]
            support = len(set().union(*marked)) if marked else len(group)
            if support > most:
                best, most = group, support
    for t in named:  # of a legend in several rows
        close = any(abs(t.y - entry.y) < 2.5 * entry.height for entry in best)
        if close and _is_words(t) and not is_year(best[0].text) and all(_distance(_sign(t), _sign(entry)) > SAME_COLOUR for entry in best):
            best = [*best, t]
    return best


def _sign(t: Text) -> Colour | None:
    """Colour of the sign of a legend entry, or of its letters if it has none."""
    return t.before or t.colour


def _marks(t: Text) -> list[Colour]:
    """The colours that the mark of a value may have."""
    return [t.colour] if t.colour else [mark for mark in (t.below, t.above, t.before) if mark]


def _nearest(colour: Colour, legend: Sequence[Text]) -> Text | None:
    """The legend entry of that colour."""
    entry = min(legend, key=lambda entry: _distance(colour, _sign(entry)), default=None)
    return entry if entry and _distance(colour, _sign(entry)) <= SAME_COLOUR else None


def _distance(a: Colour | None, b: Colour | None) -> float:
    return math.dist(a, b) if a and b else math.inf


def _label_axis(texts: Sequence[Text], values: Sequence[Text]) -> _Axis | None:
    """The row or column of labels with which most values line up; of rows with at least half as many, the nearest to the values."""
    upright = [t for t in texts if not t.turned]
    turned = _groups([t for t in texts if t.turned], lambda t: t.top, 0.3)
    rows = [_Axis(tuple(row), True) for row in [*_rows(upright), *turned]]
    scored = [(_fit(axis, values), axis) for axis in [*rows, *(_Axis(tuple(column), False) for column in _columns(upright))]]
    most, best = max(scored, key=lambda entry: entry[0], default=(0.0, None))
    if best is None or most < 0.6:
        return None
    rivals = [axis for score, axis in scored if axis.across and score >= 0.5 * most]
    return min(rivals, key=lambda axis: axis.gap(values)) if best.across else best


def _fit(axis: _Axis, values: Sequence[Text]) -> float:
    """How many labels have a value, each weighted by how well its nearest one is centred; amounts make poor labels, years do not."""
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
    """Each value in a slot of `axis` with its subject: the label, behind the name of the series if there are several."""
    slots = [(v, found[0]) for v in values if v not in axis.labels and axis.before(v) and (found := axis.slot(v))]
    slots = _without_strays(axis, slots) if not legend else slots
    heads = {} if legend else _heads(axis, [v for v, _ in slots], texts)
    pairs = []
    for value, label in slots:
        series = _series(value, legend, axis.across) or heads.get(id(value), "")
        pairs.append((value, f"{series} {_year_between(axis, value) or label.text}".strip()))
    return pairs


def _without_strays(axis: _Axis, slots: list[tuple[Text, Text]]) -> list[tuple[Text, Text]]:
    """If most labels have one value, none has more: only the nearest stays, as signs read as digits lie beyond the values."""
    counts = Counter(id(label) for _, label in slots)
    if not counts or median(counts.values()) > 1:
        return slots
    nearest: dict[int, tuple[float, Text, Text]] = {}
    for value, label in slots:
        away = abs(value.x - label.x) if axis.across else value.left - label.right
        if id(label) not in nearest or away < nearest[id(label)][0]:
            nearest[id(label)] = (away, value, label)
    return [(value, label) for _, value, label in nearest.values()]


def _series(value: Text, legend: Sequence[Text], across: bool) -> str:
    """The legend entry with the colour of the value's mark, or ""."""
    bars = (value.below, value.above, value.before) if across else (value.before, value.below, value.above)
    for colour in (value.colour,) if value.colour else bars:
        if colour and (entry := _nearest(colour, legend)):
            return entry.text
    return ""


def _heads(axis: _Axis, values: Sequence[Text], texts: Sequence[Text]) -> dict[int, str]:
    """The head of the column that each value of a table stands in, by the value's id(); empty unless there are two columns with heads."""
    if axis.across:
        return {}
    top = min(label.top for label in axis.labels)
    above = [t for t in texts if t.bottom <= top + 0.3 * t.height and (_is_words(t) or is_year(t.text))]
    heads: dict[int, str] = {}
    for column in _groups(values, lambda v: v.x, 0.8):
        x = mean(v.x for v in column)
        over = [t for t in above if t.left <= x <= t.right]
        if over:
            heads |= dict.fromkeys((id(v) for v in column), max(over, key=lambda t: t.bottom).text)
    return heads if len(set(heads.values())) > 1 else {}


def _year_between(axis: _Axis, value: Text) -> str:
    """The year at the place of `value` on an axis that names only every second year, or fewer; "" if it is not such an axis."""
    years = sorted((label for label in axis.labels if is_year(label.text)), key=axis.at)
    if len(years) < 3 or len(years) < len(axis.labels):
        return ""
    first, last = years[0], years[-1]
    rate = (_year(last) - _year(first)) / (axis.at(last) - axis.at(first))
    if abs(rate) * (axis.at(years[1]) - axis.at(first)) < 1.5:
        return ""
    exact = _year(first) + rate * (axis.at(value) - axis.at(first))
    return str(round(exact)) if abs(exact - round(exact)) < 0.25 else ""


def _neighbours(values: Sequence[Text], texts: Sequence[Text]) -> list[tuple[Text, str]]:
    """Values off the axis with the words directly above, below or beside them, as in a pie; a name takes its nearest value only."""

    def gap(value: Text, words: Text) -> float:
        across = max(words.left - value.right, value.left - words.right, 0.0)
        down = max(words.top - value.bottom, value.top - words.bottom, 0.0)
        return across + down

    near: dict[int, tuple[float, Text, Text]] = {}
    for value in values:
        words = min((t for t in texts if _is_words(t)), key=lambda t: gap(value, t), default=None)
        if words is not None and (distance := gap(value, words)) < value.height:
            near[id(words)] = min(near.get(id(words), (distance, value, words)), (distance, value, words), key=lambda entry: entry[0])
    return [(value, words.text) for _, value, words in near.values()]


def _roles(texts: Sequence[Text], used: set[int], ticks: Sequence[Text], legend: Sequence[Text], labels: Sequence[Text]) -> list[Fact]:
    """Facts on the texts that are no paired value: titles first, then legend, ticks and the rest, labels included."""
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
