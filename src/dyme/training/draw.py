"""The steps of a run: drawing one (samples, rollouts, verdicts, routes, start of the helpers on the routed groups), and its summary."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from math import isnan
from typing import Any, TypeVar

from accelerate import Accelerator
from accelerate.utils import gather_object

from dyme import targets
from dyme.config import Config
from dyme.methods import Context, Stage, asking
from dyme.methods.advantages import standard_deviation
from dyme.methods.state import MethodState
from dyme.model.policy import Policy
from dyme.model.tree import Prompt
from dyme.rollout.engine import Engine
from dyme.rollout.hf import seed_of
from dyme.supervise.self_refiner import Asked
from dyme.supervise.supervisor import Supervisor
from dyme.system.ahead import Ahead
from dyme.system.processes import together
from dyme.tasks.rules import rules_of
from dyme.tracking.metrics import completion_figures, figures, mode_shares
from dyme.training import checkpoint, schedule
from dyme.training.schedule import Position, Sampled
from dyme.training.setup import Host
from dyme.types import Completion, Group, Route, Sample, StepRecord
from dyme.verify.rewards import Rewards, check_first
from dyme.verify.rules import verify_group
from dyme.verify.verifier import FAILED

Item = TypeVar("Item")
Value = TypeVar("Value")
_NONE: Any = object()


@dataclass(frozen=True, slots=True)
class Work:
    """A sampled step, with helpers at work on its groups."""

    stage: Stage[Any]
    prompts: list[Prompt]
    routes: list[Route]
    """The stage's route for each group; advantages are still open."""
    context: Context[Any]
    """The context in which the stage routed the step."""
    helped: list[Future[Group]]
    size: int
    """Number of prompts over all processes."""
    sampled: Sampled | None
    """Completions that were sampled, and their tokens; None for a stage that samples nothing."""
    seconds: float

    def after(self, position: Position, seconds: float = 0.0, trained_tokens: float = 0.0) -> Position:
        """Return the position after the step, which took so long and trained on so many tokens."""
        return position.advance(self.size, seconds, self.sampled, int(trained_tokens))


@dataclass(frozen=True, slots=True)
class Sampler:
    """Draws the steps of a run: samples, rollouts, verdicts, routes; then starts the helpers."""

    engine: Engine
    supervisor: Supervisor
    mind: MethodState
    config: Config
    samples: Sequence[Sample]
    accelerator: Accelerator
    encoder: Ahead[Sample, Prompt]
    host: Host
    rewards: Rewards

    @property
    def policy(self) -> Policy:
        """Return the policy whose completions the engine samples."""
        return self.engine.policy

    def draw(self, position: Position, stage: Stage[Any], keep: Sequence[Prompt] = ()) -> Work:
        """Return the step at a position, of which this process samples its share; `keep` are prompts of a step whose update is pending."""
        started, config = time.perf_counter(), self.config
        share, seeds = self._share(position)
        following = self._share(position.advance(config.train.prompts_per_step, 0.0))[0]
        prompts = together(lambda: self.encoder.take(share, [sample for sample in following if sample.images]))
        if stage.rolls_out:
            self.engine.refresh(lambda: prompts[0])
        rolled = self._sampling(stage.rolls_out, lambda: roll_out(self.engine, prompts, share, seeds, stage, config, keep))
        groups = self.host.grade(rolled, self._grade if stage.rolls_out else list)
        context = self.mind.context(position.step + 1, position.progress(config, schedule.budget(config, len(self.samples))))
        if stage.redraw:
            groups = self._redrawn(groups, prompts, seeds, stage, context, keep)
        context = replace(context, batch=tuple(of_all([group.verdicts for group in groups])))
        again = together(lambda: self._again(stage, context))
        prompts, groups = [*prompts, *(prompt for prompt, _ in again)], [*groups, *(group for _, group in again)]
        routes = together(lambda: self._routes(groups, stage, context))
        write = partial(self._write, keep=[*prompts, *keep])
        drafts = self.config.supervision.refiner == "self"
        groups = self._sampling(drafts, lambda: self.supervisor.drafted(groups, routes, position.step, write))
        helped = self.supervisor.start(groups, routes, position.step)
        sampled = counted(groups) if stage.rolls_out else None
        return Work(stage, prompts, routes, context, helped, config.train.prompts_per_step, sampled, time.perf_counter() - started)

    def _sampling(self, samples: bool, work: Callable[[], Value]) -> Value:
        """Return the result of `work`, which may sample completions if `samples`, once it has ended on all processes."""
        with self.engine.sampling() if samples else nullcontext():
            return together(work)

    def _redrawn(
        self, groups: Sequence[Group], prompts: Sequence[Prompt], seeds: Sequence[int], stage: Stage[Any], context: Context[Any],
        keep: Sequence[Prompt],
    ) -> list[Group]:  # fmt: skip
        """Return the groups after the further draws that the stage asks for, each behind a hint; all processes draw in turn, alike.

        The draws of a group depend on its seed and their number alone.
        """
        found, waiting = list(groups), list(range(len(groups)))
        for turn in itertools.count(1):
            hints = together(partial(self._hints, found, waiting, stage, context))
            if not any(gather_object([bool(hints)])):
                break
            begun = {k: self.policy.beginning(hint) for k, hint in hints.items()}
            asked, again = [prompts[k].extended(begun[k]) for k in hints], [seed_of(seeds[k], turn) for k in hints]
            drawn = self._sampling(True, partial(self.engine.sample, asked, again, self.config.rollout, keep=[*keep, *prompts]))
            fresh = [
                Group(sample=found[k].sample, prefix=hints[k], completions=tuple(self._behind(begun[k], one) for one in own))
                for k, own in zip(hints, drawn, strict=True)
            ]
            for k, draw in zip(hints, self.host.grade(fresh, self._grade), strict=True):
                found[k] = asking.drawn_again(found[k], draw)
            waiting = list(hints)
        return found

    def _hints(self, found: list[Group], waiting: Sequence[int], stage: Stage[Any], context: Context[Any]) -> dict[int, str]:
        """Return the hints behind which groups are to be drawn again, by their place; a draw that is taken back is put into its place."""
        hints: dict[int, str] = {}
        for k in waiting:
            if (hint := asking.ask_hint(self.mind.method, stage, found[k], context)) is None:
                continue
            if (back := asking.drawn_before(found[k], hint)) is not None:
                found[k] = back
            else:
                hints[k] = hint
        return hints

    def _behind(self, prefix_ids: tuple[int, ...], completion: Completion) -> Completion:
        """Return a completion with the tokens of the hint that it continues, its text being that of both."""
        text = self.policy.decode((*prefix_ids, *completion.token_ids)).strip()
        return replace(completion, text=text, prefix_ids=prefix_ids)

    def _write(self, asked: Sequence[Asked], step: int, keep: Sequence[Prompt]) -> list[tuple[Completion, ...]]:
        """Return drafts of targets by the policy: completions of prompts that hold the facts and the answer."""
        config = self.config
        settings = replace(config.rollout, num_generations=config.supervision.self_samples)
        begun = [self.policy.beginning(opening) if opening else () for _, opening in asked]
        prompts = [self.policy.encode(sample, "").extended(ids) for (sample, _), ids in zip(asked, begun, strict=True)]
        seeds = [seed_of(config.run.seed, step, sample.id, "target") for sample, _ in asked]
        return self.engine.sample(prompts, seeds, settings, keep=keep)

    def _routes(self, groups: Sequence[Group], stage: Stage[Any], context: Context[Any]) -> list[Route]:
        """Return the stage's route for each of this process's groups; a group on which the user's verifier failed is skipped, as it has no
        verdict.
        """
        return [
            asking.ask(self.mind.method, stage, group, known) if group.judged else Route(mode="skip", reason=FAILED)
            for group, known in zip(groups, self._contexts(context, len(groups)), strict=True)
        ]

    def _again(self, stage: Stage[Any], context: Context[Any]) -> list[tuple[Prompt, Group]]:
        """Return this process's share of the samples that the stage trains on again, encoded and without completions."""
        known = {sample.id: sample for sample in self.samples} if stage.replay else {}
        found = asking.replayed(self.mind.method, stage, context, known)
        share = found[self.accelerator.process_index :: self.accelerator.num_processes]
        return [(self.policy.encode(sample, self.config.task.think_prompt), Group(sample=sample)) for sample in share]

    def _contexts(self, context: Context[Any], count: int) -> list[Context[Any]]:
        """Return the step's context for each of this process's `count` groups, with the group's place; it has none if it is trained on
        again.
        """
        first, every = self.accelerator.process_index, self.accelerator.num_processes
        own = [replace(context, place=place) for place in range(first, len(context.batch), every)]
        return own + [replace(context, place=-1)] * (count - len(own))

    def settled(self, work: Work, groups: Sequence[Group]) -> list[Route]:
        """Return a step's routes with advantages from its groups' rewards; the divisor may be the deviation over all processes."""
        spread, config = 0.0, self.config
        if config.objective.scale_rewards == "batch":
            known = [v.reward for g in groups if g.judged for v in g.verdicts if not isnan(v.reward)]
            spread = standard_deviation(gather_object(known), config.objective.std)

        pooled = [group for route, group in zip(work.routes, groups, strict=True) if asking.pools_target(route)]
        judged = self._grade([targets.as_completion(group, config) for group in pooled])
        verdicts = dict(zip(map(id, pooled), [group.verdicts[0] for group in judged], strict=True))

        def settle(route: Route, group: Group, context: Context[Any]) -> Route:
            return asking.settle_route(self.mind.method, work.stage, route, group, context, spread, verdicts.get(id(group)))

        work_of = zip(work.routes, groups, self._contexts(work.context, len(groups)), strict=True)
        return together(lambda: [settle(*one) for one in work_of])

    def _grade(self, groups: Sequence[Group]) -> list[Group]:
        """Return groups with the verdicts of the recipe's verifier and the user's rewards.

        Raises RunError if one of the user's functions fails at every call of the first step.
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
        """Return this process's samples of the step at a position, and the seeds of their rollouts; a repeated sample has another seed."""
        batch = list(schedule.next_samples(self.samples, position, self.config))
        seen: Counter[str] = Counter()
        seeds = []
        for sample in batch:
            again = (seen[sample.id],) if seen[sample.id] else ()
            seeds.append(seed_of(self.config.run.seed, position.step, sample.id, *again))
            seen[sample.id] += 1
        first, every = self.accelerator.process_index, self.accelerator.num_processes
        return batch[first::every], seeds[first::every]

    def ahead(self, position: Position, work: Work, stages: Sequence[Stage[Any]], total: int) -> Work | None:
        """Draw and return the step after `work` while helpers work on `work`; None at the end of a stage, if a checkpoint comes first, and
        for a stage that trains on samples again, since these depend on the step before.

        Under `max_seconds` or `max_tokens` a stage can end before it is used; the step is not used then.
        """
        settings = self.config.supervision
        if not (settings.remote and settings.overlap) or work.stage.replay or checkpoint.possible(self.config, position):
            return None
        over = position.progress(self.config, total) >= 1 or schedule.stage_at(position, self.config, total, stages) is not work.stage
        return None if over else self.draw(position, work.stage, work.prompts)

    def summary(
        self, position: Position, work: Work, everyone: Sequence[tuple[Group, Route]], metrics: Mapping[str, float]
    ) -> StepRecord:  # fmt: skip
        """Return the figures of a step that ended at `position`, over all processes."""
        groups, routes = [g for g, _ in everyone], [r for _, r in everyone]
        completions, tokens = work.sampled or (0, 0)
        counts = {
            "progress": position.progress(self.config, schedule.budget(self.config, len(self.samples))), "completions": completions,
            "sampled_tokens": tokens, "total_completions": position.completions, "total_sampled_tokens": position.sampled_tokens,
            "total_trained_tokens": position.trained_tokens,
        } | {f"share_{mode}": share for mode, share in mode_shares(routes).items()}  # fmt: skip
        return StepRecord(
            step=position.step, prompts=position.prompts, epoch=position.prompts / len(self.samples), seconds=position.seconds,
            metrics={**metrics, **{k: float(v) for k, v in counts.items()}, **completion_figures(groups), **figures(groups)},
        )  # fmt: skip


def roll_out(
    engine: Engine, prompts: Sequence[Prompt], samples: Sequence[Sample], seeds: Sequence[int], stage: Stage[Any], config: Config,
    keep: Sequence[Prompt] = (),
) -> list[Group]:  # fmt: skip
    """Return a group per sample; empty groups for a stage that does not roll out."""
    if not stage.rolls_out:
        return [Group(sample=sample) for sample in samples]
    completions = engine.sample(prompts, seeds, config.rollout, keep=keep)
    return [Group(sample=sample, completions=own) for sample, own in zip(samples, completions, strict=True)]


def counted(groups: Sequence[Group]) -> Sampled:
    """Return the number of completions of a step, in all draws and among drafts of targets, and of their tokens, over all processes."""
    own = [len(one.token_ids) for group in groups for draw in (group, *group.draws) for one in draw.completions]
    own += [draft.tokens for group in groups for draft in group.drafts if draft.tokens]
    shares = gather_object([(len(own), sum(own))])
    return sum(n for n, _ in shares), sum(tokens for _, tokens in shares)


def of_all(own: Sequence[Item]) -> list[Item]:
    """Return all processes' items for a step's prompts, in the order of the prompts; each process had every n-th prompt."""
    shares = gather_object([list(own)])
    return [item for turn in itertools.zip_longest(*shares, fillvalue=_NONE) for item in turn if item is not _NONE]


def recorded(routes: Sequence[Route]) -> list[Route]:
    """Return the routes in a form that can be recorded and sent to other processes: without the branches' shapes, which are functions."""
    return [replace(route, branches=tuple(replace(b, shape=None) for b in route.branches)) for route in routes]
