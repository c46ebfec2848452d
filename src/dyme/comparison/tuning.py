"""Tuning by successive halving (Jamieson and Talwalkar, 2016, arXiv 1502.07943), and what is done about a winner at the edge of a grid.

All configurations of a grid are tried at a part of the budget, the best of them in full. Where an ordered setting of the winner stands at
the edge of its grid, one more value beyond it is tried in full, until the winner stands inside, or as many values have been opened as the
design allows. Plain functions of scores: which trials are wanted next follows from those that are done, so a study resumes by itself.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dyme.comparison.design import Settings, Tuning


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One training of one configuration at a part of the budget."""

    settings: Settings
    seed: int
    share: float
    round: int


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How far the tuning of an arm has come."""

    trials: list[Trial] = field(default_factory=list)
    """All trials so far, done or wanted, in order."""
    wanted: list[Trial] = field(default_factory=list)
    """Trials without a score; empty once there is a winner."""
    survivors: list[list[Settings]] = field(default_factory=list)
    """Configurations that each round left, the best first."""
    winner: Settings | None = None
    opened: list[dict[str, Any]] = field(default_factory=list)
    """Values that were opened beyond an edge, in order."""
    edges: list[dict[str, Any]] = field(default_factory=list)
    """Settings whose winner is still at the edge of its values, with the reason why no further value was opened; `bound`: the next one
    is out of the setting's bounds."""


Score = Callable[[Trial], float | None]
"""Function from a trial to its validation accuracy; None: it is not done."""
Allowed = Callable[[Settings], bool]
"""Function that says whether settings are within their bounds."""


def tune(grid: Mapping[str, Sequence[Any]], rule: Tuning, score: Score, allowed: Allowed) -> Outcome:
    """Return how far the tuning has come, given the scores of the trials that are done."""
    found = Outcome()
    pool: list[Settings] = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    shares = [rule.first, 1.0] if rule.first < 1 and len(pool) > rule.keep else [1.0]
    for number, share in enumerate(shares, 1):
        if not (means := _try(found, pool, rule, number, share, score)):
            return found
        ranked = sorted(range(len(pool)), key=lambda k: -means[k])
        pool = [pool[k] for k in ranked][: rule.keep if share < 1 else None]
        means = [means[k] for k in ranked]
        found.survivors.append(pool)
    values = {key: list(column) for key, column in grid.items() if _ordered(column)}
    while beyond := _openings(pool[0], values, rule, allowed, found):
        new = [{**pool[0], key: value} for key, value in beyond]
        for key, value in beyond:
            values[key].append(value)
            found.opened.append({"setting": key, "value": value})
        if not (more := _try(found, new, rule, len(shares) + 1, 1.0, score)):
            return found
        pool, means = [*pool, *new], [*means, *more]
        ranked = sorted(range(len(pool)), key=lambda k: -means[k])
        pool, means = [pool[k] for k in ranked], [means[k] for k in ranked]
    found.winner = pool[0]
    return found


def _try(found: Outcome, pool: Sequence[Settings], rule: Tuning, number: int, share: float, score: Score) -> list[float]:
    """Add the trials of a round, and return the mean score of each configuration; [] if a trial is not done."""
    trials = [Trial(settings=one, seed=seed, share=share, round=number) for seed in rule.seeds for one in pool]
    found.trials += trials
    scores = [score(trial) for trial in trials]
    found.wanted += [trial for trial, value in zip(trials, scores, strict=True) if value is None]
    if found.wanted:
        return []
    return [math.fsum(scores[k :: len(pool)]) / len(rule.seeds) for k in range(len(pool))]  # type: ignore[arg-type]


def _ordered(values: Sequence[Any]) -> bool:
    """Return whether a setting is tuned and ordered: at least two numbers, and nothing else."""
    return len(set(values)) > 1 and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _openings(
    winner: Settings, values: Mapping[str, list[Any]], rule: Tuning, allowed: Allowed, found: Outcome
) -> list[tuple[str, Any]]:  # fmt: skip
    """Return the settings of the winner that stand at an edge, each with one more value; others are noted in `edges`."""
    out = []
    found.edges.clear()
    for key, column in values.items():
        if winner[key] not in (min(column), max(column)):
            continue
        value = step_beyond(column, winner[key])
        if not allowed({**winner, key: value}):
            found.edges.append({"setting": key, "value": winner[key], "bound": True, "why": f"{value:g} is out of bounds"})
        elif sum(one["setting"] == key for one in found.opened) >= rule.open_edges:
            found.edges.append({"setting": key, "value": winner[key], "bound": False, "why": f"{rule.open_edges} values were opened"})
        else:
            out.append((key, value))
    return out


def step_beyond(values: Sequence[float], edge: float) -> float:
    """Return the value beyond an edge that continues the values' ratio, or their difference where one is not positive; 3 digits."""
    column = sorted(set(values))
    last, before = (column[-1], column[-2]) if edge == column[-1] else (column[0], column[1])
    value = last * last / before if column[0] > 0 else 2 * last - before
    if all(isinstance(one, int) for one in column):
        return round(value) if round(value) != last else last + (1 if last > before else -1)
    return float(f"{value:.3g}")
