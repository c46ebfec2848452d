"""The figures of a step or of an evaluation under the names that TRL gives them."""

from __future__ import annotations

from collections.abc import Sequence

from dyme.tracking.metrics import completion_figures
from dyme.types import Group


def figures(groups: Sequence[Group], names: Sequence[str]) -> dict[str, float]:
    """Return a step's or an evaluation's figures under TRL's names, and `correct`, the share of correct completions."""
    known = completion_figures(groups)
    verdicts = [verdict for group in groups for verdict in group.verdicts]
    totals = [verdict.reward for verdict in verdicts if verdict.reward == verdict.reward]
    spreads = [_deviation([v.reward for v in group.verdicts if v.reward == v.reward]) for group in groups]
    out = {"reward": _mean(totals), "reward_std": _deviation(totals), "correct": known["accuracy"],
           "frac_reward_zero_std": _mean([float(spread < 1e-8) for spread in spreads])}  # fmt: skip
    for name in names:
        own = [verdict.rewards[name] for verdict in verdicts if name in verdict.rewards]
        out |= {f"rewards/{name}/mean": _mean(own), f"rewards/{name}/std": _deviation(own)}
    lengths = [len(completion.token_ids) for group in groups for completion in group.completions]
    ended = [len(c.token_ids) for group in groups for c in group.completions if c.finished] or [0]
    for word, sizes in (("", lengths), ("terminated_", ended)):
        out |= {f"completions/mean_{word}length": _mean(sizes), f"completions/min_{word}length": float(min(sizes)),
                f"completions/max_{word}length": float(max(sizes))}  # fmt: skip
    return out | {"completions/clipped_ratio": known["truncated"]}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def _deviation(values: Sequence[float]) -> float:
    """Return the sample standard deviation, which TRL logs."""
    mean = _mean(values)
    return (sum((value - mean) ** 2 for value in values) / (len(values) - 1)) ** 0.5 if len(values) > 1 else 0.0
