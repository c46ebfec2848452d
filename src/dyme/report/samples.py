"""The groups that a page shows: a bounded choice, spread over the run, in the form that browser.js reads."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from dyme.report import supervised
from dyme.report.render import data_uri
from dyme.tracking.run_folder import RunFolder, image_name

STEPS = 12
"""Steps whose groups are shown, at most."""
GROUPS = 240
"""Groups shown, at most."""
TEXT_BYTES, PICTURE_BYTES = 1_900_000, 1_200_000
"""Bytes of all groups, and of all their pictures, at most; a page stays below 5 MB."""
_LONGEST, _MOST_FACTS = 4000, 60


def choose_steps(pictured: Mapping[int, int]) -> list[int]:
    """Return the first, the last and evenly spaced steps; between them, the nearest steps that kept pictures, if any did.

    `pictured` maps a step to the number of its groups whose picture is in the run folder.
    """
    steps = sorted(pictured)
    if len(steps) <= STEPS:
        return steps
    candidates = [s for s in steps if pictured[s]] or steps
    spacing = (steps[-1] - steps[0]) / (STEPS - 1)
    targets = (steps[0] + k * spacing for k in range(1, STEPS - 1))
    between = {min(candidates, key=lambda s: abs(s - target)) for target in targets}
    return sorted({steps[0], steps[-1], *between})


def choose(run: RunFolder, pictured: Mapping[int, int], total: int, first: Container[str] = ()) -> dict[str, Any]:
    """Return the data of the page's browser: groups, their pictures, and the values to filter by.

    `pictured` is as in `choose_steps`; `total` counts the groups of the run; prompts in `first` are preferred.
    """
    settings = run.settings()
    marker = str(settings.get("task", {}).get("marker", ""))
    rows = _rows(run, choose_steps(pictured), first)
    groups = within((group(run, row, settings.get("supervision", {}), marker) for row in rows), TEXT_BYTES)
    groups.sort(key=lambda one: one["step"])
    return browsed([run], groups, total=total, marker=marker)


def browsed(runs: Sequence[RunFolder], groups: Sequence[dict[str, Any]], *, total: int, marker: str) -> dict[str, Any]:
    """Return the data of a page's browser for these groups, of one run or of pairs."""
    every = [*groups, *(one["beside"] for one in groups if "beside" in one)]
    return {
        "groups": groups,
        "images": _pictures(runs, groups),
        "steps": sorted({one["step"] for one in every}),
        "modes": _distinct(one["mode"] for one in every),
        "kinds": _distinct(one["kind"] for one in every if one["kind"]),
        "total": total,
        "marker": marker,
    }


def within(groups: Iterable[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Return the first groups, at most GROUPS, whose JSON takes at most `most` bytes together."""
    kept: list[dict[str, Any]] = []
    for one in groups:
        most -= len(json.dumps(one, ensure_ascii=False).encode("utf-8", "replace"))
        if most < 0 or len(kept) == GROUPS:
            break
        kept.append(one)
    return kept


def has_picture(run: RunFolder, row: Mapping[str, Any]) -> bool:
    """Return whether the first picture of a group is in the run folder."""
    return bool(row["images"]) and (run.path / image_name(row["images"][0])).exists()


def _rows(run: RunFolder, steps: Sequence[int], first: Container[str]) -> list[dict[str, Any]]:
    """Return groups of the chosen steps, one of each step in turn; of a step first those in `first`, then those with a picture."""
    found: dict[int, list[dict[str, Any]]] = {step: [] for step in steps}
    for row in run.rollouts():
        if row["step"] in found:
            found[row["step"]].append(row)
    ranked = (sorted(rows, key=lambda row: (row["id"] not in first, not has_picture(run, row))) for rows in found.values())
    return [row for turn in zip_longest(*ranked) for row in turn if row is not None]


def _pictures(runs: Sequence[RunFolder], groups: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the data URIs of the groups' pictures by name, from the first run that kept them, as many as PICTURE_BYTES hold."""
    found: dict[str, str] = {}
    left = PICTURE_BYTES
    for name in dict.fromkeys(name for one in groups for name in one["images"]):
        uri = next(data_uri(run.path / name) for run in runs if (run.path / name).exists())
        left -= len(uri)
        if left < 0:
            break
        found[name] = uri
    return found


def group(run: RunFolder, row: Mapping[str, Any], settings: Mapping[str, Any], marker: str) -> dict[str, Any]:
    """Return a line of rollouts.jsonl as browser.js shows it; `settings` are those of supervision."""
    names = [image_name(key) for key in row["images"]]
    rationale, target = _cut(row["rationale"]), _cut(row.get("target"))
    gone, new = supervised.differences(rationale, target) if rationale and target else ([], [])
    return {
        "step": row["step"],
        "id": row["id"],
        "kind": row["kind"],
        "question": _cut(row["question"]),
        "answer": _cut(row["answer"]),
        "rationale": rationale,
        "target": target,
        "gone": [supervised.units(rationale or "", span) for span in gone],
        "new": [supervised.units(target or "", span) for span in new],
        "writer": supervised.writer(row, settings),
        "grader": supervised.grader(row, settings),
        "trust": row.get("trust"),
        "trouble": _cut(row.get("trouble")) or "",
        "drafts": [{**draft, "text": _cut(draft["text"])} for draft in row.get("drafts") or () if draft["fault"]],
        "facts": row["facts"][:_MOST_FACTS],
        "mode": row["mode"],
        "reason": "; ".join(
            (row["reason"], *_hint(row), *(f"no reward {name}: {why}" for name, why in (row.get("left_out") or {}).items()))
        ),
        "images": [name for name in names if (run.path / name).exists()],
        "pictures": len(names),
        "completions": [_completion(c, row["facts"], marker) for c in row["completions"]],
    }


def _completion(c: Mapping[str, Any], facts: Sequence[Sequence[str]], marker: str) -> dict[str, Any]:
    text = _cut(c["text"]) or ""
    thinking = text.partition(marker)[0] if marker else text
    return {**c, "text": text, "assessment": c.get("assessment"), **supervised.statements(thinking, facts)}


def _hint(row: Mapping[str, Any]) -> list[str]:
    """Return the hint that the completions continue, in words, if there is one."""
    return [f"drawn {len(row.get('draws') or ()) + 1} times, behind {_cut(row['prefix'])!r}"] if row.get("prefix") else []


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= _LONGEST else text[:_LONGEST] + " … (cut for this page)"


def _distinct(values: Iterable[str]) -> list[str]:
    return sorted(set(values))


def picture(run: RunFolder, name: object) -> str | None:
    """Return the data URI of a picture that an evaluation names, by path or key; only the run's own pictures are read."""
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    folder = (run.path / "images").resolve()
    files = ((run.path / path).resolve() for path in (image_name(name), name))
    return next((data_uri(file) for file in files if file.is_relative_to(folder) and file.is_file()), None)
