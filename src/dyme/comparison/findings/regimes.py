"""The map of regimes: each measured condition with its base, and each method's gain over the base and over its best rival there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dyme.comparison.findings.blocks import base_figures, passed_by_kind
from dyme.comparison.findings.folder import Folder, Row, setting
from dyme.comparison.findings.pairs import accuracy, contrast
from dyme.comparison.statistics.pooled import pooled

_SHORT = ("mean", "low", "high")
LEAST_SEEDS = 2
"""Fewest seeds of an arm on the map."""


def regimes(study: Folder) -> list[dict[str, Any]]:
    """Return every condition with an arm of two seeds or more, those of several blocks with the same settings as one.

    An arm has the seeds of all blocks there. Of arms that are the same trainings under two names, the first stands.
    """
    places: dict[str, dict[str, Any]] = {}
    for block in study.blocks:
        for name, settings in block.conditions.items():
            place = places.setdefault(
                json.dumps(settings, sort_keys=True), {"name": name or block.name, "settings": settings, "arms": {}, "base": None}
            )
            place["base"] = place["base"] or study.base(block, name)
            for arm in block.arms:
                place["arms"].setdefault(arm, {}).update(study.done(block, name, arm))
    for place in places.values():
        place["arms"] = {arm: cells for arm, cells in _distinct(place["arms"]).items() if len(cells) >= LEAST_SEEDS}
    return [_regime(study, place) for place in places.values() if place["arms"]]


def _distinct(arms: Mapping[str, Mapping[int, Row]]) -> dict[str, Mapping[int, Row]]:
    """Return the arms that have a training of their own, those with more seeds before others."""
    known: set[str] = set()
    kept = set()
    for arm in sorted(arms, key=lambda arm: -len(arms[arm])):
        own = {cell["id"] for cell in arms[arm].values()}
        if own - known:
            kept.add(arm)
        known |= own
    return {arm: cells for arm, cells in arms.items() if arm in kept}


def _ranked(arms: Mapping[str, Mapping[int, Row]], means: Mapping[str, float]) -> list[str]:
    """Return the arms, the most accurate first; before it goes the arm with most seeds of those whose interval to it holds 0."""
    ranked = sorted(arms, key=lambda arm: -means[arm])
    first = ranked[0]
    leads = {arm: found for arm in ranked[1:] if (found := contrast(arms[first], arms[arm]))}
    level = [first, *(arm for arm, lead in leads.items() if lead["low"] is not None and lead["low"] <= 0)]
    named = max(level, key=lambda arm: len(arms[arm]))
    return [named, *(arm for arm in ranked if arm != named)]


def _regime(study: Folder, place: Mapping[str, Any]) -> dict[str, Any]:
    arms: Mapping[str, Mapping[int, Row]] = place["arms"]
    some = [next(iter(cells.values())) for cells in arms.values()]

    def told(name: str) -> Any:
        """Return a setting of the condition, by the first arm that says it: one that reads no traces does not say how they are."""
        return next((value for cell in some if (value := setting(cell, name)) is not None), None)

    means = {arm: sum(map(accuracy, cells.values())) / len(cells) for arm, cells in arms.items()}
    ranked = _ranked(arms, means)
    base = place["base"]
    rows = []
    for arm in ranked:
        over_base = contrast(arms[arm], dict.fromkeys(arms[arm], base)) if base else None
        rival = next((other for other in ranked if other != arm), None)
        over_rival = contrast(arms[arm], arms[rival]) if rival else None
        kinds = (over_base or over_rival or {}).get("strata", {})
        rows.append({
            "arm": arm, "label": study.label(arm), "method": study.method(arm),
            "settings": study.plan["arms"].get(arm, {}).get("settings", {}),
            "accuracy": pooled([cell["metrics"]["think_accuracy"] for cell in arms[arm].values()]),
            "over_base": _short(over_base), "rival": rival and study.label(rival), "over_rival": _short(over_rival),
            "strata": {kind: {"over_base": _of(over_base, kind), "over_rival": _of(over_rival, kind)} for kind in kinds},
        })  # fmt: skip
    leads = {arm: _short(found) | {"seeds": len(found["seeds"])} for arm in ranked[1:] if (found := contrast(arms[ranked[0]], arms[arm]))}
    found = base_figures(base) if base else None
    name, passed = passed_by_kind(base)
    return {
        "name": place["name"], "settings": place["settings"], "k": told("rollout.num_generations"),
        "misread": told("task.misread"), "task": told("task.name"), "model": told("model.path"),
        "base": found, "passed": name, "passed_by_kind": {kind: figure["value"] for kind, figure in passed.items()},
        "arms": rows, "leads": leads,
    }  # fmt: skip


def _short(found: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: found[key] if found else None for key in _SHORT}


def _of(found: Mapping[str, Any] | None, kind: str) -> dict[str, Any]:
    return _short((found or {}).get("strata", {}).get(kind))


def shipped(study: Folder, found: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the map as `dyme.evaluation.regime.Map` has it: the conditions whose base was diagnosed."""
    measured = []
    for place in found:
        base, rows = place["base"], [row for row in place["arms"] if row["over_base"]["mean"] is not None]
        if not base or not (known := base["diagnosis"]) or not rows or f"pass_at_{place['k']}" not in known["metrics"]:
            continue
        passed = {name.removeprefix("pass_at_"): f["value"] for name, f in known["metrics"].items() if name.startswith("pass_at_")}
        truth = known["trace_truth"]
        measured.append({
            "name": place["name"], "k": place["k"], "pass_at": passed, "format_rate": known["metrics"]["sampled_format_rate"]["value"],
            "trace_truth": truth and truth["value"], "pictures": known["pictures"], "task": place["task"], "model": place["model"],
            "budget": study.plan.get("budget", ""), "base": base["metrics"]["think_accuracy"]["value"],
            "methods": [
                {key: row[key] for key in ("arm", "method", "label", "settings", "accuracy")}
                | {"gain": {"value": row["over_base"]["mean"], "low": row["over_base"]["low"], "high": row["over_base"]["high"]}}
                for row in rows
            ],
            "leads": place["leads"],
        })  # fmt: skip
    tested = [str(cell["commit"])[:10] for cell in study.cells.values() if cell.get("commit") and cell["stage"] == "test"]
    commits = ", ".join(sorted(set(tested)))
    source = f"{study.plan.get('title', 'a study')}{f' (commit {commits})' if commits else ''}"
    return {"source": source, "measured": measured}
