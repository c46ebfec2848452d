"""Metrics of a step from its groups and routes: completions, the helpers' work, shares of the modes; plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dyme.recipe import BUILT_IN_REWARDS
from dyme.types import NO_VALUE, Group, Route


def completion_figures(groups: Sequence[Group]) -> dict[str, float]:
    """Return means over a step's completions; empty for a method that does not roll out. Groups without completions do not count.

    Of a group that was drawn again they are those of the first draw, without a hint, as in any other method; `redrawn_accuracy` is that
    of the draws that were kept.
    """
    kept, groups = [g for g in groups if g.draws], [g.unaided for g in groups if g.completions]
    pairs = [(c, v) for g in groups for c, v in zip(g.completions, g.verdicts, strict=True)]
    if not pairs:
        return {}
    n, thinking = len(pairs), [v.rewards["thinking"] for _, v in pairs if "thinking" in v.rewards]
    found = {
        "accuracy": sum(v.correct for _, v in pairs) / n,
        "pass_at_k": sum(g.solved > 0 for g in groups) / len(groups),
        "format_rate": sum(v.parsed for _, v in pairs) / n,
        "reward": sum(v.reward for _, v in pairs) / n,
        "thinking_reward": sum(thinking) / len(thinking) if thinking else math.nan,
        "completion_length": sum(len(c.token_ids) for c, _ in pairs) / n,
        "truncated": sum(not c.finished for c, _ in pairs) / n,
    }
    if kept:
        again = [v.correct for g in kept for v in g.verdicts]
        found |= {"redrawn_groups": float(len(kept)), "redrawn_accuracy": sum(again) / len(again)}
    failed = sum(v.failed for _, v in pairs)
    return found | ({"verifier_failures": float(failed)} if failed else {}) | own_rewards(groups)


def own_rewards(groups: Sequence[Group]) -> dict[str, float]:
    """Return for each of the user's rewards its mean, and the groups that it was left out of, for a missing value and for a failure."""
    found: dict[str, list[float]] = {name: [] for g in groups for name in g.left_out}
    for verdict in (v for g in groups for v in g.verdicts):
        for name in verdict.rewards.keys() - set(BUILT_IN_REWARDS):
            found.setdefault(name, []).append(verdict.rewards[name])
    out: dict[str, float] = {}
    for name in sorted(found):
        why = [g.left_out[name] for g in groups if name in g.left_out]
        lacking = sum(reason == NO_VALUE for reason in why)
        mean = sum(found[name]) / len(found[name]) if found[name] else math.nan
        figures = {"mean": mean, "left_out": float(lacking), "failed": float(len(why) - lacking)}
        out |= {f"rewards/{name}/{figure}": value for figure, value in figures.items()}
    return out


def figures(groups: Sequence[Group]) -> dict[str, float]:
    """Return the helpers' figures of a step: groups checked, targets written, groups whose helper failed, grades; {} if none worked."""
    grades = [a for g in groups for a in g.assessments if a is not None]
    counts = {
        "checked_groups": float(sum(bool(g.assessments) for g in groups)),
        "refined_targets": float(sum(g.target is not None for g in groups)),
        "helper_failures": float(sum(bool(g.trouble) for g in groups)),
    }
    graded = {"helper_score": sum(a.score for a in grades) / len(grades), "graded_traces": float(len(grades))} if grades else {}
    flips = sum(a.flipped for a in grades)
    every = counts | graded | ({"flipped_grades": float(flips)} if flips else {}) | own_targets(groups)
    trust = [g.trust for g in groups if g.trust is not None]
    trusted = {"trusted_targets": float(len(trust)), "target_trust": sum(trust) / len(trust)} if trust else {}
    return (every if any(counts.values()) else {}) | trusted


def own_targets(groups: Sequence[Group]) -> dict[str, float]:
    """Return the figures of the policy as a refiner: prompts that it was asked for, and its drafts; {} if it was not asked."""
    helped = [g for g in groups if g.drafts]
    asked = [g for g in helped if any(draft.tokens for draft in g.drafts)]
    drafts = [draft for g in asked for draft in g.drafts]
    counts = {
        "self_asked": len(asked),
        "self_accepted": sum(any(not draft.fault for draft in g.drafts) for g in asked),
        "self_reused": len(helped) - len(asked),
        "self_drafts": len(drafts),
        "self_tokens": sum(draft.tokens for draft in drafts),
    } | {f"self_refused/{fault}": sum(draft.fault == fault for draft in drafts) for fault in ("format", "answer", "thinking")}
    return {name: float(count) for name, count in counts.items()} if helped else {}


def mode_shares(routes: Sequence[Route]) -> dict[str, float]:
    """Return the share of prompts per mode, in [0, 1]; `mixed` counts prompts that do both."""
    total = max(1, len(routes))
    return {mode: sum(r.mode == mode for r in routes) / total for mode in ("memorize", "explore", "mixed", "skip")}
