"""What the figures of an untrained model mean for SFT, GRPO and DyME, in words."""

from __future__ import annotations

from collections.abc import Mapping


def advice(figures: Mapping[str, float], k: int) -> list[str]:
    """Plain sentences from `evaluate`'s figures (shares in [0, 1])."""
    wrong, right, mixed = figures["all_wrong"], figures["all_right"], figures["mixed"]
    lines = [
        f"DyME would begin by memorizing {wrong:.0%} of prompts, exploring {mixed:.0%} and leaving {right:.0%} alone.",
        f"GRPO learns correctness from {mixed:.0%} of prompts only; in the others all {k} completions are equally right or wrong.",
    ]
    if figures["sampled_format_rate"] < 0.05:
        lines.append(
            "The answer marker is hardly ever written: GRPO alone may never find it. Memorizing teaches it; "
            "check task.think_prompt and task.marker too."
        )
    if figures["truncated"] > 0.3:
        lines.append(
            f"{figures['truncated']:.0%} of thinking completions are cut off and count as wrong: raise rollout.max_completion_length, "
            "or ask for shorter thinking in task.think_prompt."
        )
    if figures["direct_accuracy"] > figures["think_accuracy"] + 0.02:
        lines.append(
            f"It answers better at once ({figures['direct_accuracy']:.0%}) than thinking ({figures['think_accuracy']:.0%}): SFT on traces "
            "tends to lower it further (paper, Table 1). Thinking pays only if it ends above the first figure."
        )
    if mixed > 0.8:
        lines.append("Most prompts are mixed: plain GRPO is a fair choice here, and DyME will behave much like it.")
    if right > 0.5:
        lines.append("Most prompts are solved by every completion: take harder ones, or train on those that are not.")
    if wrong > 0.95:
        lines.append("Nearly every prompt is all wrong: DyME will be SFT for a while; good traces matter most, and a larger K helps.")
    return lines
