"""Small inline SVG plots, drawn by matplotlib's object interface and coloured by the page's style sheet.

Colours are drawn as placeholders and replaced by CSS variables, so that one plot fits the light and the dark page; text stays text.
"""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from dyme.report.series import mean, smooth

PALETTE = ("c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8")
"""Colour variables of style.css."""
COUNTED = ("step", "visit", "prompts", "prompts seen")
"""Labels of axes that have whole numbers alone."""
POINTS = 300
"""Points by which a line is drawn, at most."""
_VARIABLES = ("ink", "quiet", "line", "panel", *PALETTE)
_SETTINGS = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True, slots=True)
class Line:
    """A named series, in one colour of the palette; `low` and `high` bound its intervals, if it has any."""

    label: str
    y: Sequence[float]
    colour: str
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    x: Sequence[float] = ()
    """The series' own x values, if the series of a plot do not share them."""
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Strip:
    """A row of points, by seed, with their mean and its interval."""

    label: str
    colour: str
    values: Mapping[str, float]
    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot for the page: its SVG, its caption, and a legend of (label, colour)."""

    caption: str
    svg: Markup
    legend: tuple[tuple[str, str], ...]
    note: str = ""
    """What it means, and which way is good, in a sentence."""


def lines(
    name: str,
    caption: str,
    x: Sequence[float],
    series: Sequence[Line],
    *,
    xlabel: str,
    percent: bool = False,
    note: str = "",
    most: int = POINTS,
) -> Plot:
    """Plot noisy series over a run: the raw values faint, a moving average on top. `x` is for series without their own x values.

    A series of more than `most` values is drawn by means over equal parts, so that the page stays small.
    """
    figure, axes = _axes(xlabel, percent)
    for line in series:
        at, y, even = (thinned(values, most) for values in (line.x or x, line.y, smooth(line.y)))
        axes.plot(at, y, color=_code(line.colour), linewidth=0.7, alpha=0.3)
        axes.plot(at, even, color=_code(line.colour), linewidth=1.6, linestyle=_dash(line), marker="o" if len(at) == 1 else None)
    _zero_based(axes, [v for line in series for v in line.y], percent)
    return _plot(name, caption, figure, series, note)


def areas(name: str, caption: str, x: Sequence[float], series: Sequence[Line], *, xlabel: str, note: str = "") -> Plot:
    """Plot shares that sum to 1, stacked: moving averages filled, the raw boundaries faint; many values as `lines` draws them."""
    figure, axes = _axes(xlabel, percent=True)
    x = [x[0] - 0.5, x[0] + 0.5] if len(x) == 1 else x
    stretched = [list(line.y) * (len(x) // len(line.y)) for line in series]
    even = [thinned(smooth(y), POINTS) for y in stretched]
    x, stretched = thinned(x, POINTS), [thinned(y, POINTS) for y in stretched]
    axes.stackplot(x, *even, colors=[_code(line.colour) for line in series], alpha=0.78, linewidth=0)
    raw = [0.0] * len(x)
    for y in stretched[:-1]:
        raw = [a + b for a, b in zip(raw, y, strict=True)]
        axes.plot(x, raw, color=_code("ink"), linewidth=0.5, alpha=0.25)
    axes.set_ylim(0, 1)
    axes.set_xlim(x[0], x[-1])
    return _plot(name, caption, figure, series, note)


def curves(name: str, caption: str, series: Sequence[Line], *, xlabel: str, percent: bool = True, note: str = "") -> Plot:
    """Plot a few measured points per series, with intervals if known, without smoothing."""
    figure, axes = _axes(xlabel, percent)
    for line in series:
        axes.plot(line.x, line.y, color=_code(line.colour), linewidth=1.3, linestyle=_dash(line), marker="o", markersize=3)
        if line.low and line.high:
            axes.fill_between(line.x, line.low, line.high, color=_code(line.colour), alpha=0.15, linewidth=0)
    _zero_based(axes, [v for line in series for v in (*line.y, *line.high)], percent)
    return _plot(name, caption, figure, series, note)


def strips(name: str, caption: str, rows: Sequence[Strip], *, paired: bool = False, points: bool = False) -> Plot:
    """Plot each value of each row as a point, from top to bottom, with the mean and its interval.

    With `paired`, values of the same key are joined from row to row; with `points`, values are differences in points around a zero line.
    """
    figure, axes = _axes("points" if points else "", percent=False, height=0.55 + 0.3 * len(rows))
    for key in dict.fromkeys(key for row in rows for key in row.values) if paired else ():
        at = [(row.values[key], place) for place, row in enumerate(rows) if key in row.values]
        axes.plot(*zip(*at, strict=True), color=_code("quiet"), linewidth=0.5, alpha=0.35)
    for place, row in enumerate(rows):
        axes.plot(
            [*row.values.values()], [place] * len(row.values), "o", color=_code(row.colour), markersize=3.2, alpha=0.7, markeredgewidth=0
        )
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place + 0.25] * 2, color=_code("ink"), linewidth=1.2)
        axes.plot([row.mean], [place + 0.25], "|", color=_code("ink"), markersize=8, markeredgewidth=1.6)
    if points:
        axes.axvline(0, color=_code("quiet"), linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x", color=_code("line"), linewidth=0.6)
    axes.grid(visible=False, axis="y")
    shown = (lambda x, _: f"{100 * x:+.0f}") if points else PercentFormatter(1, decimals=0)
    axes.xaxis.set_major_formatter(shown)
    said = "; ".join(_strip_in_words(row, points) for row in rows)
    return Plot(caption, _svg(figure, name, f"{caption}. {said}"), ())


def scatter(
    name: str, caption: str, series: Sequence[Line], *, xlabel: str, fit: tuple[float, float] | None = None, dots: bool = True
) -> Plot:
    """Plot differences in points over x around a zero line: as dots, or joined, with intervals if known; `fit`: slope and mean."""
    figure, axes = _axes(xlabel, percent=False)
    axes.axhline(0, color=_code("quiet"), linewidth=0.8)
    every = [x for line in series for x in line.x]
    apart = 0.012 * (max(every) - min(every))
    for k, line in enumerate(series):
        at = [x + apart * (k - (len(series) - 1) / 2) for x in line.x]  # beside each other, so that no interval hides another
        axes.plot(at, line.y, "o" if dots else "o-", color=_code(line.colour), markersize=3.2, linewidth=1.2, alpha=0.75)
        for x, low, high in zip(at, line.low, line.high, strict=bool(line.low)):
            axes.plot([x, x], [low, high], color=_code(line.colour), linewidth=0.8)
    if fit:
        slope, middle = fit
        mean = math.fsum(every) / len(every)
        ends = [min(every), max(every)]
        axes.plot(ends, [middle + slope * (x - mean) for x in ends], color=_code("ink"), linewidth=1.2, linestyle="--")
    axes.yaxis.set_major_formatter(lambda y, _: f"{100 * y:+.0f}")
    said = "; ".join(
        f"{line.label}: " + ", ".join(f"{100 * y:+.1f} points at {x:.3g}" for x, y in zip(line.x, line.y, strict=True)) for line in series
    )
    drawn = [line for line in series if len(series) > 1]
    return Plot(caption, _svg(figure, name, f"{caption}. {said}"), tuple((line.label, line.colour) for line in drawn))


def _strip_in_words(row: Strip, points: bool) -> str:
    unit = "points" if points else "%"
    ends = "" if row.low is None or row.high is None else f", interval {100 * row.low:.1f} to {100 * row.high:.1f}"
    return f"{row.label}: mean {100 * row.mean:.1f} {unit}{ends}, {len(row.values)} seeds"


def _axes(xlabel: str, percent: bool, height: float = 2.15) -> tuple[Figure, Any]:
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=(4.4, height), layout="constrained")
        axes = figure.add_subplot()
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    axes.grid(visible=True, axis="y", color=_code("line"), linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel(xlabel, color=_code("quiet"))
    for spine in axes.spines.values():
        spine.set_edgecolor(_code("line"))
    axes.tick_params(color=_code("line"), labelcolor=_code("quiet"), length=3)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=xlabel in COUNTED))
    axes.yaxis.set_major_locator(MaxNLocator(5))
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure, axes


def _zero_based(axes: Any, values: Sequence[float], percent: bool) -> None:
    finite = [v for v in values if math.isfinite(v)]
    if finite and min(finite) >= 0:
        top = max(finite) * 1.05
        axes.set_ylim(0, min(top, 1.02) if percent else top) if top else axes.set_ylim(0, 1)


def thinned(values: Sequence[float], most: int) -> list[float]:
    """Return at most `most` values: means over equal parts of the series."""
    part = -(-len(values) // most)
    return list(values) if part < 2 else [mean(values[k : k + part]) for k in range(0, len(values), part)]


def _dash(line: Line) -> str:
    return "--" if line.dashed else "-"


def _plot(name: str, caption: str, figure: Figure, series: Sequence[Line], note: str) -> Plot:
    said = "; ".join(_in_words(line) for line in series)
    legend = tuple((s.label, f"{s.colour} dashed" if s.dashed else s.colour) for s in series)
    return Plot(caption, _svg(figure, name, f"{caption}. {said}" if said else caption), legend, note)


def _in_words(line: Line) -> str:
    finite = [v for v in smooth(line.y) if math.isfinite(v)]
    return f"{line.label}: from {finite[0]:.3g} to {finite[-1]:.3g}" if finite else f"{line.label}: no values"


def _svg(figure: Figure, name: str, description: str) -> Markup:
    buffer = io.StringIO()
    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": name}):
        FigureCanvasSVG(figure).print_svg(buffer, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    view = re.search(r'viewBox="([^"]*)"', text)
    assert view, "matplotlib's SVG has a viewBox"
    body = text[text.index(">") + 1 :]
    body = re.sub(r"<style[^<]*</style>", "", body).replace("xlink:href", "href")
    body = re.sub(r'\bid="|(?<=href=")#|(?<=url\()#', lambda m: f"{m[0]}{name}-", body)  # so that ids are unique on the page
    for variable in _VARIABLES:
        body = body.replace(_code(variable), f"var(--{variable})")
    return Markup(f'<svg viewBox="{view[1]}" role="img" aria-label="{html.escape(description)}">{body}')


def _code(variable: str) -> str:
    """Return the placeholder colour of a CSS variable."""
    return f"#0b{_VARIABLES.index(variable):02x}e7"


def colours(names: Sequence[str]) -> Mapping[str, str]:
    """Return a colour for each distinct name, in order; after the palette's last colour it starts again."""
    return {name: PALETTE[k % len(PALETTE)] for k, name in enumerate(dict.fromkeys(names))}


def colours_apart(groups: Sequence[Sequence[str]]) -> Mapping[str, str]:
    """Return a colour for each name, one throughout, such that names of a group differ while the palette has enough colours."""
    names = list(dict.fromkeys(name for group in groups for name in group))
    beside = {name: {other for group in groups if name in group for other in group} for name in names}
    found: dict[str, str] = {}
    for name in sorted(names, key=lambda name: -sum(name in group for group in groups)):
        taken, used = {found.get(other) for other in beside[name]}, [*found.values()]
        found[name] = min(PALETTE, key=lambda colour: (colour in taken, used.count(colour)))
    return found
