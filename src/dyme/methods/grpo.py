"""GRPO: reinforce what beats the group's mean reward (Shao et al., 2024, arXiv 2402.03300; paper, Eqs. 2 and 7)."""

from __future__ import annotations

from collections.abc import Mapping

from dyme.methods.method import Method, NoSettings, Stage
from dyme.methods.routes import explore

STAGE: Stage[NoSettings] = Stage(name="grpo", route=explore, rolls_out=True, imitates=False)


def outlook(figures: Mapping[str, float], k: int) -> list[str]:
    """Return sentences on what an untrained model's figures mean for GRPO."""
    mixed = figures["mixed"]
    lines = [f"GRPO learns correctness from {mixed:.0%} of prompts only; in the others all {k} completions are equally right or wrong."]
    if figures["sampled_format_rate"] < 0.05:
        lines.append(
            "The answer marker is hardly ever written: GRPO alone may never find it. Memorizing teaches it; "
            "check task.think_prompt and task.marker too."
        )
    if mixed > 0.8:
        lines.append("Most prompts are mixed: plain GRPO is a fair choice here, and a method that explores mixed prompts is much like it.")
    return lines


METHOD = Method(
    name="grpo",
    summary="reinforce what beats the group's mean reward",
    source="Shao et al., 2024 (arXiv 2402.03300); paper, Eqs. 2 and 7",
    settings=NoSettings(),
    outlook=outlook,
    stages=lambda settings: (STAGE,),
)
