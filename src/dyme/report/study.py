"""One self-contained page on a study, from its figures alone: what it means, every seed as a point, tests, tuning, the map of regimes."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dyme.report.plots import PALETTE, Line, Plot, Strip, colours_apart, curves, lines, scatter, strips
from dyme.report.render import render

Row = Mapping[str, Any]
METRICS = {
    "think_accuracy": "accuracy", "direct_accuracy": "direct", "pass_at_8": "pass@8", "true_statements": "true statements",
    "format_rate": "format",
}  # fmt: skip
"""Metrics of a block's table, each with its head."""
ROLES = {"primary": "primary", "then": "if a primary one holds", "exploratory": "exploratory"}
_LONGEST = 30
"""Most characters of a label in a plot."""
_MOST_SETTINGS = 6


def write_page(study: Row, out: Path) -> Path:
    """Write the page on a study's figures to `out` and return that path."""
    palette = colours_apart([
        _mapped(study["regimes"]), *([arm["label"] for arm in block["arms"]] for block in study["blocks"]),
        *([arm["label"]] for arm in study["arms"].values()),
    ])  # fmt: skip
    return render(
        "study.html.jinja",
        out,
        title=study.get("title") or "Methods compared",
        study=study,
        facts=facts(study),
        sentences=study["sentences"],
        blocks=[_block(k, block, study, palette) for k, block in enumerate(study["blocks"])],
        predictions=[_prediction(k, found) for k, found in enumerate(study["predictions"])],
        regimes=study["regimes"],
        regime_plots=regime_plots(study["regimes"], palette),
        tuning=study["tuning"],
        roles=ROLES,
        percent=percent,
        points=points,
        p_value=p_value,
        settings=settings,
        share=share,
    )


def facts(study: Row) -> list[tuple[str, str]]:
    """Return what the page's head says of a study."""
    found = [("recipe", study.get("recipe")), ("budget", study.get("budget")), ("cells done", str(study["cells"]))]
    return [(name, str(value)) for name, value in found if value]


def percent(figure: Row | None) -> str:
    """Return a share with its interval in percent, "–" without one."""
    if not figure or figure.get("value") is None or not figure.get("n", 1):
        return "–"
    ends = "" if figure.get("low") is None else f" [{100 * figure['low']:.1f}, {100 * figure['high']:.1f}]"
    return f"{100 * figure['value']:.1f}{ends}"


def share(value: float | None) -> str:
    """Return a share in percent, "–" without one."""
    return "–" if value is None else f"{100 * value:.1f}"


def points(found: Row | None) -> str:
    """Return a difference with its interval in points, "–" without one."""
    if not found or found.get("mean") is None:
        return "–"
    ends = "" if found.get("low") is None else f" [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
    return f"{100 * found['mean']:+.1f}{ends}".replace("-", "\u2212")


def p_value(p: float | None) -> str:
    """Return a p value to three places, "–" without one."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def settings(found: Row | None) -> str:
    """Return settings in a line."""
    return ", ".join(f"{name} = {_number(value)}" for name, value in (found or {}).items())


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(label: str) -> str:
    return label if len(label) <= _LONGEST else label[: _LONGEST - 1] + "…"


def _named(one: Row, several: bool) -> str:
    """Return an arm's label, with its condition where a block has several."""
    return f"{one['label']} · {one['condition']}" if several and one["condition"] else str(one["label"])


def _block(k: int, block: Row, study: Row, palette: Mapping[str, str]) -> dict[str, Any]:
    """Return a block with its plots."""
    several = len(block["conditions"]) > 1
    plots = []
    if block["arms"]:
        rows = [
            Strip(_short(_named(arm, several)), palette[arm["label"]], arm["values"], *_ends(arm["metrics"].get("think_accuracy")))
            for arm in block["arms"]
        ]
        plots.append(strips(f"points{k}", "Accuracy, every seed a point; lines join a seed", rows, paired=True))
    if block["pairs"]:
        rows = [
            Strip(
                _short(f"{pair['labels'][0]} − {pair['labels'][1]}" + (f" · {pair['condition']}" if several and pair["condition"] else "")),
                palette[pair["labels"][0]], dict(zip(map(str, pair["seeds"]), pair["differences"], strict=True)),
                pair["mean"], pair["low"], pair["high"],
            )
            for pair in block["pairs"]
        ]  # fmt: skip
        plots.append(strips(f"pairs{k}", "Differences at the same seed, in points", rows, points=True))
    shown = {name: label for name, label in METRICS.items() if any(name in arm["metrics"] for arm in block["arms"])}
    return {
        **block,
        "several": several,
        "metrics": shown,
        "plots": [*plots, *settings_plots(k, block, study, palette), *_courses(k, block, palette)],
    }


def _ends(metric: Row | None) -> tuple[float, float | None, float | None]:
    found = metric or {}
    return found.get("value", math.nan), found.get("low"), found.get("high")


def axes(block: Row, study: Row) -> dict[str, list[tuple[Row, float]]]:
    """Return the numeric settings that differ over a block's conditions, or over arms of one method, each with (arm's figures, value)."""
    out: dict[str, list[tuple[Row, float]]] = {}
    layers = {condition["name"]: condition["settings"] for condition in block["conditions"]}
    for arm in block["arms"]:
        own = study["arms"].get(arm["arm"], {})
        fixed = {} if own.get("tuned_as") else own.get("settings") or {}
        for name, value in {**fixed, **layers.get(arm["condition"], {})}.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and not name.endswith("learning_rate"):
                out.setdefault(name, []).append((arm, float(value)))
    return {name: found for name, found in out.items() if len({value for _, value in found}) > 1}


def settings_plots(k: int, block: Row, study: Row, palette: Mapping[str, str]) -> list[Plot]:
    """Return a plot of accuracy over each numeric setting that a block varies; a line joins arms of one method that differ in it alone."""
    out = []
    for n, (name, found) in enumerate([*axes(block, study).items()][:_MOST_SETTINGS]):
        groups: dict[str, list[tuple[float, Row]]] = {}
        for arm, value in found:
            others = {key: own for key, own in arm["settings"].items() if key != name}
            groups.setdefault(json.dumps([arm["method"], others], sort_keys=True), []).append((value, arm))
        series = []
        for members in groups.values():
            ordered = sorted(members, key=lambda pair: pair[0])
            ends = [_ends(arm["metrics"].get("think_accuracy")) for _, arm in ordered]
            low, high = ([math.nan if end[side] is None else float(end[side]) for end in ends] for side in (1, 2))  # type: ignore[arg-type]
            first = ordered[0][1]["label"]
            series.append(Line(first, [end[0] for end in ends], palette[first], low, high, [value for value, _ in ordered]))
        if any(len(set(line.x)) > 1 for line in series):
            out.append(curves(f"setting{k}-{n}", f"Accuracy over {name}", series, xlabel=name))
    return out


def _courses(k: int, block: Row, palette: Mapping[str, str]) -> list[Plot]:
    """Return plots of sampled accuracy over prompts and over tokens, of a block with one condition."""
    if len(block["conditions"]) > 1:
        return []
    out = []
    for name, columns in (("prompts", (0,)), ("sampled and trained tokens", (2, 3))):
        series = []
        for arm in block["arms"]:
            kept = [row for row in arm["curve"] if row[4] is not None]
            if len(kept) > 1:
                x = [math.fsum(row[c] or 0.0 for c in columns) for row in kept]
                series.append(Line(arm["label"], [row[4] for row in kept], palette[arm["label"]], x=x))
        if series:
            out.append(
                lines(f"course{k}-{columns[0]}", f"Accuracy of sampled completions over {name}", (), series, xlabel=name, percent=True)
            )
    return out


def _prediction(k: int, found: Row) -> dict[str, Any]:
    """Return a prediction with its plot."""
    if not found["points"]:
        return {**found, "plot": None}
    passed = " and ".join(name.replace("pass_at_", "pass@") for name in found["along"])
    on = f"log odds of the base's {passed}, by question type" if found["on"].startswith("pass_at_") else found["on"]
    y = [point["gain"] for point in found["points"]]
    series = [Line("each seed", y, "c1", x=[point["x"] for point in found["points"]])]
    fit = (found["slope"]["value"], math.fsum(y) / len(y)) if found["slope"] else None
    caption = f"{found['name']}: {found['labels'][0]} − {found['labels'][1]}, in points"
    return {**found, "plot": scatter(f"prediction{k}", caption, series, xlabel=on, fit=fit)}


def regime_plots(regimes: Sequence[Row], palette: Mapping[str, str]) -> list[Plot]:
    """Return the map of regimes as plots: gains over the base and over the best rival, against the base's pass@K and the traces' noise.

    Against the noise stand the conditions that differ from the first in nothing else.
    """
    out, shown = [], _mapped(regimes)
    every = len({arm["label"] for regime in regimes for arm in regime["arms"]})
    part = f"; {len(shown)} of {every} arms" if len(shown) < every else ""
    alike = [regime for regime in regimes if _but_noise(regime) == _but_noise(regimes[0])]
    for key, gain in (("over_base", "over the base"), ("over_rival", "over the best rival")):
        by_kind: dict[str, list[tuple[float, Row]]] = {}
        by_noise: dict[str, list[tuple[float, Row]]] = {}
        names = {regime["passed"].replace("pass_at_", "pass@") for regime in regimes if regime["passed"]}
        for regime in regimes:
            for arm in (arm for arm in regime["arms"] if arm["label"] in shown):
                passed = regime["passed_by_kind"]
                by_kind.setdefault(arm["label"], []).extend(
                    (passed[kind], found[key]) for kind, found in arm["strata"].items() if kind in passed and found[key]["mean"] is not None
                )
                if regime in alike and regime["misread"] is not None and arm[key]["mean"] is not None:
                    by_noise.setdefault(arm["label"], []).append((float(regime["misread"]), arm[key]))
        named = (
            ("passed", by_kind, f"the base's {' and '.join(sorted(names))} by question type", True),
            ("noise", by_noise, "misread values in the traces", False),
        )
        for name, groups, xlabel, dots in named:
            series = [_gains(label, found, palette[label]) for label, found in groups.items() if found]
            if series and len({x for line in series for x in line.x}) > 1:
                out.append(
                    scatter(f"regime-{key}-{name}", f"Gain {gain}, in points, over {xlabel}{part}", series, xlabel=xlabel, dots=dots)
                )
    return out


def _mapped(regimes: Sequence[Row]) -> list[str]:
    """Return the labels of the arms in the map's plots, those of most conditions, at most as many as there are colours."""
    count = Counter(arm["label"] for regime in regimes for arm in regime["arms"])
    return [label for label, _ in count.most_common(len(PALETTE))]


def _but_noise(regime: Row) -> Row:
    return {name: value for name, value in regime["settings"].items() if name != "task.misread"}


def _gains(label: str, found: Iterable[tuple[float, Row]], colour: str) -> Line:
    ordered = sorted(found, key=lambda pair: pair[0])
    known = all(figure["low"] is not None for _, figure in ordered)
    low, high = ([float(figure[side]) for _, figure in ordered] if known else [] for side in ("low", "high"))
    return Line(label, [figure["mean"] for _, figure in ordered], colour, low, high, [x for x, _ in ordered])
