"""One self-contained page about a run: figures, evaluations, plots, and a browser of samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dyme import plugins
from dyme.report import meanings, samples, supervised
from dyme.report.paths import Paths
from dyme.report.plots import Line, Plot, areas, colours, curves, lines
from dyme.report.render import MODE_COLOURS, OTHER, figure, interval, measured, questions, rank, render, script, script_json, words
from dyme.report.series import MODES, StepTotals, duration, ends, passed, prompts_seen, totals
from dyme.supervise import flips
from dyme.tracking.run_folder import RunFolder
from dyme.types import StepRecord

_EXAMPLES = 24
_EXAMPLE_BYTES = 500_000
"""Bytes of the pictures of all examples of evaluations, at most."""
_MOST_FIGURES = 36
_SMALL = 80
"""Points by which a line of a small plot is drawn, at most."""
_BREAKDOWNS = {"by_kind": "kind of question", "by_answer_kind": "kind of answer"}


class Tile(NamedTuple):
    """One figure of the summary row."""

    label: str
    value: str
    note: str = ""
    meaning: str = ""


def write_page(run: Path, out: Path | None = None) -> Path:
    """Write the page about the run folder `run` to `out` (report.html in the folder) and return its path.

    Works on a run that is still training, or that never rolled out. Raises RunError if `run` is not a run folder.
    """
    folder = RunFolder.open(run)
    settings, records, evaluations = folder.settings(), folder.steps(), folder.evaluations()
    paths, pictured = Paths(), Counter[int]()
    steps = totals(passed(folder.rollouts(), paths.add, lambda row: pictured.update({row["step"]: samples.has_picture(folder, row)})))
    prompts = prompts_seen(records, steps)
    latest = {row["name"]: row for row in sorted(evaluations, key=lambda row: row["name"] != "test")}
    payload = samples.choose(folder, pictured, sum(s.groups for s in steps), {path.id for path in paths.chosen()})
    supervision = settings.get("supervision", {})
    rate = supervision.get("flip")
    browser, source = script("browser.js")
    return render(
        "page.html.jinja",
        out or folder.path / "report.html",
        alarm=flips.warning(rate if isinstance(rate, int | float) else 0),
        title=f"{_method(folder, settings)} on {plugins.label(_setting(settings, 'task', 'name'))}",
        subtitle=_subtitle(settings),
        tiles=[*_tiles(records, steps, prompts, latest), *_best(folder)],
        evaluations=_evaluations(folder, latest.values()),
        metrics=_metrics([*latest.values()]),
        plots=_plots(records, steps, prompts, evaluations),
        figures=_figures(records, prompts),
        paths=paths.section(one["id"] for one in payload["groups"]),
        settings=settings,
        versions=folder.versions(),
        events=folder.events(),
        cache=supervised.cache_line(supervision, records[-1].metrics if records else {}),
        payload=payload,
        samples=script_json(payload),
        script=browser,
        script_source=source,
    )


def _setting(settings: Mapping[str, Any], section: str, key: str) -> str:
    return str(settings.get(section, {}).get(key, "unknown"))


def _method(folder: RunFolder, settings: Mapping[str, Any]) -> str:
    """Return the method's own name, if the run recorded it, else the name in the settings."""
    recorded = folder.versions().get("method")
    return (
        str(recorded["name"])
        if isinstance(recorded, Mapping) and "name" in recorded
        else plugins.label(_setting(settings, "method", "name"))
    )


def _subtitle(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    named = [("method", "method", "name"), ("model", "model", "path"), ("task", "task", "name"), ("traces", "task", "traces")]
    return [(label, _setting(settings, *keys)) for label, *keys in (*named, ("seed", "run", "seed"))]


def _tiles(
    records: Sequence[StepRecord], steps: Sequence[StepTotals], prompts: Mapping[int, float], latest: Mapping[str, Mapping[str, Any]]
) -> list[Tile]:
    tiles = []
    shown = next(iter(latest.values()), {})
    for name, label, meaning, [metric] in _metrics([shown])[:2]:
        tiles.append(Tile(f"{label}, {shown['name']}", figure(name, metric["value"]), interval(name, metric), meaning))
    for label, name, meaning in (
        ("sampled accuracy", "accuracy", "accuracy"), ("in the asked format", "parsed", "format_rate"), ("reward", "reward", "reward"),
        ("tokens", "tokens", "completion_length"),
    ):  # fmt: skip
        tiles += _change(label, name, [s.mean(name) for s in steps], meaning)
    tiles += _change("memorize", "memorize", [s.share("memorize") for s in steps], "share_memorize")
    helped = {name: sum(r.metrics.get(name, 0.0) for r in records) for name in ("checked_groups", "refined_targets", "helper_failures")}
    if any(helped.values()):
        done = helped["checked_groups"] + helped["refined_targets"]
        failed = f"{helped['helper_failures']:,.0f} failed"
        tiles.append(Tile("helped groups", f"{done:,.0f}", failed, "Prompts graded or refined by a helper."))
    tiles += _share(records, "targets by the policy", "self_accepted", "self_asked", "accepted", meanings.recorded("self_accepted"))
    if any("flipped_grades" in record.metrics for record in records):
        meaning = meanings.recorded("flipped_grades")
        tiles += _share(records, "flipped grades", "flipped_grades", "graded_traces", "flipped on purpose", meaning)
    skipped = {cause: sum(r.metrics.get(f"steps_skipped_{cause}", 0.0) for r in records) for cause in ("nonfinite", "overflow")}
    if any(skipped.values()):
        causes = f"{skipped['nonfinite']:,.0f} not finite, {skipped['overflow']:,.0f} beyond float16"
        tiles.append(Tile("skipped steps", f"{sum(skipped.values()):,.0f}", causes, "Updates that were left out; none is good."))
    if prompts:
        tiles.append(Tile("prompts seen", f"{max(prompts.values()):,.0f}", f"{len(prompts):,} steps", "Repeated prompts count again."))
    if records:
        seconds = records[-1].seconds
        tiles.append(Tile("training time", duration(seconds), f"{seconds / len(records):.2f} s a step", "Without loading and evaluation."))
    return tiles


def _share(records: Sequence[StepRecord], label: str, part: str, whole: str, note: str, meaning: str) -> list[Tile]:
    """Return a tile for the share of one count in another over all steps, unless the other is 0."""
    some, every = (sum(record.metrics.get(name, 0.0) for record in records) for name in (part, whole))
    return [Tile(label, f"{100 * some / every:.1f} %", f"{some:,.0f} of {every:,.0f} {note}", meaning)] if every else []


def _best(folder: RunFolder) -> list[Tile]:
    """Return a tile for the best checkpoint, if it is kept."""
    best = folder.best()
    if not best:
        return []
    value = figure(best["metric"], best["value"])
    return [Tile(f"best {words(best['metric'])}", value, f"step {best['step']}, kept", "Of the evaluations while training.")]


def _change(label: str, name: str, values: Sequence[float], meaning: str) -> list[Tile]:
    first, last = ends(values) if values else (math.nan, math.nan)
    return [] if math.isnan(last) else [Tile(label, figure(name, last), f"at first {figure(name, first)}", meanings.recorded(meaning))]


def _evaluations(run: RunFolder, rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the evaluations as shown; once the pictures of their examples are too many, the others go without."""
    left, found = _EXAMPLE_BYTES, []
    for row in rows:
        examples = []
        for example in (row.get("examples") or [])[:_EXAMPLES]:
            picture = samples.picture(run, example.get("image")) or ""
            left -= len(picture)
            examples.append({**example, "picture": picture if left >= 0 else None})
        parts = [(label, *_breakdown(row[key])) for key, label in _BREAKDOWNS.items() if row.get(key)]
        found.append({"name": row["name"], "step": row["step"], "n": questions(row), "breakdowns": parts, "examples": examples})
    return found


def _breakdown(parts: Mapping[str, Any]) -> tuple[list[tuple[str, str]], dict[str, list[tuple[str, dict[str, Any]]]]]:
    """Return (name, label) of the metrics of a breakdown, and the metrics of each part."""
    kinds = {kind: m if isinstance(m, Mapping) and "value" not in m else {"accuracy": m} for kind, m in parts.items()}
    names = sorted({name: None for metrics in kinds.values() for name in metrics}, key=rank)
    return [(name, words(name)) for name in names], {kind: [(n, measured(m.get(n))) for n in names] for kind, m in kinds.items()}


def _metrics(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str, list[dict[str, Any]]]]:
    """Return (name, label, meaning, the metric in each evaluation) of every metric, the accuracies first."""
    found = [row.get("metrics", {}) for row in rows]
    names = sorted({name: None for own in found for name in own}, key=rank)
    return [(name, words(name), meanings.evaluated(name), [measured(own.get(name)) for own in found]) for name in names]


def _plots(
    records: Sequence[StepRecord], steps: Sequence[StepTotals], prompts: Mapping[int, float], evaluations: Iterable[Mapping[str, Any]]
) -> list[Plot]:
    x = [prompts[s.step] for s in steps]

    def means(*named: tuple[str, str, str]) -> list[Line]:
        return [line for line in (Line(label, [s.mean(name) for s in steps], c) for label, name, c in named) if _any_finite(line.y)]

    out = []
    if accuracy := means(("a completion is right", "accuracy", "c1"), ("any of its group is right", "any_right", "c2")):
        note = "How often the model is right on training prompts. Good: both lines rise."
        out.append(lines("accuracy", "Accuracy of sampled completions", x, accuracy, xlabel="prompts seen", percent=True, note=note))
    parts = sorted({name for s in steps for name in s.sums if name.startswith("reward/")})
    palette = colours(["reward", *parts])
    if reward := means(("reward", "reward", palette["reward"]), *((p.removeprefix("reward/"), p, palette[p]) for p in parts)):
        note = "What exploring aims at, and what it is made of. Good: all lines rise; a reward that rises without accuracy is being gamed."
        out.append(lines("reward", "Reward and its parts, before weighting", x, reward, xlabel="prompts seen", note=note))
    if steps:
        shares = [Line(mode, [s.share(mode) for s in steps], MODE_COLOURS[mode]) for mode in MODES]
        present = [line for line in shares if any(line.y)]
        note = "What was done with each step's prompts. Good under DyME: memorize shrinks as prompts are solved."
        out.append(areas("modes", "Share of prompts by mode", [float(s.step) for s in steps], present, xlabel="step", note=note))
    pulled = [r for r in records if "gradient_memorize" in r.metrics]
    terms = [Line(mode, [r.metrics[f"gradient_{mode}"] for r in pulled], MODE_COLOURS[mode]) for mode in ("memorize", "explore")]
    if all(any(line.y) for line in terms):
        note = "Which of the two moves the model. Neither way is good in itself; one that is near 0 % has no say."
        out.append(areas("gradient", "Share of the gradient by term", [float(r.step) for r in pulled], terms, xlabel="step", note=note))
    if length := means(("tokens", "tokens", "c1")):
        note = "Shorter is cheaper. Bad: a climb to the longest length allowed, or a fall to a few tokens, which is an end of thinking."
        out.append(lines("length", "Length of completions, tokens", x, length, xlabel="prompts seen", note=note))
    if parsed := means(("in the asked format", "parsed", "c3")):
        note = "Thinking, marker and one answer, as asked. Good: near 100 %; anything else counts as wrong."
        out.append(lines("format", "Completions in the asked format", x, parsed, xlabel="prompts seen", percent=True, note=note))
    return _courses(evaluations, prompts) + out


def _courses(evaluations: Iterable[Mapping[str, Any]], prompts: Mapping[int, float]) -> list[Plot]:
    """Return one plot for each evaluation that was made after more than one step."""
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for row in evaluations:
        rows.setdefault(row["name"], []).append(row)
    out = []
    for k, (name, points) in enumerate(rows.items()):
        metrics = sorted({m for row in points for m in row.get("metrics", {}) if rank(m) < OTHER}, key=lambda m: (rank(m), m))
        series = [_course(metric, points, prompts, colour) for metric, colour in colours(metrics).items()]
        series = [line for line in series if _any_finite(line.y)]
        if series and len({row["step"] for row in points}) > 1:
            note = "On questions that are not trained on, with 95 % intervals. Good: a rise that has not ended."
            out.append(curves(f"evaluation{k}", f"Evaluation: {name}", series, xlabel="prompts seen", note=note))
    return out


def _course(metric: str, points: Sequence[Mapping[str, Any]], prompts: Mapping[int, float], colour: str) -> Line:
    found = [(prompts.get(row["step"], 0.0), measured(row["metrics"][metric])) for row in points if metric in row.get("metrics", {})]
    found.sort(key=lambda pair: pair[0])

    def bound(name: str) -> list[float]:
        return [math.nan if m.get(name) is None else float(m[name]) for _, m in found]

    return Line(words(metric), bound("value"), colour, bound("low"), bound("high"), [at for at, _ in found])


def _figures(records: Sequence[StepRecord], prompts: Mapping[int, float]) -> list[Plot]:
    """Return a plot of every figure that the training loop recorded, under its name there."""
    names = list(dict.fromkeys(name for r in records for name in r.metrics))[:_MOST_FIGURES]
    x = [prompts[r.step] for r in records]
    series = [Line(name, [r.metrics.get(name, math.nan) for r in records], "c1") for name in names]
    return [
        lines(f"figure{k}", line.label, x, [line], xlabel="prompts seen", note=meanings.recorded(line.label), most=_SMALL)
        for k, line in enumerate(series)
        if _any_finite(line.y)
    ]


def _any_finite(values: Iterable[float]) -> bool:
    return any(math.isfinite(v) for v in values)
