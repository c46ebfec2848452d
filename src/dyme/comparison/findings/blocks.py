"""The figures of a study: each block's arms and pairs, the primary tests with Holm, the predicted slopes, the tuning."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dyme.comparison.findings.folder import ACCURACY, Block, Folder, Row, setting
from dyme.comparison.findings.pairs import accuracy, contrast, strata
from dyme.comparison.statistics.paired import holm, interquartile_mean
from dyme.comparison.statistics.pooled import pooled
from dyme.comparison.statistics.trends import logit, slope

ALPHA = 0.05
MODES = ("memorize", "explore", "mixed", "skip")
PASSED = "pass_at_64"
"""The figure of the untrained model that strata are ordered by; without it, the largest pass@K that is there."""


def block_figures(study: Folder, block: Block) -> dict[str, Any]:
    """Return a block's arms, pairs and base in each of its conditions."""
    conditions, pairs = [], []
    for name, settings in block.conditions.items():
        base = study.base(block, name)
        conditions.append({"name": name, "settings": settings, "base": base_figures(base) if base else None})
        pairs += _pairs(study, block, name)
    tested = {(k, pair["role"]): pair["p"] for k, pair in enumerate(pairs) if pair["role"] == "primary" and pair["p"] is not None}
    for (k, _), adjusted in holm(tested).items():
        pairs[k]["p_holm"] = adjusted
    holds = any(pair.get("p_holm", 1.0) <= ALPHA for pair in pairs)
    for pair in pairs:
        pair["tested"] = pair["role"] == "primary" or (pair["role"] == "then" and holds)
    arms = [
        found for name in block.conditions for arm in block.arms
        if (found := arm_figures(study, block, name, arm))
    ]  # fmt: skip
    return {
        "name": block.name, "question": block.plan.get("question", ""), "seeds": block.seeds, "conditions": conditions, "arms": arms,
        "pairs": pairs,
    }  # fmt: skip


def arm_figures(study: Folder, block: Block, condition: str, arm: str) -> dict[str, Any] | None:
    """Return an arm's figures in a condition: each seed's accuracy, means over the seeds, what it cost; None without a cell."""
    cells = study.done(block, condition, arm)
    if not cells:
        return None
    names = [name for name in next(iter(cells.values()))["metrics"] if all(name in cell["metrics"] for cell in cells.values())]
    costs = ("prompts", "completions", "sampled_tokens", "trained_tokens", "seconds")
    return {
        "arm": arm, "label": study.label(arm), "method": study.method(arm), "condition": condition,
        "settings": study.plan["arms"].get(arm, {}).get("settings", {}),
        "values": {str(seed): accuracy(cell) for seed, cell in sorted(cells.items())},
        "interquartile": interquartile_mean([accuracy(cell) for cell in cells.values()]),
        "metrics": {name: pooled([cell["metrics"][name] for cell in cells.values()]) for name in names},
        "by_kind": {kind: pooled([cell["by_kind"][kind][ACCURACY] for cell in cells.values()]) for kind in _kinds(cells)},
        "shares": {mode: _mean(cell.get("shares", {}).get(mode) for cell in cells.values()) for mode in MODES},
        "cost": {name: _mean(cell.get(name) for cell in cells.values()) for name in costs},
        "curve": _curve(cells),
        "reruns": sorted(seed for seed, cell in cells.items() if cell.get("rerun")),
    }  # fmt: skip


def base_figures(cell: Row) -> dict[str, Any]:
    """Return what is known of the untrained model of a condition."""
    return {"metrics": cell["metrics"], "by_kind": cell.get("by_kind", {}), "diagnosis": cell.get("diagnosis")}


def _pairs(study: Folder, block: Block, condition: str) -> list[dict[str, Any]]:
    """Return the differences of a condition: the pairs of the plan, then every other arm to the main one, which is exploratory."""
    named = [(pair, "primary") for pair in block.pairs("compare")] + [(pair, "then") for pair in block.pairs("then")]
    main = study.main if study.done(block, condition, study.main) else next(iter(block.arms), "")
    known = {frozenset(pair) for pair, _ in named}
    named += [((main, arm), "exploratory") for arm in block.arms if arm != main and frozenset((main, arm)) not in known]
    out = []
    for (a, b), role in named:
        ours, theirs = study.done(block, condition, a), study.done(block, condition, b)
        if {cell["id"] for cell in ours.values()} & {cell["id"] for cell in theirs.values()}:
            continue  # the same trainings under two names
        if found := contrast(ours, theirs):
            out.append({"a": a, "b": b, "labels": [study.label(a), study.label(b)], "condition": condition, "role": role} | found)
    return out


def prediction(study: Folder, name: str, plan: Row) -> dict[str, Any]:
    """Return the slope of a predicted trend: of a pair's gain on the base's pass@K by question type, or on a numeric setting."""
    a, b = plan["pair"]
    on = str(plan["on"])
    chosen = [block for block in study.blocks if block.name in (plan.get("blocks") or [block.name])]
    points: dict[int, dict[Any, tuple[float, float]]] = {}
    along: set[str] = set()
    for block in chosen:
        for condition in block.conditions:
            ours, theirs = study.done(block, condition, a), study.done(block, condition, b)
            sampled, passed = passed_by_kind(study.base(block, condition)) if on.startswith("pass_at_") else (on, {})
            for seed in ours.keys() & theirs.keys():
                at = points.setdefault(seed, {})
                if on.startswith("pass_at_"):
                    where = ours[seed].get("config", {}).get("model"), ours[seed].get("config", {}).get("task")
                    for kind, gain in strata(ours, theirs, [seed]).items():
                        if kind in passed:
                            along.add(sampled)
                            at[kind, repr(where)] = logit(passed[kind]["value"] * passed[kind]["n"], passed[kind]["n"]), gain["mean"]
                elif isinstance(x := setting(ours[seed], on), int | float):
                    along.add(on)
                    at[repr(ours[seed].get("id")), repr(theirs[seed].get("id"))] = float(x), accuracy(ours[seed]) - accuracy(theirs[seed])
    found = slope({seed: sorted(at.values()) for seed, at in points.items()})
    expect = str(plan.get("expect", ""))
    return {
        "name": name, "pair": [a, b], "labels": [study.label(a), study.label(b)], "on": on, "along": sorted(along), "expect": expect,
        "points": [{"seed": seed, "x": x, "gain": y} for seed, at in sorted(points.items()) for x, y in sorted(at.values())],
        "slope": None if found is None else {
            "value": found.value, "low": found.low, "high": found.high, "seeds": found.seeds, "places": found.places,
        },
        "holds": None if found is None else (found.high < 0 if expect == "falls" else found.low > 0),
    }  # fmt: skip


def passed_by_kind(base: Row | None) -> tuple[str, dict[str, Row]]:
    """Return the name of the untrained model's pass@64, and that figure by question type; of the largest K where 64 was not sampled."""
    kinds = ((base or {}).get("diagnosis") or {}).get("by_kind") or (base or {}).get("by_kind") or {}
    sampled = {name for figures in kinds.values() for name in figures if name.startswith("pass_at_")}
    if not sampled:
        return "", {}
    name = PASSED if PASSED in sampled else max(sampled, key=lambda name: int(name.removeprefix("pass_at_")))
    return name, {kind: figures[name] for kind, figures in kinds.items() if name in figures and figures[name]["n"]}


def tuning(study: Folder) -> list[dict[str, Any]]:
    """Return how each arm was tuned: its trials, the best first, its winner, and what was opened beyond the grid."""
    out = []
    for arm, choice in study.choices.items():
        groups: dict[str, dict[str, Any]] = {}
        for trial in choice.get("trials") or []:
            key = repr((trial.get("round"), sorted(trial["settings"].items())))
            one = groups.setdefault(
                key, {"settings": trial["settings"], "round": trial.get("round", 1), "budget": trial.get("budget", ""), "each": {}}
            )
            one["each"][str(trial.get("seed"))] = trial.get("accuracy")
        rows = []
        for one in groups.values():
            values = [value for value in one["each"].values() if value is not None]
            rows.append(one | {"mean": math.fsum(values) / len(values) if values else None, "won": False})
        rows.sort(key=lambda row: (-(row["round"] or 1), -(row["mean"] if row["mean"] is not None else -1)))
        for row in [row for row in rows if row["settings"] == choice.get("winner")][:1]:
            row["won"] = True  # in its last round
        out.append({
            "arm": arm, "label": study.label(arm), "trials": rows, "winner": choice.get("winner"), "opened": choice.get("opened") or [],
            "edges": choice.get("edges") or [], "taken": choice.get("taken") or {},
        })  # fmt: skip
    return out


def _kinds(cells: Mapping[int, Row]) -> list[str]:
    first = next(iter(cells.values())).get("by_kind", {})
    return [kind for kind in first if all(ACCURACY in cell.get("by_kind", {}).get(kind, {}) for cell in cells.values())]


def _curve(cells: Mapping[int, Row]) -> list[list[float | None]]:
    """Return the mean curve over the seeds, step by step, as far as all seeds go."""
    curves = [cell.get("curve") or [] for cell in cells.values()]
    return [[_mean(column) for column in zip(*rows, strict=True)] for rows in zip(*curves, strict=False)]


def _mean(values: Any) -> float | None:
    found = [float(value) for value in values if value is not None]
    return math.fsum(found) / len(found) if found else None
