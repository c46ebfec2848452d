"""One self-contained page on two runs side by side: their figures, their curves over one another, and the prompts that both saw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyme import plugins
from dyme.errors import RunError
from dyme.report import meanings, samples
from dyme.report.paths import ORIGINS, Paths, spread
from dyme.report.plots import Line, Plot, curves, lines
from dyme.report.render import figure, interval, measured, questions, rank, render, script, script_json, words
from dyme.report.series import StepTotals, duration, ends, passed, prompts_seen, totals
from dyme.tracking.run_folder import RunFolder
from dyme.types import StepRecord

PAIRS = 60
"""Prompts whose groups of both runs are shown, at most."""
_COLOURS = ("c1", "c2")
_SAMPLED = (
    ("sampled accuracy", "accuracy", "accuracy"), ("any of a group right", "any_right", "pass_at_k"),
    ("in the asked format", "parsed", "format_rate"), ("reward", "reward", "reward"),
    ("tokens of a completion", "tokens", "completion_length"),
)  # fmt: skip
_MODES = (("memorize", "share_memorize"), ("explore", "share_explore"))
_SHARES = ("accuracy", "any_right", "parsed", "memorize", "explore")


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """What is read of one of the two runs."""

    letter: str
    """A or B."""
    name: str
    folder: RunFolder
    settings: Mapping[str, Mapping[str, Any]]
    records: Sequence[StepRecord]
    steps: Sequence[StepTotals]
    prompts: Mapping[int, float]
    paths: Paths
    evaluations: Sequence[Mapping[str, Any]]

    @property
    def latest(self) -> dict[str, Mapping[str, Any]]:
        """Return the latest evaluation of each name, that of the test split first."""
        return {row["name"]: row for row in sorted(self.evaluations, key=lambda row: row["name"] != "test")}

    def values(self, name: str) -> list[float]:
        """Return a figure of each step: the mean of what was sampled, or the share of a mode."""
        return [step.share(name) if name in ("memorize", "explore") else step.mean(name) for step in self.steps]


def write_page(run: Path, other: Path, out: Path | None = None) -> Path:
    """Write the page about `run` (A) beside `other` (B) to `out` (beside-NAME.html in the folder of `run`) and return its path.

    Raises RunError if either is not a run folder, or both are the same.
    """
    if run.resolve() == other.resolve():
        raise RunError(f"{other}: is the same run; give another run folder after --beside")
    stories = [_story(letter, path, other) for letter, path, other in (("A", run, other), ("B", other, run))]
    payload, seen = _same_prompts(stories)
    browser, source = script("browser.js")
    return render(
        "beside.html.jinja",
        out or run / f"beside-{stories[1].folder.path.resolve().name}.html",
        title=f"{stories[0].name} beside {stories[1].name}",
        stories=stories,
        notes=_notes(stories),
        differing=_differing(stories),
        evaluations=_evaluations(stories),
        training=_training(stories),
        plots=_plots(stories),
        origins=_origins(stories),
        seen=seen,
        payload=payload,
        cache="",
        samples=script_json(payload),
        script=browser,
        script_source=source,
    )


def _story(letter: str, path: Path, other: Path) -> Story:
    folder, paths = RunFolder.open(path), Paths()
    records, steps = folder.steps(), totals(passed(folder.rollouts(), paths.add))
    whole, others = path.resolve(), other.resolve()
    name = whole.name if whole.name != others.name else f"{whole.parent.name}/{whole.name}"
    return Story(
        letter=letter, name=name, folder=folder, settings=folder.settings(), records=records, steps=steps,
        prompts=prompts_seen(records, steps), paths=paths, evaluations=folder.evaluations(),
    )  # fmt: skip


def _notes(stories: Sequence[Story]) -> list[str]:
    """Return what stands against comparing the figures of the two runs, a sentence each; else one that says that nothing does."""
    a, b = stories
    tasks = [plugins.label(str(one.settings.get("task", {}).get("name", "unknown"))) for one in stories]
    if tasks[0] != tasks[1]:
        return [f"Different tasks: A is {tasks[0]}, B is {tasks[1]}. Their figures cannot be compared."]
    found = []
    digests = [(one.folder.versions().get("data") or {}).get("digest") for one in stories]
    if None not in digests and digests[0] != digests[1]:
        found.append("The training samples differ (by their digest).")
    own, others = (dict(one.settings.get("task", {})) for one in stories)
    if changed := [f"task.{key}: {own.get(key)} and {others.get(key)}" for key in own | others if own.get(key) != others.get(key)]:
        found.append(f"The task's settings differ: {'; '.join(changed)}. Figures may be of different questions.")
    for name in sorted(a.latest.keys() & b.latest.keys()):
        counts = [questions(one.latest[name]) for one in stories]
        if counts[0] != counts[1]:
            found.append(
                f"Evaluation {name}: {counts[0] or 'an unknown number of'} questions in A and {counts[1] or 'an unknown number'} in B."
            )
    for one, rest in ((a, b), (b, a)):
        if lacking := sorted(rest.latest.keys() - one.latest.keys()):
            found.append(f"{one.letter} has no evaluation named {' or '.join(lacking)}: it is left out below.")
    return found or ["Both runs have the same task with the same settings" + (" and the same training samples." if digests[0] else ".")]


def _differing(stories: Sequence[Story]) -> list[tuple[str, str, str]]:
    """Return the settings that differ, without the run folder's name."""
    flat = [{f"{part}.{key}": str(value) for part, keys in one.settings.items() for key, value in keys.items()} for one in stories]
    names = sorted(flat[0].keys() | flat[1].keys())
    pairs = ((name, *(one.get(name, "–") for one in flat)) for name in names if name != "run.output")
    return [(name, a, b) for name, a, b in pairs if a != b]


def _evaluations(stories: Sequence[Story]) -> list[dict[str, Any]]:
    """Return the evaluations that both runs have, each with its figures of both."""
    latest = [one.latest for one in stories]
    found = []
    for split in (name for name in latest[0] if name in latest[1]):
        metrics = [rows[split].get("metrics", {}) for rows in latest]
        rows = []
        for name in sorted({name: None for own in metrics for name in own}, key=rank):
            pair = [measured(own.get(name)) for own in metrics]
            cells = [(figure(name, one["value"]), interval(name, one)) for one in pair]
            rows.append((words(name), meanings.evaluated(name), cells, _difference(name, *(one["value"] for one in pair))))
        found.append({"name": split, "rows": rows})
    return found


def _training(stories: Sequence[Story]) -> list[tuple[str, str, list[tuple[str, str]], str]]:
    """Return the figures of training of both runs: over the last tenth of the steps, and at first; and what they cost."""
    rows = []
    for label, name, meaning in (*_SAMPLED, *((mode, mode, share) for mode, share in _MODES)):
        pairs = [ends(one.values(name)) if one.steps else (math.nan, math.nan) for one in stories]
        if any(math.isfinite(last) for _, last in pairs):
            cells = [(figure(name, last), f"at first {figure(name, first)}") for first, last in pairs]
            rows.append((label, meanings.recorded(meaning), cells, _difference(name, *(last for _, last in pairs))))
    seen = [(f"{max(one.prompts.values(), default=0):,.0f}", f"{len(one.prompts):,} steps") for one in stories]
    took = [(duration(one.records[-1].seconds) if one.records else "–", "") for one in stories]
    return [*rows, ("prompts seen", "Repeated prompts count again.", seen, ""), ("training time", "Without evaluation.", took, "")]


def _difference(name: str, a: float | None, b: float | None) -> str:
    """Return B less A as shown: in points for shares; "" if either is missing."""
    if a is None or b is None or not (math.isfinite(a) and math.isfinite(b)):
        return ""
    share = "%" in figure(name, a) and "%" in figure(name, b)
    return (f"{100 * (b - a):+.1f} points" if share else f"{b - a:+.3g}").replace("-", "\u2212")


def _plots(stories: Sequence[Story]) -> list[Plot]:
    """Return the curves of both runs over one another."""
    out: list[Plot] = []
    for split in dict.fromkeys(row["name"] for one in stories for row in one.evaluations):
        series = [line for one, colour in zip(stories, _COLOURS, strict=True) if (line := _course(one, split, colour)).y]
        if any(len(set(line.x)) > 1 for line in series):
            note = f"{meanings.evaluated('think_accuracy')} With 95 % intervals."
            out.append(curves(f"evaluation-{len(out)}", f"Evaluation: {split}, think accuracy", series, xlabel="prompts seen", note=note))
    for label, name, meaning in (*_SAMPLED, *((f"share of prompts: {mode}", mode, share) for mode, share in _MODES)):
        series = [
            Line(
                f"{one.letter}: {one.name}",
                one.values(name),
                colour,
                x=[one.prompts[step.step] for step in one.steps],
                dashed=one.letter == "B",
            )
            for one, colour in zip(stories, _COLOURS, strict=True)
        ]
        series = [line for line in series if any(math.isfinite(y) for y in line.y)]
        if series:
            title = label[0].upper() + label[1:]
            note = meanings.recorded(meaning)
            out.append(lines(f"both-{name}", title, [], series, xlabel="prompts seen", percent=name in _SHARES, note=note))
    return out


def _course(one: Story, split: str, colour: str) -> Line:
    """Return the accuracy of the evaluations of one name over a run."""
    rows = sorted((row for row in one.evaluations if row["name"] == split), key=lambda row: row["step"])
    found = [(one.prompts.get(row["step"], 0.0), measured(row.get("metrics", {}).get("think_accuracy"))) for row in rows]
    found = [(x, m) for x, m in found if m["value"] is not None]
    low, high = ([math.nan if m.get(end) is None else m[end] for _, m in found] for end in ("low", "high"))
    y = [m["value"] for _, m in found]
    return Line(f"{one.letter}: {one.name}", y, colour, low, high, [x for x, _ in found], dashed=one.letter == "B")


def _origins(stories: Sequence[Story]) -> list[tuple[str, str, list[str]]]:
    """Return how prompts were first right in both runs; nothing if either sampled nothing."""
    sampled = [[path.origin for path in one.paths.values() if any(visit.of for visit in path.visits)] for one in stories]
    counts = [Counter(own) for own in sampled]
    if not all(sampled):
        return []
    shown = ((name, [f"{count[name]:,} ({100 * count[name] / count.total():.1f} %)" for count in counts]) for name in ORIGINS)
    return [(*ORIGINS[name], cells) for name, cells in shown if any(count[name] for count in counts)]


def _same_prompts(stories: Sequence[Story]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the browser's data on prompts that both runs saw, and how many there are, by who was right at the last visit."""
    a, b = stories
    common = sorted(a.paths.keys() & b.paths.keys(), key=lambda name: (_right(b, name) - _right(a, name), name))
    wanted = [{name: one.paths[name].visits[-1].step for name in spread(common, PAIRS)} for one in stories]
    rows = [_last(one.folder.rollouts(), own) for one, own in zip(stories, wanted, strict=True)]
    alike = [name for name in wanted[0] if _same(rows[0][name], rows[1][name])]
    pairs = [_pair(stories, [own[name] for own in rows]) for name in alike]
    held = samples.within(pairs, samples.TEXT_BYTES)
    solved = Counter((_right(a, name) > 0, _right(b, name) > 0) for name in common)
    seen = {
        "common": len(common),
        "other": len(wanted[0]) - len(alike),
        "solved": [solved[key] for key in ((True, True), (True, False), (False, True), (False, False))],
    }
    marker = str(a.settings.get("task", {}).get("marker", ""))
    return samples.browsed([one.folder for one in stories], held, total=len(common), marker=marker), seen


def _right(one: Story, name: str) -> float:
    """Return the share of completions that are right at a prompt's last visit; 0 without completions."""
    visit = one.paths[name].visits[-1]
    return visit.right / visit.of if visit.of else 0.0


def _last(rows: Iterable[dict[str, Any]], wanted: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in rows if wanted.get(row["id"]) == row["step"]}


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Return whether two groups are of the same row, and not only of rows with the same name."""
    return all(one[key] == other[key] for key in ("question", "answer", "images"))


def _pair(stories: Sequence[Story], rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    halves = []
    for one, row in zip(stories, rows, strict=True):
        marker = str(one.settings.get("task", {}).get("marker", ""))
        group = samples.group(one.folder, row, one.settings.get("supervision", {}), marker)
        halves.append({**group, "run": f"{one.letter}: {one.name}", "marker": marker})
    return {**halves[0], "images": halves[0]["images"] or halves[1]["images"], "beside": halves[1]}
