"""Sentences on what the figures of an untrained model mean: in general, for each method that ships, and by the map of regimes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dyme.evaluation.regime import Map, Measured
from dyme.methods import METHODS

NEAR = (0.75, 0.1, 0.25)
"""Distances up to which a measured condition speaks for a case: log odds of pass@K, share of true statements, format rate."""
Place = tuple[float, float, float]
"""Log odds of pass@K, share of true statements, format rate; nan: not known."""


def advice(figures: Mapping[str, float], k: int) -> list[str]:
    """Return sentences on `evaluate`'s figures (shares in [0, 1]) of `k` completions per prompt."""
    lines = [line for method in METHODS.values() if method.outlook is not None for line in method.outlook(figures, k)]
    if figures["truncated"] > 0.3:
        lines.append(
            f"{figures['truncated']:.0%} of thinking completions are cut off and count as wrong: raise rollout.max_completion_length, "
            "or ask for shorter thinking in task.think_prompt."
        )
    if figures["all_right"] > 0.5:
        lines.append("Most prompts are solved by every completion: take harder ones, or train on those that are not.")
    return lines


def choice(known: Map | None, case: Mapping[str, Any], task: str = "") -> list[str]:
    """Return sentences on the method that the map supports for a case (`regime.diagnosis`), how sure that is, and where it is from.

    K is the case's completions per prompt. Where no measured condition is near, nor any pair around the case, the sentences say what
    of the case was not measured, and name the nearest condition.
    """
    if known is None or not known.measured:
        return ["Which method is best here was not measured: this version ships no map (`dyme study FILE --map FILE` writes one)."]
    own = [one for one in known.measured if one.k == case["k"]]
    ranked = sorted(own or known.measured, key=lambda one: _distance(_place(one), _position(case, one.k)))
    first = ranked[0]
    if beyond := _beyond(known.measured, own, case):
        return [
            f"The map of measured conditions does not reach this case: {'; '.join(beyond)}.",
            f"In the nearest condition ({_described(first)}) {_winner(first)}. {_origin(known, first)}",
        ]
    guess = " Your task is another one, so this is a guess." if task and task != first.task else ""
    if _distance(_place(first), _position(case, first.k)) <= 1:
        return [f"By the map {_winner(first)}, in a condition like this one ({_described(first)}). {_origin(known, first)}{guess}"]
    pair = ranked[:2]
    if len({one.best["arm"] for one in pair}) == 1:
        found = f"{first.best['label']} was best in both: {'; '.join(_winner(one) for one in pair)}"
    else:
        found = f"the best method differs between them: {'; '.join(_winner(one) for one in pair)}"
    around = " and ".join(_described(one) for one in pair)
    return [f"This case lies between measured conditions ({around}), and {found}. {_origin(known, first)}{guess}"]


def _winner(one: Measured) -> str:
    """Return a clause on the best method and how sure it is."""
    best = one.best
    accuracy, gain = 100 * best["accuracy"]["value"], 100 * best["gain"]["value"]
    did = "was best" if accuracy >= max(100 * method["accuracy"]["value"] for method in one.methods) else "was as good as any"
    found = f"{best['label']} {did} ({accuracy:.1f} %, {gain:+.1f} points over the base, {best['accuracy']['seeds']} seeds)"
    if one.level:
        return f"{found}, within noise of {' and '.join(repr(label) if ',' in label else label for label in one.level)}"
    if not one.leads:
        return f"{found}; no rival was measured"
    arm, lead = min(one.leads.items(), key=lambda pair: pair[1]["mean"])
    rival = next(method["label"] for method in one.methods if method["arm"] == arm)
    return f"{found}, ahead of {rival} by {100 * lead['mean']:.1f} [{100 * lead['low']:.1f}, {100 * lead['high']:.1f}] points"


def _described(one: Measured) -> str:
    truth = "traces not read" if one.trace_truth is None else f"traces {one.trace_truth:.0%} true"
    return f"{one.name}: pass@{one.k} {one.pass_at[str(one.k)]:.0%}, format {one.format_rate:.0%}, {truth}"


def _origin(known: Map, one: Measured) -> str:
    return f"Measured on {one.task} with {one.model}, {one.budget}: {known.source}."


def _place(one: Measured) -> Place:
    return _logit(one.pass_at[str(one.k)]), math.nan if one.trace_truth is None else one.trace_truth, one.format_rate


def _position(case: Mapping[str, Any], k: int) -> Place:
    """Return the place of a case; its pass@j is that of the largest j up to `k` that it has."""
    metrics, truth = case["metrics"], case["trace_truth"]
    sizes = [j for name in metrics if name.startswith("pass_at_") and (j := int(name.removeprefix("pass_at_"))) <= k]
    passed = metrics[f"pass_at_{max(sizes)}"]["value"] if sizes else math.nan
    return _logit(passed), truth["value"] if truth else math.nan, metrics["sampled_format_rate"]["value"] if sizes else math.nan


def _logit(value: float) -> float:
    return math.log((value + 0.002) / (1.002 - value))


def _distance(a: Place, b: Place) -> float:
    """Return the largest of the three distances, each in units of NEAR; what is not known of either counts as equal."""
    found = (abs(x - y) / unit for x, y, unit in zip(a, b, NEAR, strict=True))
    return max((0.0 if math.isnan(x) else x for x in found), default=0.0)


def _beyond(measured: Sequence[Measured], own: Sequence[Measured], case: Mapping[str, Any]) -> list[str]:
    """Return what of the case the map does not reach; `own` are the conditions that trained with the case's K."""
    lacking = []
    if not own:
        lacking.append(f"K = {case['k']} was not measured, only {', '.join(map(str, sorted({one.k for one in measured})))}")
    if not case["pictures"] and all(one.pictures for one in measured):
        lacking.append("only models that see pictures were measured, and these samples are text")
    if not case["traces"]:
        lacking.append("the data have no traces to memorize")
    elif case["trace_truth"] is None:
        lacking.append("how true the traces are is not known, as the samples have no facts")
    return lacking or _outside(own, _position(case, case["k"]))


def _outside(own: Sequence[Measured], place: Place) -> list[str]:
    """Return what of a place lies outside the measured ones, [] if it is near one of them or among them."""
    places = [_place(one) for one in own]
    if any(_distance(place, other) <= 1 for other in places):
        return []
    names, out = ("pass@K", "share of true statements in the traces", "format rate"), []
    for name, value, near, column in zip(names, place, NEAR, zip(*places, strict=True), strict=True):
        known = sorted(x for x in column if not math.isnan(x))
        if known and not known[0] - near <= value <= known[-1] + near:
            shown = [_share(x) if name == "pass@K" else x for x in (value, known[0], known[-1])]
            out.append(f"its {name} of {shown[0]:.0%} lies outside the measured {shown[1]:.0%} to {shown[2]:.0%}")
    if not out and not _within(place[:2], [other[:2] for other in places if not math.isnan(other[1])]):
        out.append(f"a pass@K of {_share(place[0]):.0%} was not measured with traces that are {place[1]:.0%} true")
    return out


def _share(odds: float) -> float:
    return min(1.0, max(0.0, 1.004 / (1 + math.exp(-odds)) - 0.002))


def _within(point: tuple[float, ...], places: Sequence[tuple[float, ...]]) -> bool:
    """Return whether a point lies in the convex hull of places, both in the plane: no line through it has all places on one side."""
    around = sorted(math.atan2(y - point[1], x - point[0]) for x, y in places)
    if not around:
        return False
    gaps = [b - a for a, b in zip(around, [*around[1:], around[0] + 2 * math.pi], strict=True)]
    return max(gaps) <= math.pi + 1e-9
