"""Evaluation: every figure with its 95 % interval and its count, from the same verifier that training uses.

Shares have Wilson score intervals, means normal ones. Observations that are not independent (the statements of one
completion, the completions of one prompt) count as their effective number (Kish, 1965). Accuracy when told to think and when
told to answer at once are always both reported, for a small model often does better without thinking.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dyme.config import Config
from dyme.policy import Policy
from dyme.rollout import hf
from dyme.types import Completion, Group, Sample
from dyme.verify.rules import Rules, judge_direct, verify_group
from dyme.verify.thinking import true_statements

Z95 = 1.959963984540054
Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its 95 % interval and the number of observations behind it."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: int, n: int) -> Figure:
    """A share with its Wilson score interval; n = 0 gives the empty statement 0 in [0, 1]."""
    return Figure(successes / n, *_wilson_bounds(successes / n, n), n) if n else Figure(0.0, 0.0, 1.0, 0)


def _wilson_bounds(p: float, n: float) -> tuple[float, float]:
    z2 = Z95**2
    centre, half = (p + z2 / (2 * n)) / (1 + z2 / n), Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def clustered(hits: Sequence[float], sizes: Sequence[int]) -> Figure:
    """A share of observations that come in clusters: hits[i] of sizes[i] in cluster i; n counts the observations.

    The interval is Wilson's at the number of independent observations that would have the same variance, which is that of a
    ratio estimate over clusters; where it is 0, each cluster counts as one observation.
    """
    n, total = len(sizes), sum(sizes)
    if not total:
        return wilson(0, 0)
    ratio = math.fsum(hits) / total
    variance = math.fsum((h - ratio * s) ** 2 for h, s in zip(hits, sizes, strict=True)) * n / max(1, n - 1) / total**2
    effective = min(total, ratio * (1 - ratio) / variance) if variance > 1e-12 else sum(s > 0 for s in sizes)
    return Figure(ratio, *_wilson_bounds(ratio, effective), total)


def mean(values: Sequence[float]) -> Figure:
    """A mean with its normal interval."""
    n = len(values)
    if n == 0:
        return Figure(0.0, 0.0, 0.0, 0)
    centre = math.fsum(values) / n
    spread = math.sqrt(math.fsum((v - centre) ** 2 for v in values) / max(1, n - 1) / n)
    return Figure(centre, centre - Z95 * spread, centre + Z95 * spread, n)


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased estimate of the chance that k of n samples hold a correct one (Chen et al., 2021, arXiv 2107.03374)."""
    return 1.0 if n - correct < k else 1 - math.comb(n - correct, k) / math.comb(n, k)


def share_of_true(groups: Sequence[Group]) -> Figure:
    """Share of the statements in the thinking that are true of the facts; the interval treats each completion as one cluster."""
    counts = [true_statements(v.thinking, g.sample.facts) for g in groups if g.sample.facts for v in g.verdicts]
    return clustered([true for true, _ in counts], [stated for _, stated in counts])


def answer(policy: Policy, samples: Sequence[Sample], config: Config, instruction: str, *, greedy: bool, progress: Progress | None = None,
           what: str = "") -> list[tuple[Completion, ...]]:  # fmt: skip
    """Completions for each sample: one greedy, or K sampled with seeds of their own."""
    out: list[tuple[Completion, ...]] = []
    chunk = 64
    for start in range(0, len(samples), chunk):
        part = samples[start : start + chunk]
        prompts = [policy.encode(sample, instruction) for sample in part]
        seeds = [hf.seed_of("evaluation", config.run.seed, sample.id) for sample in part]
        out += hf.sample(policy, prompts, seeds, config.rollout, greedy=greedy)
        if progress:
            progress(what, start + len(part), len(samples))
    return out


def evaluate(policy: Policy, samples: Sequence[Sample], config: Config, rules: Rules, *, k: int = 8, sampled: int = 300,
             progress: Progress | None = None) -> dict[str, Any]:  # fmt: skip
    """All figures of a model on `samples`; pass@1, 2, 4, ... k come from k samples for each of the first `sampled` ones.

    Returns {"metrics": name -> Figure as a dict, "by_kind": ..., "examples": [...]}, ready for JSON.
    """
    thought = answer(policy, samples, config, config.task.think_prompt, greedy=True, progress=progress, what="thinking")
    groups = [verify_group(Group(sample=s, completions=c), rules) for s, c in zip(samples, thought, strict=True)]
    verdicts = [g.verdicts[0] for g in groups]
    direct = answer(policy, samples, config, config.task.direct_prompt, greedy=True, progress=progress, what="direct")
    right = [c[0].finished and judge_direct(c[0].text, s, rules).correct for s, c in zip(samples, direct, strict=True)]
    n = len(samples)
    figures = {
        "think_accuracy": wilson(sum(v.correct for v in verdicts), n),
        "direct_accuracy": wilson(sum(right), n),
        "format_rate": wilson(sum(v.parsed for v in verdicts), n),
        "true_statements": share_of_true(groups),
        "mean_length": mean([len(c[0].token_ids) for c in thought]),
    }
    if k >= 2 and sampled:
        several = replace(config, rollout=replace(config.rollout, num_generations=k))
        part = samples[:sampled]
        drawn = answer(policy, part, several, config.task.think_prompt, greedy=False, progress=progress, what=f"{k} samples each")
        tried = [verify_group(Group(sample=s, completions=c), rules) for s, c in zip(part, drawn, strict=True)]
        figures |= sampled_figures(tried, k)
    kinds = sorted({s.kind for s in samples})
    by_kind = {
        kind: {"think_accuracy": _share([v.correct for v, s in zip(verdicts, samples, strict=True) if s.kind == kind]),
               "direct_accuracy": _share([r for r, s in zip(right, samples, strict=True) if s.kind == kind])}
        for kind in kinds if kind
    }  # fmt: skip
    examples = [_example(g, d[0].text) for g, d in zip(groups[:20], direct[:20], strict=True)]
    return {"metrics": {name: asdict(f) for name, f in figures.items()}, "by_kind": by_kind, "examples": examples}


def sampled_figures(groups: Sequence[Group], k: int) -> dict[str, Figure]:
    """pass@1, 2, 4, ... k, format rate and the shares of all-wrong, mixed and all-right prompts among groups of k; n counts prompts."""
    n = len(groups)

    def share(hits: Sequence[float]) -> Figure:
        return replace(clustered(hits, [k] * n), n=n)

    drawn = {j: share([k * pass_at_k(k, g.solved, j) for g in groups]) for j in (1, 2, 4, 8, 16, 32, 64) if j < k}
    return {
        **{f"pass_at_{j}": figure for j, figure in drawn.items()},
        f"pass_at_{k}": wilson(sum(g.solved > 0 for g in groups), n),
        "sampled_format_rate": share([sum(v.parsed for v in g.verdicts) for g in groups]),
        "all_wrong": wilson(sum(g.solved == 0 for g in groups), n),
        "all_right": wilson(sum(g.solved == len(g.verdicts) for g in groups), n),
        "mixed": wilson(sum(0 < g.solved < len(g.verdicts) for g in groups), n),
    }


def _share(values: Sequence[bool]) -> dict[str, float]:
    return asdict(wilson(sum(values), len(values)))


def _example(group: Group, direct: str) -> dict[str, Any]:
    return {
        "id": group.sample.id,
        "question": group.sample.question,
        "gold": group.sample.answer,
        "completion": group.completions[0].text,
        "correct": group.verdicts[0].correct,
        "direct": direct,
    }
