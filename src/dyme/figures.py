"""The figures of an evaluation, each with its 95 % interval and its count, from its items.

Shares have Wilson score intervals, means normal ones. Observations that are not independent (the statements of one
completion, the completions of one prompt) count as their effective number (Kish, 1965).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from dyme.items import STYLES, Drawn, Item

Z95 = 1.959963984540054
SOFT = ("open", "vqa")
"""Answer kinds whose metric is soft: recall of open answers, VQA accuracy; all others are closed."""
EXAMPLES = 20


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


def mean_score(scores: Sequence[float]) -> Figure:
    """The mean of scores in [0, 1]; Wilson's interval where all are 0 or 1, else the normal one, kept within [0, 1]."""
    if all(score in (0, 1) for score in scores):
        return wilson(round(sum(scores)), len(scores))
    found = mean(scores)
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Unbiased estimate of the chance that k of n samples hold a correct one (Chen et al., 2021, arXiv 2107.03374)."""
    return 1.0 if n - correct < k else 1 - math.comb(n - correct, k) / math.comb(n, k)


def figures(items: Sequence[Item]) -> dict[str, Any]:
    """All figures of a model from the items of a split, in order, asked to think, to answer at once, or both ways.

    Returns {"metrics": name -> Figure as a dict, "by_kind": ..., "by_answer_kind": ..., "examples": [...]}, ready for JSON.
    """
    asked = {style: [i for i in items if i.prompt == style] for style in STYLES}
    found = {f"{style}_accuracy": _accuracy(own) for style, own in asked.items() if own}
    if any(i.answer_kind in SOFT or i.score not in (0, 1) for i in items):
        found |= {f"{style}_score": mean_score([i.score for i in own]) for style, own in asked.items() if own}
    if thought := asked["think"]:
        drawn = [i.sampled for i in thought if i.sampled]
        found |= format_figures(thought) | (sampled_figures(drawn) if drawn else {})
    if direct := asked["direct"]:
        found["direct_truncated"] = wilson(sum(not i.finished for i in direct), len(direct))
    return {
        "metrics": {name: asdict(figure) for name, figure in found.items()},
        "by_kind": {kind: _accuracies([i for i in items if i.kind == kind]) for kind in sorted({i.kind for i in items}) if kind},
        "by_answer_kind": by_answer_kind(items),
        "examples": _examples(items),
    }


def format_figures(thought: Sequence[Item]) -> dict[str, Figure]:
    """Of completions that were told to think: in the format, cut off, or finished in no format (the three are all); truth, length."""
    n, stated = len(thought), [i.statements for i in thought if i.statements]
    return {
        "format_rate": wilson(sum(i.parsed for i in thought), n),
        "truncated": wilson(sum(not i.finished for i in thought), n),
        "unparsed": wilson(sum(i.finished and not i.parsed for i in thought), n),
        "true_statements": clustered([true for true, _ in stated], [number for _, number in stated]),
        "mean_length": mean([i.tokens for i in thought]),
    }


def sampled_figures(drawn: Sequence[Drawn]) -> dict[str, Figure]:
    """pass@1, 2, 4, ... k, format rate and the shares of all-wrong, mixed and all-right prompts, k samples each; n counts prompts."""
    n, k = len(drawn), drawn[0].samples

    def share(hits: Sequence[float]) -> Figure:
        return replace(clustered(hits, [k] * n), n=n)

    passed = {j: share([k * pass_at_k(k, d.correct, j) for d in drawn]) for j in (1, 2, 4, 8, 16, 32, 64) if j < k}
    return {
        **{f"pass_at_{j}": figure for j, figure in passed.items()},
        f"pass_at_{k}": wilson(sum(d.correct > 0 for d in drawn), n),
        "sampled_format_rate": share([d.parsed for d in drawn]),
        "all_wrong": wilson(sum(d.correct == 0 for d in drawn), n),
        "all_right": wilson(sum(d.correct == k for d in drawn), n),
        "mixed": wilson(sum(0 < d.correct < k for d in drawn), n),
    }


def by_answer_kind(items: Sequence[Item]) -> dict[str, dict[str, Any]]:
    """Accuracy, and the score of soft metrics, by how answers are compared, if that differs within the split.

    Where some answers are open, "closed" sums up all that are not, for medical papers report closed accuracy and open recall.
    """
    kinds = sorted({i.answer_kind for i in items})
    if len(kinds) < 2:
        return {}
    groups = {kind: [i for i in items if i.answer_kind == kind] for kind in kinds}
    closed = [kind for kind in kinds if kind not in SOFT]
    if "open" in kinds and len(closed) > 1:
        groups = {"closed": [i for i in items if i.answer_kind in closed]} | groups
    return {kind: _accuracies(own) | (_scores(own) if kind in SOFT else {}) for kind, own in groups.items()}


def _accuracy(items: Sequence[Item]) -> Figure:
    return wilson(sum(i.correct for i in items), len(items))


def _accuracies(items: Sequence[Item]) -> dict[str, Any]:
    return {f"{s}_accuracy": asdict(_accuracy(own)) for s in STYLES if (own := [i for i in items if i.prompt == s])}


def _scores(items: Sequence[Item]) -> dict[str, Any]:
    return {f"{s}_score": asdict(mean_score([i.score for i in own])) for s in STYLES if (own := [i for i in items if i.prompt == s])}


def _examples(items: Sequence[Item]) -> list[dict[str, Any]]:
    """The first items: the completion that was told to think, else the direct one, and the direct one beside it."""
    shown: dict[int, dict[str, Item]] = {}
    for item in items:
        if item.index in shown or len(shown) < EXAMPLES:
            shown.setdefault(item.index, {})[item.prompt] = item
    return [_example(styles) for styles in shown.values()]


def _example(styles: Mapping[str, Item]) -> dict[str, Any]:
    first, direct = next(styles[s] for s in STYLES if s in styles), styles.get("direct")
    own = {"id": first.id, "question": first.question, "gold": first.gold, "completion": first.completion, "correct": first.correct}
    return own | ({"direct": direct.completion} if direct and direct is not first else {})
