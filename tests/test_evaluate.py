"""Figures and their intervals by hand, and what `evaluate` asks of a model."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

import pytest

from dyme.advice import advice
from dyme.config import Config
from dyme.evaluate import Z95, clustered, evaluate, mean, pass_at_k, sampled_figures, share_of_true, wilson
from dyme.recipe import build
from dyme.rollout import hf
from dyme.types import Completion, Fact, Group, Sample, Verdict
from dyme.verify.rules import rules_of

# Intervals


def test_wilson_by_hand() -> None:
    found = wilson(8, 10)  # Wilson, 1927: (0.8 + z2/20) / (1 + z2/10) -+ ...
    assert (found.value, found.n) == (0.8, 10)
    assert (found.low, found.high) == pytest.approx((0.490162, 0.943318), abs=1e-6)
    none, every = wilson(0, 10), wilson(10, 10)
    assert (none.low, every.high) == (0, 1)
    assert none.high == pytest.approx(Z95**2 / (10 + Z95**2))
    assert every.low == pytest.approx(1 - none.high)
    empty = wilson(0, 0)
    assert (empty.value, empty.low, empty.high, empty.n) == (0, 0, 1, 0)


def test_wilson_covers_what_it_says() -> None:
    for p in (0.02, 0.3, 0.5):
        chance = [math.comb(50, k) * p**k * (1 - p) ** (50 - k) for k in range(51)]
        covered = sum(c for k, c in enumerate(chance) if wilson(k, 50).low <= p <= wilson(k, 50).high)
        assert 0.92 < covered < 0.99


def test_mean_by_hand() -> None:
    found = mean([1, 2, 3, 4])
    half = Z95 * math.sqrt(5 / 3 / 4)
    assert (found.value, found.low, found.high, found.n) == pytest.approx((2.5, 2.5 - half, 2.5 + half, 4))
    assert mean([7]) == mean([7.0])
    assert (mean([7]).low, mean([]).n) == (7, 0)


def test_clusters_of_one_are_nearly_independent() -> None:
    hits = [1] * 30 + [0] * 70
    found, plain = clustered(hits, [1] * 100), wilson(30, 100)
    assert (found.value, found.n) == (0.3, 100)
    assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=0.001)


def test_clusters_that_agree_count_once() -> None:
    """100 prompts whose 8 completions are all alike say no more than 100 completions."""
    alike = clustered([8] * 30 + [0] * 70, [8] * 100)
    plain = wilson(30, 100)
    assert alike.n == 800
    assert (alike.low, alike.high) == pytest.approx((plain.low, plain.high), abs=0.001)
    rng = random.Random(0)
    apart = clustered([sum(rng.random() < 0.3 for _ in range(8)) for _ in range(100)], [8] * 100)
    assert apart.high - apart.low == pytest.approx(wilson(240, 800).high - wilson(240, 800).low, rel=0.15)


def test_clusters_without_spread_still_have_an_interval() -> None:
    none = clustered([0] * 10, [8] * 10)
    assert (none.value, none.low) == (0, 0)
    assert none.high == wilson(0, 10).high
    assert clustered([], []) == clustered([0], [0]) == wilson(0, 0)
    assert clustered([3], [3]).low == wilson(1, 1).low


def test_clusters_by_hand() -> None:
    """Shares 1/2, 2/2, 0/4 of 8: ratio 3/8, residuals h - ratio s = 1/4, 5/4, -3/2, variance (1/16 + 25/16 + 9/4) (3/2) / 64."""
    found = clustered([1, 2, 0], [2, 2, 4])
    variance = (1 / 16 + 25 / 16 + 9 / 4) * 1.5 / 64
    n, z2 = 15 / 64 / variance, Z95**2
    centre, half = (3 / 8 + z2 / 2 / n) / (1 + z2 / n), Z95 * math.sqrt(15 / 64 / n + z2 / 4 / n**2) / (1 + z2 / n)
    assert (found.value, found.low, found.high, found.n) == pytest.approx((3 / 8, max(0, centre - half), centre + half, 8))


# Figures


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_pass_at_k_is_the_mean_over_all_draws(n: int) -> None:
    for correct, k in itertools.product(range(n + 1), range(1, n + 1)):
        marks = [i < correct for i in range(n)]
        draws = list(itertools.combinations(marks, k))
        assert pass_at_k(n, correct, k) == pytest.approx(sum(map(any, draws)) / len(draws))


def verdict(correct: bool = False, thinking: str = "", parsed: bool = True) -> Verdict:
    return Verdict(parsed=parsed, correct=correct, answer="1", thinking=thinking)


def group(*correct: bool, facts: tuple[Fact, ...] = (), thinking: str = "") -> Group:
    verdicts = tuple(verdict(right, thinking, parsed=right) for right in correct)
    return Group(sample=Sample(id="a", question="q", answer="1", facts=facts), verdicts=verdicts)


def test_sampled_figures() -> None:
    groups = [group(*[True] * k, *[False] * (4 - k)) for k in (0, 0, 1, 2, 4)]
    found = sampled_figures(groups, 4)
    values = {name: figure.value for name, figure in found.items()}
    assert values == pytest.approx(
        {
            "pass_at_1": 7 / 20,
            "pass_at_2": (0.5 + 5 / 6 + 1) / 5,
            "pass_at_4": 0.6,
            "sampled_format_rate": 7 / 20,
            "all_wrong": 0.4,
            "all_right": 0.2,
            "mixed": 0.4,
        }
    )
    assert {figure.n for figure in found.values()} == {5}
    assert all(figure.low <= figure.value <= figure.high for figure in found.values())


def test_share_of_true_statements() -> None:
    facts = (Fact("fig", "82"), Fact("oat", "13"))
    groups = [
        group(True, facts=facts, thinking="fig 82, oat 13."),
        group(True, facts=facts, thinking="fig 80."),
        group(True, facts=facts, thinking="I do not know."),
        group(True, thinking="fig 82."),  # nothing is known of this picture
    ]
    found = share_of_true(groups)
    assert (found.value, found.n) == (2 / 3, 3)
    assert found.low < 2 / 3 < found.high
    assert share_of_true([group(True)]).n == 0


# What is asked of a model


class Scripted:
    """A policy whose prompts are texts, so that the answers can be scripted."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, sample: Sample, instruction: str) -> Any:
        self.asked.append(instruction)
        return f"{sample.question} {instruction}"


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> tuple[Scripted, list[tuple[int, bool, int]]]:
    """The policy, and what was sampled: (prompts, greedy, K)."""
    calls: list[tuple[int, bool, int]] = []

    def sample(policy: Any, prompts: Sequence[str], seeds: Sequence[int], config: Any, *, greedy: bool = False) -> list[Any]:
        calls.append((len(prompts), greedy, config.num_generations))
        assert len(set(seeds)) == len(seeds)
        out = []
        for prompt in prompts:
            if "at once" in prompt:
                text, finished = ("5" if "easy" in prompt or "direct" in prompt else "6"), "cut" not in prompt
            else:
                text, finished = f"I see the bar is {'5' if 'easy' in prompt else '7'}. Answer: {'5' if 'easy' in prompt else '7'}", True
            out.append(
                (Completion(text=text, token_ids=tuple(range(len(text))), finished=finished),) * (1 if greedy else config.num_generations)
            )
        return out

    monkeypatch.setattr(hf, "sample", sample)
    return Scripted(), calls


def test_evaluate_asks_both_ways_and_breaks_down_by_kind(scripted: Any) -> None:
    policy, calls = scripted
    words = [("easy", "read"), ("easy", "read"), ("hard direct", "read"), ("hard", "sum"), ("easy cut", "sum"), ("hard", "")]
    samples = [Sample(id=str(k), question=text, answer="5", kind=kind) for k, (text, kind) in enumerate(words)]
    config = build({"task": {"think_prompt": "Think.", "direct_prompt": "Reply at once."}})
    told: list[tuple[str, int, int]] = []
    found = evaluate(policy, samples, config, rules_of(config), k=4, sampled=2, progress=lambda *words: told.append(words))
    assert policy.asked == ["Think."] * 6 + ["Reply at once."] * 6 + ["Think."] * 2
    assert calls == [(6, True, 8), (6, True, 8), (2, False, 4)]
    value = {name: figure["value"] for name, figure in found["metrics"].items()}
    assert (value["think_accuracy"], value["direct_accuracy"]) == (3 / 6, 3 / 6), "an answer that was cut off is not counted"
    assert (value["format_rate"], value["pass_at_1"], value["pass_at_4"]) == (1, 1, 1)
    assert found["metrics"]["pass_at_4"]["n"] == 2
    assert value["mean_length"] == len("I see the bar is 5. Answer: 5")
    assert {
        kind: (f["think_accuracy"]["value"], f["direct_accuracy"]["value"], f["direct_accuracy"]["n"])
        for kind, f in found["by_kind"].items()
    } == {
        "read": (2 / 3, 1.0, 3),
        "sum": (0.5, 0.0, 2),
    }
    example = found["examples"][2]
    assert (example["question"], example["gold"], example["correct"], example["direct"]) == ("hard direct", "5", False, "5")
    assert [what for what, _, _ in told] == ["thinking", "direct", "4 samples each"]
    assert all(done == total for _, done, total in told)


def test_evaluate_without_sampling(scripted: Any) -> None:
    policy, calls = scripted
    found = evaluate(policy, [Sample(id="a", question="easy", answer="5")], Config(), rules_of(Config()), sampled=0)
    assert len(calls) == 2
    assert set(found["metrics"]) == {"think_accuracy", "direct_accuracy", "format_rate", "true_statements", "mean_length"}
    assert found["by_kind"] == {}


def test_evaluation_seeds_belong_to_the_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, set[int]] = {}

    def sample(policy: Any, prompts: Sequence[str], seeds: Sequence[int], config: Any, *, greedy: bool = False) -> list[Any]:
        for prompt, seed in zip(prompts, seeds, strict=True):
            seen.setdefault(prompt, set()).add(seed)
        return [(Completion(text="5", token_ids=(1,)),) * (1 if greedy else config.num_generations)] * len(prompts)

    monkeypatch.setattr(hf, "sample", sample)
    samples = [Sample(id=str(k), question=f"q{k}", answer="5") for k in range(3)]
    for part in (samples, samples[::-1]):
        evaluate(Scripted(), part, Config(), rules_of(Config()))  # type: ignore[arg-type]
    assert all(len(seeds) == 1 for seeds in seen.values())


# Advice


def figures(**changes: float) -> dict[str, float]:
    plain = {"all_wrong": 0.5, "all_right": 0.1, "mixed": 0.4, "sampled_format_rate": 0.5, "direct_accuracy": 0.2, "think_accuracy": 0.3}
    return plain | changes


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "memorizing 50% of prompts, exploring 40% and leaving 10% alone"),
        ({}, "GRPO learns correctness from 40% of prompts only; in the others all 8"),
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
