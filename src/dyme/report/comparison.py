"""One self-contained page that sets methods side by side, from the JSON file of a comparison."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dyme.errors import DataError
from dyme.plugins import label
from dyme.report.plots import Line, Plot, bars, colours, lines
from dyme.report.render import OTHER, measured, rank, render, words
from dyme.report.series import mean

_COLUMNS = ("seed", "prompts", "seconds", "learning_rate")
_TABLE = {
    "think_accuracy": "accuracy, thinking (%)", "direct_accuracy": "accuracy, direct (%)", "pass_at_8": "pass@8 (%)",
    "true_statements": "true statements (%)", "format_rate": "format (%)", "mean_length": "length (tokens)",
}  # fmt: skip
"""Columns of the Markdown table."""
_ANY = "any"
"""Traces of a method that reads none."""


def write_comparison(results: Path, out: Path) -> Path:
    """Write the page about the comparison in the JSON file `results` to `out` and return its path; missing keys are left out.

    Raises DataError if the file is not a comparison.
    """
    try:
        data = json.loads(results.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{results}: cannot be read as a comparison ({error})") from error
    if not isinstance(data, dict) or not (data.get("rows") or data.get("summary")):
        raise DataError(f"{results} is not a comparison: it has neither rows nor a summary")
    rows = data.get("rows") or []
    summary = data.get("summary") or _summarize(rows)
    names = _names([*summary, *rows])
    rates = sorted({column for row in rows for column in row if column.endswith("_learning_rate")})
    columns = [column for column in (*_COLUMNS, *rates) if any(row.get(column) is not None for row in rows)]
    palette = colours([_method(row) for row in _shortened([*summary, *rows])])
    return render(
        "comparison.html.jinja",
        out,
        title=data.get("title") or "Methods compared",
        command=data.get("command"),
        hardware=data.get("hardware"),
        versions={key: value for key, value in (data.get("versions") or {}).items() if key != "command"},
        names=[(name, words(name)) for name in names],
        columns=[words(column) for column in columns],
        summary=[_cells(row, names) for row in summary],
        rows=[{**_cells(row, names, columns), "link": _link(row.get("run"), results, out)} for row in rows],
        several=len({_traces(row) for row in [*summary, *rows]}) > 1,
        plots=[*_bars(_shortened(summary), names, palette), *_curves(_shortened(rows), palette)],
    )


def write_table(results: Path, out: Path) -> Path:
    """Write the comparison's summary as a Markdown table, a line per method, with the command and the grid below it."""
    data = json.loads(results.read_text(encoding="utf-8"))
    names = [name for name in _TABLE if any(name in row["metrics"] for row in data["summary"])]
    lines = ["| method | traces | seeds | " + " | ".join(_TABLE[name] for name in names) + " |", "|---" * (3 + len(names)) + "|"]
    for row in data["summary"]:
        cells = [_cell(name, row["metrics"].get(name)) for name in names]
        seeds = max((f.get("seeds", 1) for f in row["metrics"].values()), default=1)
        lines.append(f"| {row['method'].replace('+', ' + ')} | {row['traces']} | {seeds} | " + " | ".join(cells) + " |")
    lines += ["", "Means over the seeds, 95 % intervals in brackets.", "", f"    {data['command']}", ""]
    lines += [f"Learning rates: {', '.join(f'{name} {rate[0]:g}' for name, rate in data['learning_rates'].items())}.", ""]
    if data["validation"]:
        lines += ["Validation accuracy of the grid, first seed:", ""]
        lines += [f"- {name}: {value:.3f}" for name, value in data["validation"].items()]
    out.write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")
    return out


def _cell(name: str, found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    if not found.get("n", 1):
        return "-"
    scale, digits = (1, 1) if name == "mean_length" else (100, 1)
    value, low, high = (f"{scale * float(found[key]):.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def _method(row: Mapping[str, Any]) -> str:
    return str(row.get("method", "unknown"))


def _traces(row: Mapping[str, Any]) -> str:
    return str(row.get("traces") or "")


def _metrics(row: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: measured(metric) for name, metric in (row.get("metrics") or {}).items()}


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return every metric's name, the accuracies first."""
    return sorted(dict.fromkeys(name for row in rows for name in _metrics(row)), key=rank)


def _cells(row: Mapping[str, Any], names: Sequence[str], columns: Sequence[str] = ()) -> dict[str, Any]:
    metrics = _metrics(row)
    seeds = next((m["seeds"] for m in metrics.values() if m.get("seeds")), None)
    return {
        "method": _method(row),
        "traces": _traces(row),
        "columns": [row.get(column) for column in columns],
        "cells": [(name, metrics.get(name, measured(None))) for name in names],
        "seeds": seeds,
        "run": row.get("run"),
    }


def _summarize(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return means over seeds, for a file without a summary; with an interval only if there is one seed."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((_method(row), _traces(row)), []).append(row)
    out = []
    for (method, traces), members in groups.items():
        metrics = {}
        for name in _names(members):
            found = [_metrics(row)[name] for row in members if name in _metrics(row)]
            values = [float(m["value"]) for m in found if m["value"] is not None]
            metrics[name] = found[0] if len(found) == 1 else {"value": mean(values) if values else None, "seeds": len(values)}
        out.append({"method": method, "traces": traces, "metrics": metrics})
    return out


def _bars(summary: Sequence[Mapping[str, Any]], names: Sequence[str], palette: Mapping[str, str]) -> list[Plot]:
    """Return a bar chart of each accuracy, or of the first metric if there is no accuracy."""
    out = []
    for k, name in enumerate([n for n in names if rank(n) < OTHER] or names[:1]):
        found = [(row, metric) for row in summary if (metric := _metrics(row).get(name)) and metric["value"] is not None]
        values = [(_label(row), palette[_method(row)], float(m["value"]), m.get("low"), m.get("high")) for row, m in found]
        if values:
            percent = all(0 <= value[2] <= 1 for value in values)
            out.append(bars(f"bars{k}", f"{words(name)}, 95 % intervals".capitalize(), values, percent=percent))
    return out


def _shortened(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the rows with the methods' settings left out of their names, except where only the settings distinguish two methods."""
    full = dict.fromkeys(map(_method, rows))
    bare = [label(name.partition("+")[0]) for name in full]
    names = {name: short if bare.count(short) == 1 else name.replace("+", " ") for name, short in zip(full, bare, strict=True)}
    return [{**row, "method": names[_method(row)]} for row in rows]


def _label(row: Mapping[str, Any]) -> str:
    label = " · ".join(part for part in (_method(row), _traces(row)) if part not in ("", _ANY))
    return label if len(label) <= 28 else label[:27] + "…"


def _curves(rows: Sequence[Mapping[str, Any]], palette: Mapping[str, str]) -> list[Plot]:
    """Return plots of accuracy over prompts for each trace quality, with one line per method: the mean over its seeds."""
    qualities = list(dict.fromkeys(_traces(row) for row in rows if _traces(row) != _ANY)) or [_ANY]
    out = []
    for k, traces in enumerate(qualities):
        shown = [row for row in rows if _traces(row) in (traces, _ANY)]
        series = [line for method, colour in palette.items() if (line := _curve(method, colour, shown))]
        if series:
            caption = "Accuracy of sampled completions" + (f", {traces} traces" if traces not in ("", _ANY) else "")
            out.append(lines(f"curve{k}", caption, (), series, xlabel="prompts seen", percent=True))
    return out


def _curve(method: str, colour: str, rows: Sequence[Mapping[str, Any]]) -> Line | None:
    points: dict[float, list[float]] = {}
    for row in rows:
        for at, value in (row.get("curve") or ()) if _method(row) == method else ():
            points.setdefault(float(at), []).append(math.nan if value is None else float(value))
    x = sorted(points)
    return Line(method, [mean(points[at]) for at in x], colour, x=x) if x else None


def _link(run: object, results: Path, out: Path) -> str | None:
    """Return the address of a run's own page relative to `out`, if there is such a page below the folder of `results`, else None."""
    if not isinstance(run, str) or not run or "\0" in run:
        return None
    here, page = results.resolve().parent, (results.parent / run / "report.html").resolve()
    if not (page.is_file() and page.is_relative_to(here) and page.is_relative_to(out.resolve().parent)):
        return None
    return "./" + quote(page.relative_to(out.resolve().parent).as_posix())
