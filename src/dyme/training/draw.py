"""The steps of a run: drawn (samples, rollouts, verdicts, routes, helpers set to work on what was routed), and summed up in the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from math import isnan

from accelerate import Accelerator
from accelerate.utils import gather_object

from dyme.config import Config
from dyme.methods import Context, Stage
from dyme.methods.advantages import standard_deviation
from dyme.methods.routes import settle
from dyme.model.policy import Policy
from dyme.model.tree import Prompt
from dyme.rollout import hf
from dyme.supervise.supervisor import Supervisor
from dyme.system.ahead import Ahead
from dyme.system.processes import together
from dyme.tasks.rules import rules_of
from dyme.tracking.metrics import completion_figures, figures, mode_shares
from dyme.training import checkpoint, schedule
from dyme.training.schedule import Position
from dyme.training.setup import Host
from dyme.types import Group, Route, Sample, StepRecord
from dyme.verify.rewards import Rewards, check_first
from dyme.verify.rules import verify_group
from dyme.verify.verifier import FAILED


@dataclass(frozen=True, slots=True)
class Work:
    """A step that was sampled, with helpers at work on its groups."""

    stage: Stage
    prompts: list[Prompt]
    routes: list[Route]
    """What the stage decided for each group, its advantages still open."""
    helped: list[Future[Group]]
    size: int
    """Prompts over all processes."""
    seconds: float


@dataclass(frozen=True, slots=True)
class Sampler:
    """Draws the steps of a run: samples, rollouts, verdicts, routes; then the helpers are at work."""

    policy: Policy
    supervisor: Supervisor
    config: Config
    samples: Sequence[Sample]
    accelerator: Accelerator
    encoder: Ahead[Sample, Prompt]
    host: Host
    rewards: Rewards

    def draw(self, position: Position, stage: Stage, keep: Sequence[Prompt] = ()) -> Work:
        """The step at a position; this process samples its share of the prompts. `keep` are those of a step that is not updated yet."""
        started, config = time.perf_counter(), self.config
        share, seeds = self._share(position)
        following = self._share(position.advance(config.train.prompts_per_step, 0.0))[0]
        prompts = together(lambda: self.encoder.take(share, [sample for sample in following if sample.images]))
        rolled = roll_out(self.policy, prompts, share, seeds, stage, config, keep)
        groups = self.host.grade(rolled, self._grade if stage.rolls_out else list)
        routes = routes_of(groups, stage, config)
        helped = self.supervisor.start(groups, routes, position.step)
        return Work(stage, prompts, routes, helped, config.train.prompts_per_step, time.perf_counter() - started)

    def _grade(self, groups: Sequence[Group]) -> list[Group]:
        """Groups with the verdicts of the recipe's verifier, and the user's rewards.

        Raises RunError if a function of the user's fails each time in the first step.
        """
        rules = rules_of(self.config)
        judged = [verify_group(group, rules) for group in groups]
        if not (self.rewards.functions or rules.verifier):
            return judged
        judged = together(lambda: self.rewards.earn(judged))
        if self.rewards.first:
            self.rewards.first = False
            check_first(gather_object([self.rewards.asked(judged)]), self.config.run.output)
        return judged

    def _share(self, position: Position) -> tuple[list[Sample], list[int]]:
        """This process's samples of the step at a position, with the seeds of their rollouts; one that comes again has another seed."""
        batch = list(schedule.next_samples(self.samples, position, self.config))
        seen: Counter[str] = Counter()
        seeds = []
        for sample in batch:
            again = (seen[sample.id],) if seen[sample.id] else ()
            seeds.append(hf.seed_of(self.config.run.seed, position.step, sample.id, *again))
            seen[sample.id] += 1
        first, every = self.accelerator.process_index, self.accelerator.num_processes
        return batch[first::every], seeds[first::every]

    def ahead(self, position: Position, work: Work, stages: Sequence[Stage], total: int) -> Work | None:
        """The step after `work`, drawn while helpers work on that; None at the end of a stage, and where a checkpoint comes between.

        Under `max_seconds` a stage can end while it is drawn: it is of no use then.
        """
        settings = self.config.supervision
        if not (settings.remote and settings.overlap) or checkpoint.due(self.config, position):
            return None
        over = position.progress(self.config, total) >= 1 or schedule.stage_at(position, self.config, total, stages) is not work.stage
        return None if over else self.draw(position, work.stage, work.prompts)


def roll_out(
    policy: Policy, prompts: Sequence[Prompt], samples: Sequence[Sample], seeds: Sequence[int], stage: Stage, config: Config,
    keep: Sequence[Prompt] = (),
) -> list[Group]:  # fmt: skip
    """A group per sample; empty groups for a stage that does not roll out."""
    if not stage.rolls_out:
        return [Group(sample=sample) for sample in samples]
    completions = hf.sample(policy, prompts, seeds, config.rollout, keep=keep)
    return [Group(sample=sample, completions=own) for sample, own in zip(samples, completions, strict=True)]


def routes_of(groups: Sequence[Group], stage: Stage, config: Config) -> list[Route]:
    """The stage's decision on each group; one on whose answers a user's verifier failed is skipped: nothing is known of it."""
    context = Context(config=config)
    return [stage.route(group, context) if group.judged else Route(mode="skip", reason=FAILED) for group in groups]


def settled(routes: Sequence[Route], groups: Sequence[Group], config: Config) -> list[Route]:
    """The routes with the advantages of their groups' rewards; these may be scaled by the deviation over all processes' rewards."""
    spread = 0.0
    if config.objective.scale_rewards == "batch":
        known = [v.reward for g in groups if g.judged for v in g.verdicts if not isnan(v.reward)]
        spread = standard_deviation(gather_object(known), config.objective.std)
    return [settle(route, group, config.objective, spread) for route, group in zip(routes, groups, strict=True)]


def summarize(position: Position, everyone: Sequence[tuple[Group, Route]], metrics: Mapping[str, float], size: int) -> StepRecord:
    """The figures of the step that led to `position`, over all processes; `size` is the number of training samples."""
    groups, routes = [g for g, _ in everyone], [r for _, r in everyone]
    shares = {f"share_{mode}": share for mode, share in mode_shares(routes).items()}
    return StepRecord(
        step=position.step, prompts=position.prompts, epoch=position.prompts / size, seconds=position.seconds,
        metrics={**metrics, **shares, **completion_figures(groups), **figures(groups)},
    )  # fmt: skip
