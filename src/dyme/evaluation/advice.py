"""Sentences on what the figures of an untrained model mean: in general, and for each method that ships."""

from __future__ import annotations

from collections.abc import Mapping

from dyme.methods import METHODS


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
