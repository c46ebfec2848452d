"""Evaluation while training: every `run.eval_every` steps the model is asked the same part of the validation split, by all processes.

Which model is the best, and how many evaluations ago that was, follow from evaluations.jsonl alone, so that a resumed run decides as an
uninterrupted one. An evaluation draws no random numbers and changes no weight: with or without it, a run ends in the same weights.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from dyme.config import Config
from dyme.errors import ConfigError
from dyme.evaluation.items import BATCH_ITEMS, Plan
from dyme.evaluation.run import evaluate
from dyme.rollout.engine import Engine
from dyme.samples import load
from dyme.system.processes import from_main, main_first, state
from dyme.tasks.rules import rules_of
from dyme.tracking.recorder import Recorder
from dyme.training.schedule import Position
from dyme.types import Sample

NAME = "eval"
"""What these evaluations are called in evaluations.jsonl, on the page and in trackers."""


def part_of(config: Config, validation: Sequence[Sample] | None, own: bool) -> list[Sample]:
    """Return the items to ask, in the order of the split: `run.eval_size` of `validation`, or the recipe's validation split; none if off.

    `own`: training samples were given without validation samples, so that the recipe's may be from other data. Raises ConfigError then, and
    DataError if the recipe has no validation data.
    """
    if not config.run.eval_every:
        return []
    if validation is None and own:
        raise ConfigError("run.eval_every needs validation samples; give train() validation=[...] beside samples")
    found = main_first(lambda: load(config, "validation")[0]) if validation is None else validation
    chosen = random.Random(NAME).sample(range(len(found)), min(config.run.eval_size, len(found)))
    return [found[index] for index in sorted(chosen)]


class Validation:
    """The evaluations of a run so far, and the next one."""

    def __init__(self, engine: Engine, config: Config, samples: Sequence[Sample], recorder: Recorder) -> None:
        """Read the evaluations up to the checkpoint of a resumed run from its folder."""
        self.engine, self.config, self.samples, self.recorder = engine, config, samples, recorder
        rows = from_main(recorder.run.evaluations)
        self.values: dict[int, float] = {row["step"]: value_of(row, config) for row in rows if row["name"] == NAME}
        """Step -> the metric that decides which model is best."""

    @property
    def best(self) -> int | None:
        """Return the step after which the model was best, the first one of equals; None without an evaluation."""
        return max(self.values, key=lambda step: (self.values[step], -step), default=None)

    @property
    def best_kept(self) -> dict[str, Any] | None:
        """Return the best model's step, metric and value, if its checkpoint is to be kept, else None."""
        if self.config.run.keep_best == "off" or self.best is None:
            return None
        return {"step": self.best, "metric": self.config.run.best_metric, "value": self.values[self.best]}

    @property
    def exhausted(self) -> bool:
        """Return whether `run.patience` evaluations in a row were no better than an earlier one."""
        patience = self.config.run.patience
        return 0 < patience <= sum(step > (self.best or 0) for step in self.values)

    def after_step(self, position: Position, total: int, *, stopped: bool = False) -> None:
        """Evaluate if an evaluation is due, and record it; a run that is `stopped` evaluates after it is resumed."""
        every = self.config.run.eval_every
        over = position.progress(self.config, total) >= 1
        if stopped or not (self.samples and position.step) or position.step in self.values or (position.step % every and not over):
            return
        items = min(BATCH_ITEMS, math.ceil(self.config.train.prompts_per_step / state().num_processes))  # a rollout takes more memory
        result = evaluate(
            self.engine.policy,
            self.samples,
            self.config,
            rules_of(self.config),
            plan=Plan(sampled=0, batch_items=items),
            engine=self.engine,
        )
        self.values[position.step] = value_of(result, self.config)
        metric, best = self.config.run.best_metric, self.best == position.step
        from_main(lambda: self.recorder.evaluation(position.step, NAME, result, metric, best=best))
        if self.exhausted:
            line = f"the run ends after step {position.step}: no evaluation since that of step {self.best} was better (run.patience)"
            from_main(lambda: self.recorder.note(line))


def value_of(result: dict[str, Any], config: Config) -> float:
    """Return the value of the metric that decides which model is best; without a soft metric, the score is the accuracy."""
    name, metrics = config.run.best_metric, result["metrics"]
    return float(metrics.get(name, metrics.get(name.replace("score", "accuracy")))["value"])
