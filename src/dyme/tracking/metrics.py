"""Metrics of a step from its groups and routes: completions, what helpers did, shares of the modes; plain Python."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dyme.types import Group, Route

if TYPE_CHECKING:
    pass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def completion_figures(groups: Sequence[Group]) -> dict[str, float]:
    """Means over a step's completions; empty for a method that does not roll out."""
    pairs = [(c, v) for g in groups for c, v in zip(g.completions, g.verdicts, strict=True)]
    if not pairs:
        return {}
    n, thinking = len(pairs), [v.rewards["thinking"] for _, v in pairs if "thinking" in v.rewards]
    return {
        "accuracy": sum(v.correct for _, v in pairs) / n,
        "pass_at_k": sum(g.solved > 0 for g in groups) / len(groups),
        "format_rate": sum(v.parsed for _, v in pairs) / n,
        "reward": sum(v.reward for _, v in pairs) / n,
        "thinking_reward": sum(thinking) / len(thinking) if thinking else math.nan,
        "completion_length": sum(len(c.token_ids) for c, _ in pairs) / n,
        "truncated": sum(not c.finished for c, _ in pairs) / n,
        "rollout_tokens": float(sum(len(c.token_ids) for c, _ in pairs)),
    }


def figures(groups: Sequence[Group]) -> dict[str, float]:
    """What helpers did in a step: groups checked, targets written, groups in trouble, mean score; empty if they did nothing."""
    scores = [a.score for g in groups for a in g.assessments if a is not None]
    counts = {
        "checked_groups": float(sum(bool(g.assessments) for g in groups)),
        "refined_targets": float(sum(g.target is not None for g in groups)),
        "helper_failures": float(sum(bool(g.trouble) for g in groups)),
    }
    return counts | ({"helper_score": sum(scores) / len(scores)} if scores else {}) if any(counts.values()) else {}


def mode_shares(routes: Sequence[Route]) -> dict[str, float]:
    """Share of prompts per mode, in [0, 1]; `mixed` counts prompts that do both."""
    total = max(1, len(routes))
    return {mode: sum(r.mode == mode for r in routes) / total for mode in ("memorize", "explore", "mixed", "skip")}
