"""The groups that a page shows: a bounded choice, spread over the run, in the form that browser.js reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dyme.report.render import data_uri
from dyme.tracking.run_folder import RunFolder, image_name

STEPS = 12
"""Steps whose groups are shown, at most."""
GROUPS = 240
"""Groups shown, at most."""
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


def choose(run: RunFolder) -> dict[str, Any]:
    """Return the data of the page's browser: groups, their pictures, and the values to filter by."""
    pictured: Counter[int] = Counter()
    total = 0
    for row in run.rollouts():
        total += 1
        pictured[row["step"]] += _has_picture(run, row)
    steps = choose_steps(pictured)
    rows = _rows(run, steps)
    groups = [_group(run, row) for row in rows]
    names = {name for group in groups for name in group["images"]}
    return {
        "groups": groups,
        "images": {name: data_uri(run.path / name) for name in sorted(names)},
        "steps": sorted({g["step"] for g in groups}),
        "modes": _distinct(g["mode"] for g in groups),
        "kinds": _distinct(g["kind"] for g in groups if g["kind"]),
        "total": total,
        "marker": run.settings().get("task", {}).get("marker", ""),
    }


def _rows(run: RunFolder, steps: Sequence[int]) -> list[dict[str, Any]]:
    """Return groups of the chosen steps, those with a picture first, each step up to its share of GROUPS."""
    found: dict[int, list[dict[str, Any]]] = {step: [] for step in steps}
    for row in run.rollouts():
        if row["step"] in found:
            found[row["step"]].append(row)
    share = GROUPS // max(1, len(steps))
    return [row for rows in found.values() for row in sorted(rows, key=lambda row: not _has_picture(run, row))[:share]]


def _has_picture(run: RunFolder, row: Mapping[str, Any]) -> bool:
    return bool(row["images"]) and (run.path / image_name(row["images"][0])).exists()


def _group(run: RunFolder, row: Mapping[str, Any]) -> dict[str, Any]:
    names = [image_name(key) for key in row["images"]]
    return {
        "step": row["step"],
        "id": row["id"],
        "kind": row["kind"],
        "question": _cut(row["question"]),
        "answer": _cut(row["answer"]),
        "rationale": _cut(row["rationale"]),
        "target": _cut(row.get("target")),
        "facts": row["facts"][:_MOST_FACTS],
        "mode": row["mode"],
        "reason": "; ".join(
            (row["reason"], *_hint(row), *(f"no reward {name}: {why}" for name, why in (row.get("left_out") or {}).items()))
        ),
        "images": [name for name in names if (run.path / name).exists()],
        "pictures": len(names),
        "completions": [
            {**c, "text": _cut(c["text"]), "reason": "; ".join(filter(None, (c["reason"], c.get("assessment"))))}
            for c in row["completions"]
        ],
    }


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
