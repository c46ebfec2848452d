"""Routing: from the verdicts of a group to the branches that the update trains on. The router is the algorithm.

`ROUTERS` holds one entry per method. A method is a sequence of stages, each a small function (group, context) -> Route; SFT,
GRPO, two-stage and DyME then run through one loop, one verifier and one budget. Plain Python, no torch.

The switch looks at binary correctness alone. Shaped reward only enters the advantages (paper, Eq. 2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dyme.config import Config, ObjectiveConfig
from dyme.types import Branch, Group, Route


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a routing function may know besides the group."""

    config: Config
    batch_std: float = 0.0
    """Standard deviation of all rewards of the step, over all processes; used if scale_rewards is "batch"."""
    ungraded: bool = False
    """A checker is yet to replace the thinking rewards of what is explored, so that equal rewards say nothing."""


RoutingFunction = Callable[[Group, Context], Route]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A part of the training budget with one routing rule; each stage has its own optimizer state and schedule."""

    name: str
    route: RoutingFunction
    rolls_out: bool
    share: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """A method: what it is, where it comes from, and its stages for a given recipe."""

    name: str
    summary: str
    source: str
    stages: Callable[[Config], tuple[Stage, ...]]


def advantages(rewards: Sequence[float], objective: ObjectiveConfig, batch_std: float = 0.0) -> list[float]:
    """A_k = (r_k - mean r) / (std r + eps) over one group (paper, Eq. 2); equal rewards give exact zeros.

    `scale_rewards` picks the divisor as in TRL (group, batch, none), `std` population (paper) or sample (reference code).
    """
    mean = math.fsum(rewards) / len(rewards)
    if max(rewards) - min(rewards) < 1e-9:
        return [0.0] * len(rewards)
    centred = [r - mean for r in rewards]
    if objective.scale_rewards == "none":
        return centred
    std = batch_std if objective.scale_rewards == "batch" else standard_deviation(rewards, objective.std)
    return [c / (std + objective.advantage_eps) for c in centred]


def standard_deviation(values: Sequence[float], kind: str) -> float:
    """Population or sample standard deviation; 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - (kind == "sample")))


def memorize(group: Group, context: Context, reason: str = "every prompt is memorized", weight: float = 1.0) -> Route:
    """Imitate the target y* (paper, Eq. 1)."""
    return Route(mode="memorize", branches=(Branch(term="imitate", weight=weight),), reason=reason)


def memorize_weight(config: Config) -> float:
    """Weight of a memorized prompt: 1 by the paper's formula (Eq. 8), 1/K by the reference code's averaging, or the recipe's number."""
    weight = config.method.memorize_weight
    return weight if not isinstance(weight, str) else {"paper": 1.0, "code": 1 / config.rollout.num_generations}[weight]


def explore(group: Group, context: Context) -> Route:
    """The GRPO surrogate on all K completions (paper, Eq. 7); a group without variance has no gradient and is skipped.

    With a KL term (beta > 0) such a group still has one, so it stays; a checker's rewards may still give it one.
    """
    objective = context.config.objective
    scores = advantages([v.reward for v in group.verdicts], objective, context.batch_std)
    if not any(scores) and objective.beta == 0 and not context.ungraded:
        return Route(mode="skip", reason=f"{group.solved} of {len(group.verdicts)} correct, all rewards equal")
    branches = tuple(Branch(term="policy", completion=k, advantage=a) for k, a in enumerate(scores))
    return Route(mode="explore", branches=branches, reason=f"{group.solved} of {len(group.verdicts)} correct")


def dyme(group: Group, context: Context) -> Route:
    """Memorize if no completion is correct, else explore (paper, Eq. 8); all correct: skip or explore, by recipe."""
    if group.solved == 0:
        return memorize(group, context, f"0 of {len(group.verdicts)} correct", memorize_weight(context.config))
    if group.solved == len(group.verdicts) and context.config.method.all_correct == "skip":
        return Route(mode="skip", reason="all correct")
    return explore(group, context)


def _two_stages(config: Config) -> tuple[Stage, ...]:
    share = config.method.sft_share
    return (
        Stage(name="sft", route=memorize, rolls_out=False, share=share),
        Stage(name="grpo", route=explore, rolls_out=True, share=1 - share),
    )


ROUTERS: dict[str, Router] = {
    "sft": Router(
        name="sft",
        summary="imitate the reference trace of every prompt; no rollouts",
        source="paper, Eq. 1",
        stages=lambda config: (Stage(name="sft", route=memorize, rolls_out=False),),
    ),
    "grpo": Router(
        name="grpo",
        summary="reinforce what beats the group's mean reward",
        source="Shao et al., 2024 (arXiv 2402.03300); paper, Eqs. 2 and 7",
        stages=lambda config: (Stage(name="grpo", route=explore, rolls_out=True),),
    ),
    "two_stage": Router(
        name="two_stage",
        summary="SFT, then GRPO with a fresh optimizer; objective.beta > 0 adds a KL term to the SFT model",
        source="paper, Table 1; arXiv 2604.23747 for how to do it right",
        stages=_two_stages,
    ),
    "dyme": Router(
        name="dyme",
        summary="per prompt and step: memorize if all completions are wrong, else explore",
        source="DyME, ICLR 2026 (arXiv 2506.23061), Eq. 8",
        stages=lambda config: (Stage(name="dyme", route=dyme, rolls_out=True),),
    ),
}


def live_branches(route: Route, objective: ObjectiveConfig) -> tuple[Branch, ...]:
    """The branches that carry gradient: zero weights and, without a KL term, zero advantages are left out."""
    return tuple(b for b in route.branches if b.weight != 0 and (b.term == "imitate" or b.advantage != 0 or objective.beta > 0))
