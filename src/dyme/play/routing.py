"""What training would do with a prompt: a step of the loop's own sampler on it alone, without helpers and without an update."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from dyme.config import Config
from dyme.methods import method_of
from dyme.methods.method import Stage
from dyme.methods.state import MethodState
from dyme.model.policy import Policy
from dyme.play.asking import Asked, encoded
from dyme.rollout.engine import Local
from dyme.rollout.hf import seed_of
from dyme.supervise.supervisor import Supervisor
from dyme.system.ahead import Ahead
from dyme.system.processes import state
from dyme.training import schedule
from dyme.training.draw import Sampler
from dyme.training.schedule import Position
from dyme.training.setup import Host
from dyme.types import Completion, Group, Route, Verdict
from dyme.verify.format import parse
from dyme.verify.rewards import Rewards
from dyme.verify.rules import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """A stage of the recipe's method, the answers that it would sample, and the route that it would take."""

    stage: str
    group: Group
    route: Route | None
    """None: the right answer is not known, so the answers have no verdicts."""


def routed(policy: Policy, asked: Asked, config: Config, rules: Rules) -> list[Routed]:
    """Return what each stage of the recipe's method does with a prompt at its beginning, with the verdicts on the recipe's K samples.

    Helpers are left out, as they come after the route. Without a known answer only samples are returned, without verdicts.
    """
    config = replace(
        config,
        supervision=replace(config.supervision, checker="off", refiner="off", facts="data"),
        train=replace(config.train, prompts_per_step=1),
    )
    encoded(policy, asked.sample, config.task.think_prompt, config)
    if not asked.known:
        return [Routed(stage="", group=_unjudged(policy, asked, config, rules), route=None)]
    method = method_of(config)
    mind, host, stages = MethodState(method, config), Host(), method.plan(config)
    found = []
    with Ahead(partial(policy.encode, instruction=config.task.think_prompt)) as encoder, Rewards(config.reward) as rewards:
        for stage in stages:
            with Supervisor(config) as helpers:
                sampler = Sampler(Local(policy), helpers, mind, config, [asked.sample], state(), encoder, host, rewards)
                work = sampler.draw(_start(stage, stages, config), stage)
                [group, *_] = helpers.finish(work.helped)
                [route, *_] = sampler.settled(work, [group])
            found.append(Routed(stage=stage.name, group=group, route=route))
    return found


def _start(stage: Stage[Any], stages: Sequence[Stage[Any]], config: Config) -> Position:
    """Return the position at which a stage begins."""
    before = sum(one.share for one in stages[: stages.index(stage)])
    return Position(prompts=round(before * schedule.budget(config, 1)))


def _unjudged(policy: Policy, asked: Asked, config: Config, rules: Rules) -> Group:
    """Return the group of a question whose right answer is not known: samples with their answers, none of them right or wrong."""
    prompt, seed = policy.encode(asked.sample, config.task.think_prompt), seed_of(config.run.seed, 0, asked.sample.id)
    [completions] = Local(policy).sample([prompt], [seed], config.rollout)
    return Group(sample=asked.sample, completions=completions, verdicts=tuple(_parsed(one, rules) for one in completions))


def _parsed(completion: Completion, rules: Rules) -> Verdict:
    found = parse(completion.text, marker=rules.marker, min_thinking_words=rules.reward.min_thinking_words)
    parsed = found.formatted and completion.finished
    return Verdict(
        parsed=parsed, correct=False, answer=found.answer if parsed else None, thinking=found.thinking,
        reason=found.reason if completion.finished else "cut off",
    )  # fmt: skip
