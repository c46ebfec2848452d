"""Where a run stands in its budget, which samples come next, and at what learning rate; all of it a function of the position,
so that a resumed run continues exactly where it stopped."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dyme.config import Config
from dyme.methods import Stage
from dyme.types import Sample, StepRecord

Sampled = tuple[int, int]
"""Completions of a step and their tokens, over all processes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The work done so far: steps, prompts, seconds of training, completions and tokens; and the start of the current stage."""

    step: int = 0
    prompts: int = 0
    seconds: float = 0.0
    stage: int = -1
    stage_step: int = 0
    completions: int = 0
    """Completions sampled, in all draws, over all processes."""
    sampled_tokens: int = 0
    """Tokens of these completions."""
    trained_tokens: int = 0
    """Tokens that updates have read, as metrics.jsonl counts them."""
    unsampled: int = 0
    """Prompts of stages that sample nothing."""

    def progress(self, config: Config, total: int) -> float:
        """Return the share of the budget used, in [0, 1]: of `total` prompts, of completions or tokens, or of max_seconds, whichever is
        largest. For completions, a prompt of a stage that samples nothing counts as K.
        """
        train = config.train
        parts = [
            (self.prompts, total),
            (self.completions + config.rollout.num_generations * self.unsampled, train.max_completions),
            (self.sampled_tokens + self.trained_tokens, train.max_tokens),
            (self.seconds, train.max_seconds),
        ]
        return min(1.0, max(used / most for used, most in parts if most))

    def enter(self, stage: int) -> Position:
        """Return the position at the start of a stage."""
        return replace(self, stage=stage, stage_step=0)

    def advance(self, prompts: int, seconds: float, sampled: Sampled | None = None, trained_tokens: int = 0) -> Position:
        """Return the position after a step, which `sampled` so much; None: its stage samples nothing."""
        completions, tokens = sampled or (0, 0)
        return replace(
            self, step=self.step + 1, stage_step=self.stage_step + 1, prompts=self.prompts + prompts, seconds=self.seconds + seconds,
            completions=self.completions + completions, sampled_tokens=self.sampled_tokens + tokens,
            trained_tokens=self.trained_tokens + trained_tokens, unsampled=self.unsampled + (0 if sampled else prompts),
        )  # fmt: skip

    def counted(self, steps: Sequence[StepRecord]) -> Position:
        """Return the position with the counts of the steps that led to it, for a checkpoint of a version that did not keep them."""
        own = [record for record in steps if record.step <= self.step]
        drawn = [record.metrics for record in own if record.metrics.get("completion_length")]
        prompts = [later.prompts - earlier for later, earlier in zip(own, [0, *(record.prompts for record in own)], strict=False)]
        return replace(
            self,
            completions=sum(round(m["rollout_tokens"] / m["completion_length"]) for m in drawn),
            sampled_tokens=sum(int(m["rollout_tokens"]) for m in drawn),
            trained_tokens=sum(int(record.metrics["trained_tokens"]) for record in own),
            unsampled=sum(n for n, record in zip(prompts, own, strict=True) if "completion_length" not in record.metrics),
        )


def budget(config: Config, size: int) -> int:
    """Return the prompts to train on: max_prompts, or num_train_epochs over `size` samples; 0 if another budget limits the run alone."""
    train = config.train
    if train.max_prompts:
        return train.max_prompts
    return 0 if train.max_completions or train.max_tokens or train.max_seconds else math.ceil(train.num_train_epochs * size)


def next_samples(samples: Sequence[Sample], position: Position, config: Config) -> Iterator[Sample]:
    """Yield the samples from a position on: each epoch is a new permutation, drawn from seed and epoch, unless the order is kept."""
    orders: dict[int, list[int]] = {}
    for k in range(position.prompts, position.prompts + config.train.prompts_per_step):
        epoch, place = divmod(k, len(samples))
        if epoch not in orders:
            orders[epoch] = list(range(len(samples)))
            if config.train.shuffle:
                random.Random(f"{config.run.seed}:{epoch}").shuffle(orders[epoch])
        yield samples[orders[epoch][place]]


def stage_index(progress: float, stages: Sequence[Stage[Any]]) -> int:
    """Return the index of the stage that `progress` falls into; stages without a share are skipped."""
    end = 0.0
    for index, stage in enumerate(stages):
        end += stage.share
        if progress < end - 1e-9:
            return index
    return len(stages) - 1


def stage_at(position: Position, config: Config, total: int, stages: Sequence[Stage[Any]]) -> Stage[Any]:
    """Return the stage that a position falls into."""
    return stages[stage_index(position.progress(config, total), stages)]


def learning_rate(config: Config, position: Position, total: int, stages: Sequence[Stage[Any]]) -> float:
    """Return the learning rate: linear warm-up over `warmup_steps`, then decay over the stage's own share of the budget."""
    before = sum(stage.share for stage in stages[: position.stage])
    done = (position.progress(config, total) - before) / max(stages[position.stage].share, 1e-9)
    left = 1 - max(0.0, min(1.0, done))
    shape = {"linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left)), "constant": 1.0}[config.train.lr_scheduler_type]
    peak = stages[position.stage].learning_rate or config.train.learning_rate
    return peak * shape * min(1.0, (position.stage_step + 1) / (config.train.warmup_steps + 1))
