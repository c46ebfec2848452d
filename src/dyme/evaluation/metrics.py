"""The figures of an evaluation, each with its 95 % interval and its count, from its items.

Questions about one picture, statements of one completion and completions of one prompt are not independent. A share has Wilson's
interval (1927) at its effective number of observations: their number over the design effect (Kish, 1965), the ratio of the
cluster-robust variance to that of independent observations. Residuals are corrected for their leverage as by Bell and McCaffrey (2002),
and few clusters by the ratio of Student quantiles as by Korn and Graubard (1998), with Kish's effective number of clusters. A mean has
the normal interval with the same variance and the same ratio. With one question a picture, both are the plain ones.
`benchmarks/intervals.py` measures how often the intervals hold the true value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from dyme.evaluation.items import STYLES, Item

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
    """Return a share with its Wilson score interval; n = 0 gives the value 0 with the interval [0, 1]."""
    return Figure(successes / n, *_wilson_bounds(successes / n, n), n) if n else Figure(0.0, 0.0, 1.0, 0)


def _wilson_bounds(p: float, n: float) -> tuple[float, float]:
    z2 = Z95**2
    centre, half = (p + z2 / (2 * n)) / (1 + z2 / n), Z95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half))


def clustered(hits: Sequence[float], sizes: Sequence[float]) -> Figure:
    """Return a share of clustered observations: hits[i] of sizes[i] in cluster i; n counts the observations.

    If all observations are hits, or none is, or all clusters have the same share, each cluster counts as one observation.
    """
    total = round(math.fsum(sizes))
    if not total:
        return wilson(0, 0)
    if max(sizes) == 1 and all(hit in (0, 1) for hit in hits):
        return wilson(round(math.fsum(hits)), total)
    ratio = math.fsum(hits) / total
    variance, fewer = _variance(hits, sizes, ratio)
    apart = ratio * (1 - ratio) / max(1, total - 1)
    effective = min(total, total * apart / variance / fewer**2) if variance > 1e-12 else sum(s > 0 for s in sizes)
    return Figure(ratio, *_wilson_bounds(ratio, effective), total)


def _variance(sums: Sequence[float], sizes: Sequence[float], ratio: float) -> tuple[float, float]:
    """Return the cluster-robust variance of a ratio of sums to sizes, and the factor that widens an interval of few clusters."""
    total = math.fsum(sizes)
    if max(sizes) >= total:
        return 0.0, 1.0
    variance = math.fsum((x - ratio * s) ** 2 / (1 - s / total) for x, s in zip(sums, sizes, strict=True)) / total**2
    clusters = total**2 / math.fsum(s * s for s in sizes)
    return variance, t95(max(1, int(clusters - 1 + 1e-9))) / t95(max(1, round(total) - 1))


@lru_cache(maxsize=1024)
def t95(freedom: int) -> float:
    """Return the two-sided 95 % quantile of Student's t, to 0.005 (Abramowitz and Stegun, 26.7.5; exact for 1 and 2 degrees of freedom)."""
    if freedom < 3:
        return (12.706204736432095, 4.302652729911275)[freedom - 1]
    z, v = Z95, freedom
    return (
        z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )  # fmt: skip


def mean(values: Sequence[float], clusters: Sequence[str] = ()) -> Figure:
    """Return a mean with its normal interval; clusters[i] names the cluster of value i, "" for one of its own, as without `clusters`."""
    n = len(values)
    if n == 0:
        return Figure(0.0, 0.0, 0.0, 0)
    centre = math.fsum(values) / n
    variance, wider = _variance(*_summed(values, [1.0] * n, clusters), centre)
    half = Z95 * wider * math.sqrt(variance)
    return Figure(centre, centre - half, centre + half, n)


def mean_score(scores: Sequence[float], clusters: Sequence[str] = ()) -> Figure:
    """Return the mean of scores in [0, 1], with a share's interval if all are 0 or 1, else the normal interval cut to [0, 1]."""
    if all(score in (0, 1) for score in scores):
        return share(scores, clusters=clusters)
    found = mean(scores, clusters)
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def share(hits: Sequence[float], sizes: Sequence[float] = (), clusters: Sequence[str] = ()) -> Figure:
    """Return the share of hits[i] in sizes[i] observations (default: one), as `clustered` does; clusters[i] is as for `mean`."""
    return clustered(*_summed(hits, sizes or [1.0] * len(hits), clusters))


def _summed(values: Sequence[float], sizes: Sequence[float], clusters: Sequence[str]) -> tuple[list[float], list[float]]:
    """Return the sums of values and of sizes by cluster."""
    sums: dict[str | int, list[float]] = {}
    for k, (value, size, name) in enumerate(zip(values, sizes, clusters or [""] * len(values), strict=True)):
        own = sums.setdefault(name or k, [0.0, 0.0])
        own[0] += value
        own[1] += size
    return [value for value, _ in sums.values()], [size for _, size in sums.values()]


def pass_at_k(n: int, correct: int, k: int) -> float:
    """Return the unbiased estimate of the chance that k of n completions hold a correct one (Chen et al., 2021, arXiv 2107.03374)."""
    return 1.0 if n - correct < k else 1 - math.comb(n - correct, k) / math.comb(n, k)


def figures(items: Sequence[Item]) -> dict[str, Any]:
    """Compute all figures of a model from the items of a split, in order, asked to think, to answer at once, or both ways.

    Returns {"metrics": name -> Figure as a dict, "by_kind": ..., "by_answer_kind": ..., "examples": [...]}, ready for JSON.
    """
    asked = {style: [i for i in items if i.prompt == style] for style in STYLES}
    found = {f"{style}_accuracy": _accuracy(own) for style, own in asked.items() if own}
    if any(i.answer_kind in SOFT or i.score != i.correct for i in items):
        found |= {f"{style}_score": _score(own) for style, own in asked.items() if own}
    if thought := asked["think"]:
        found |= format_figures(thought) | sampled_figures(thought)
    if direct := asked["direct"]:
        found["direct_truncated"] = _share(direct, [not i.finished for i in direct])
    return {
        "metrics": {name: asdict(figure) for name, figure in found.items()},
        "by_kind": {kind: _of_kind([i for i in items if i.kind == kind]) for kind in sorted({i.kind for i in items}) if kind},
        "by_answer_kind": by_answer_kind(items),
        "examples": _examples(items),
    }


def format_figures(thought: Sequence[Item]) -> dict[str, Figure]:
    """Return the figures of thinking completions: in the format, cut off, finished in no format (these add up to 1); truth, length."""
    stated = [i for i in thought if i.statements]
    true, made = ([i.statements[k] for i in stated if i.statements] for k in (0, 1))
    return {
        "format_rate": _share(thought, [i.parsed for i in thought]),
        "truncated": _share(thought, [not i.finished for i in thought]),
        "unparsed": _share(thought, [i.finished and not i.parsed for i in thought]),
        "true_statements": _share(stated, true, made),
        "mean_length": mean([i.tokens for i in thought], _pictures(thought)),
    }


def sampled_figures(thought: Sequence[Item]) -> dict[str, Figure]:
    """Return pass@1, 2, 4, ... k, format rate, and shares of all-wrong, mixed and all-right prompts of k samples; n counts prompts."""
    asked = [i for i in thought if i.sampled]
    drawn = [i.sampled for i in asked if i.sampled]
    if not drawn:
        return {}
    n, k = len(drawn), drawn[0].samples

    def of_samples(hits: Sequence[float]) -> Figure:
        return replace(_share(asked, hits, [k] * n), n=n)

    passed = {j: of_samples([k * pass_at_k(k, d.correct, j) for d in drawn]) for j in (1, 2, 4, 8, 16, 32, 64) if j < k}
    return {
        **{f"pass_at_{j}": figure for j, figure in passed.items()},
        f"pass_at_{k}": _share(asked, [d.correct > 0 for d in drawn]),
        "sampled_format_rate": of_samples([d.parsed for d in drawn]),
        "all_wrong": _share(asked, [d.correct == 0 for d in drawn]),
        "all_right": _share(asked, [d.correct == k for d in drawn]),
        "mixed": _share(asked, [0 < d.correct < k for d in drawn]),
    }


def by_answer_kind(items: Sequence[Item]) -> dict[str, dict[str, Any]]:
    """Return accuracy, and the score of soft metrics, by answer kind; empty if the split has one kind.

    If some answers are open, "closed" sums up all others, because medical papers report closed accuracy and open recall.
    """
    kinds = sorted({i.answer_kind for i in items})
    if len(kinds) < 2:
        return {}
    groups = {kind: [i for i in items if i.answer_kind == kind] for kind in kinds}
    closed = [kind for kind in kinds if kind not in SOFT]
    if "open" in kinds and len(closed) > 1:
        groups = {"closed": [i for i in items if i.answer_kind in closed]} | groups
    return {kind: _accuracies(own) | (_scores(own) if kind in SOFT else {}) for kind, own in groups.items()}


def _pictures(items: Sequence[Item]) -> list[str]:
    return [i.picture for i in items]


def _share(items: Sequence[Item], hits: Sequence[float], sizes: Sequence[float] = ()) -> Figure:
    """Return a share of the items' observations, clustered by picture."""
    return share(hits, sizes, _pictures(items))


def _score(items: Sequence[Item]) -> Figure:
    return mean_score([i.score for i in items], _pictures(items))


def _accuracy(items: Sequence[Item]) -> Figure:
    return _share(items, [i.correct for i in items])


def _accuracies(items: Sequence[Item]) -> dict[str, Any]:
    return {f"{s}_accuracy": asdict(_accuracy(own)) for s in STYLES if (own := [i for i in items if i.prompt == s])}


def _of_kind(items: Sequence[Item]) -> dict[str, Any]:
    """Return the accuracies of items of one type of question, and pass@K of those that were sampled."""
    passed = [(name, f) for name, f in sampled_figures([i for i in items if i.prompt == "think"]).items() if name.startswith("pass_at_")]
    return _accuracies(items) | {name: asdict(figure) for name, figure in passed[-1:]}


def _scores(items: Sequence[Item]) -> dict[str, Any]:
    return {f"{s}_score": asdict(_score(own)) for s in STYLES if (own := [i for i in items if i.prompt == s])}


def _examples(items: Sequence[Item]) -> list[dict[str, Any]]:
    """Return the first items as examples: the thinking completion if there is one, and the direct one."""
    shown: dict[int, dict[str, Item]] = {}
    for item in items:
        if item.index in shown or len(shown) < EXAMPLES:
            shown.setdefault(item.index, {})[item.prompt] = item
    return [_example(styles) for styles in shown.values()]


def _example(styles: Mapping[str, Item]) -> dict[str, Any]:
    first, direct = next(styles[s] for s in STYLES if s in styles), styles.get("direct")
    own = {"id": first.id, "question": first.question, "gold": first.gold, "completion": first.completion, "correct": first.correct}
    return own | ({"direct": direct.completion} if direct and direct is not first else {})
