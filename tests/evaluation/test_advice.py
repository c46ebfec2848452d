"""What the figures of an untrained model mean, in words."""

from __future__ import annotations

import pytest

from dyme.evaluation.advice import advice


def figures(**changes: float) -> dict[str, float]:
    plain = {
        "all_wrong": 0.5,
        "all_right": 0.1,
        "mixed": 0.4,
        "sampled_format_rate": 0.5,
        "direct_accuracy": 0.2,
        "think_accuracy": 0.3,
        "truncated": 0.1,
    }
    return plain | changes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "memorizing 50% of prompts, exploring 40% and leaving 10% alone"),
        ({}, "GRPO learns correctness from 40% of prompts only; in the others all 8"),
        ({"truncated": 0.4}, "40% of thinking completions are cut off"),
        ({"sampled_format_rate": 0.01}, "marker is hardly ever written"),
        ({"direct_accuracy": 0.5}, "better at once (50%) than thinking (30%)"),
        ({"mixed": 0.9, "all_wrong": 0.1, "all_right": 0.0}, "plain GRPO is a fair choice"),
        ({"all_right": 0.6, "all_wrong": 0.0}, "take harder ones"),
        ({"all_wrong": 0.97, "mixed": 0.03, "all_right": 0.0}, "DyME will be SFT for a while"),
    ],
)
def test_advice(changes: dict[str, float], words: str) -> None:
    lines = advice(figures(**changes), 8)
    assert any(words in line for line in lines), lines
    assert len(lines) == 2 + bool(changes)
