"""What must be written, by rule: each function reads the figures of a study and returns a sentence, whichever way they fall.

The rules are those of the study's plan. A rule returns `Sentence(holds=True)` where its outcome is what the figures show, False where they
show the contrary, and None where they decide neither; it returns nothing where the arms or cells that it speaks of are not there.
Methods are known by name here, as the sentences are about them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

ALPHA = 0.05
POINT = 0.01
Figures = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence, the rule that chose it, and whether the rule's outcome holds."""

    rule: str
    holds: bool | None
    text: str


def switch(study: Figures) -> Sentence | None:
    """Say whether the choice of prompts helps, from DyME against the yoked random switch."""
    if (pair := _pair(study, "dyme", "yoked_random")) is None:
        return None
    seen = _difference(pair)
    if pair["p_equal"] is not None and pair["p_equal"] <= ALPHA:
        return Sentence(
            "switch",
            True,
            f"The per-prompt switch is not what helps; mixing is: {seen}, equal within a point ({_probability(pair['p_equal'])}).",
        )
    if not pair["tested"]:
        return Sentence("switch", None, f"Whether the choice of prompts helps is not tested, as no primary difference holds: {seen}.")
    if pair["p"] is not None and pair["p"] <= ALPHA:
        if pair["mean"] > 0:
            return Sentence("switch", False, f"The choice of prompts helps: {seen}, {_probability(pair['p'])}.")
        return Sentence(
            "switch", True, f"The per-prompt switch is not what helps; a random one does better: {seen}, {_probability(pair['p'])}."
        )
    return Sentence(
        "switch",
        None,
        f"Whether the choice of prompts helps stays open: {seen}; neither a difference nor equality within a point is shown.",
    )


def advantage(study: Figures) -> Sentence | None:
    """Say whether DyME is ahead of the tuned two-stage training."""
    if (pair := _pair(study, "dyme", "two_stage")) is None or pair["high"] is None:
        return None
    seen = _difference(pair)
    if pair["high"] < POINT:
        return Sentence("advantage", True, f"No advantage over a tuned two-stage even where theory wants one: {seen}.")
    if pair["low"] > 0:
        return Sentence("advantage", False, f"DyME is ahead of a tuned two-stage: {seen}{_p(pair)}.")
    return Sentence("advantage", None, f"An advantage over a tuned two-stage is neither shown nor excluded: {seen}{_p(pair)}.")


def weak_bases(study: Figures) -> Sentence | None:
    """Say whether the gain falls as the base gets stronger."""
    return _trend(
        study, "weak bases", "for weak bases", lambda on: on.startswith("pass_at_"), "the log odds of the base's {} by question type"
    )


def pseudo_traces(study: Figures) -> Sentence | None:
    """Say whether the gain rises with the noise of the traces."""
    return _trend(study, "pseudo traces", "robust to pseudo traces", lambda on: on == "task.misread", "the share of misread values")


def equal_reward(study: Figures) -> Sentence | None:
    """Say whether the lead over GRPO is still there when all arms have one reward."""
    pair = _pair(study, "dyme", "grpo")
    if pair is None or pair["low"] is None or not _one_reward(study, pair):
        return None
    seen = _difference(pair)
    if pair["low"] > 0:
        return Sentence(
            "equal reward", False, f"The lead over GRPO does not come from the thinking reward: at equal reward {seen}{_p(pair)}."
        )
    if _gone(pair):
        return Sentence(
            "equal reward", True, f"The gain goes at equal reward, so the earlier lead was the thinking reward: {seen}{_p(pair)}."
        )
    return Sentence("equal reward", None, f"A lead over GRPO at equal reward is neither shown nor excluded: {seen}{_p(pair)}.")


def averaging(study: Figures) -> Sentence | None:
    """Say whether the lead over the two-stage training is only there under the averaging by terms."""
    found = study.get("averaging") or []
    sides = {name: [one for one in found if one["normalize"] == name and one["low"] is not None] for name in ("term", "all")}
    if not all(sides.values()):
        return None
    seen = "; ".join(f"{one['label']} under {name} {_points(one)}" for name, side in sides.items() for one in side)
    leads = {name: any(one["low"] > 0 for one in side) for name, side in sides.items()}
    if leads["term"] and not leads["all"]:
        return Sentence("averaging", True, f"The lead is HPT's averaging: it holds under term and not under all ({seen}).")
    if leads["all"]:
        return Sentence("averaging", False, f"The lead does not hang on HPT's averaging: it holds under all ({seen}).")
    return Sentence("averaging", None, f"Under neither averaging is there a lead over the two-stage training ({seen}).")


def other_rules(study: Figures) -> Sentence | None:
    """Name the rules that do as well as DyME or better in the first block's condition."""
    rivals = study.get("rivals") or []
    if not rivals:
        return None
    better = [one for one in rivals if one["mean"] <= 0]
    if better:
        seen = "; ".join(f"{one['label']} {_points(one, -1)}" for one in better)
        return Sentence(
            "other rules",
            True,
            f"Recommend in DyME's place, as at or above it: {seen} (its lead over DyME in points; level where 0 lies within).",
        )
    closest = min(rivals, key=lambda one: one["mean"])
    return Sentence(
        "other rules", False, f"No other rule is at or above DyME; the closest, {closest['label']}, is {_points(closest, -1)} from it."
    )


def compute(study: Figures) -> Sentence | None:
    """Say whether a gain at equal prompts is one at equal tokens too."""
    for rival in ("two_stage", "grpo"):
        pair = _pair(study, "dyme", rival)
        if (
            pair is None
            or pair["low"] is None
            or pair["low"] <= 0
            or not (tokens := pair["at_equal"].get("tokens"))
            or tokens["low"] is None
        ):
            continue
        seen = (
            f"over {pair['labels'][1]} {_points(pair)} at equal prompts, {_points(tokens)} in sampled accuracy at equal tokens, "
            "where the run that uses more is in mid-course"
        )
        if tokens["low"] > 0:
            return Sentence("compute", False, f"The gain holds per unit of compute as well: {seen}.")
        if _gone(tokens):
            return Sentence("compute", True, f"The gain is per prompt, not per unit of compute: {seen}.")
        return Sentence("compute", None, f"Whether the gain holds per unit of compute stays open: {seen}.")
    return None


RULES: tuple[Callable[[Figures], Sentence | None], ...] = (
    switch, advantage, weak_bases, pseudo_traces, equal_reward, averaging, other_rules, compute,
)  # fmt: skip


def sentences(study: Figures) -> list[dict[str, Any]]:
    """Return what all rules say, for JSON."""
    return [asdict(found) for rule in RULES if (found := rule(study)) is not None]


def _pair(study: Figures, ours: str, theirs: str) -> Mapping[str, Any] | None:
    """Return the difference of the first arms of two methods in the first block and its first condition that has it."""
    methods = {name: arm["method"] for name, arm in study["arms"].items()}
    for pair in (pair for block in study["blocks"][:1] for pair in block["pairs"]):
        if (methods.get(pair["a"]), methods.get(pair["b"])) == (ours, theirs):
            return dict(pair)
    return None


def _one_reward(study: Figures, pair: Mapping[str, Any]) -> bool:
    """Return whether two arms have no settings of the reward of their own."""
    return not any(name.startswith("reward.") for arm in (pair["a"], pair["b"]) for name in study["arms"][arm].get("settings") or {})


def _trend(study: Figures, rule: str, claim: str, on: Callable[[str], bool], along: str) -> Sentence | None:
    for found in study.get("predictions") or []:
        if on(found["on"]) and found["slope"]:
            s = found["slope"]
            change = _points({"mean": s["value"], "low": s["low"], "high": s["high"]})
            place = along.format(" and ".join(name.replace("pass_at_", "pass@") for name in found["along"]))
            seen = f"the gain over {found['labels'][1]} changes by {change} per unit of {place}"
            if found["holds"]:
                return Sentence(rule, False, f"\u201c{claim}\u201d is supported: {seen}.")
            return Sentence(rule, True, f"\u201c{claim}\u201d is not supported: {seen}.")
    return None


def _gone(found: Mapping[str, Any]) -> bool:
    """Return whether a gain is not there: none in the mean, or below a point at the upper end of its interval."""
    return bool(found["mean"] <= 0 or found["high"] < POINT)


def _difference(pair: Mapping[str, Any]) -> str:
    return f"{pair['labels'][0]} \u2212 {pair['labels'][1]} {_points(pair)} over {len(pair['seeds'])} seeds"


def _points(found: Mapping[str, Any], sign: int = 1) -> str:
    """Return "+1.2 [-0.3, +2.7] points"."""
    ends = "" if found["low"] is None else " [{:+.1f}, {:+.1f}]".format(*sorted(100 * sign * found[key] for key in ("low", "high")))
    mean = round(100 * sign * found["mean"], 1) + 0.0  # no "-0.0"
    return f"{mean:+.1f}{ends} points".replace("-", "\u2212")


def _p(pair: Mapping[str, Any]) -> str:
    return "" if pair.get("p_holm") is None else f", {_probability(pair['p_holm'])} after Holm"


def _probability(p: float) -> str:
    return "p < 0.001" if p < 0.001 else f"p {p:.3f}"
