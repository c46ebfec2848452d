"""Ask a method for a route and check it: a user's method may have any fault, and each fault ends in a one-line error."""

from __future__ import annotations

import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from dyme.config import Config
from dyme.errors import ConfigError, quoted
from dyme.methods.method import Context, Method, Stage
from dyme.methods.routes import is_open, settle
from dyme.methods.state import MethodState
from dyme.plugins import failure
from dyme.types import Branch, Completion, Group, Mode, Route, Sample, Shape, Term, Verdict

MOST_DRAWS = 16
"""Draws of a group in a step, at most."""


def ask(method: Method[Any], stage: Stage[Any], group: Group, context: Context[Any]) -> Route:
    """Return the stage's route for a group. Raises ConfigError if its function raises an error or returns an impossible route."""
    try:
        route = stage.route(group, context)
    except Exception as error:
        raise ConfigError(f"method {method.name}, stage {stage.name}: {failure(error, stage.route)}") from error
    if trouble := _fault(route, stage, group):
        raise ConfigError(f"method {method.name}, stage {stage.name}: its route for {group.sample.id} {trouble}")
    return route


def ask_hint(method: Method[Any], stage: Stage[Any], group: Group, context: Context[Any]) -> str | None:
    """Return the hint under which a stage asks for another draw of a group; None to keep the present draw.

    Raises ConfigError if its function raises an error, returns no text, or asks for more than `MOST_DRAWS` draws.
    """
    if stage.redraw is None or not group.judged:
        return None
    where = f"method {method.name}, stage {stage.name}, redraw"
    try:
        hint = stage.redraw(group, context)
    except Exception as error:
        raise ConfigError(f"{where}: {failure(error, stage.redraw)}") from error
    if not (hint is None or isinstance(hint, str)):
        raise ConfigError(f"{where}: for {group.sample.id} it returned {quoted(hint)}, and text or None is needed")
    if hint is not None and len(group.draws) + 1 >= MOST_DRAWS and drawn_before(group, hint) is None:
        raise ConfigError(f"{where}: {group.sample.id} was drawn {MOST_DRAWS} times, and it asks for more; return None at some time")
    return hint


def drawn_before(group: Group, hint: str) -> Group | None:
    """Return a group as its draw under a hint, with the others as its `draws`; None if there is no such draw."""
    known = (*group.draws, replace(group, draws=()))
    found = next((draw for draw in known if draw.prefix == hint), None)
    return found and replace(found, draws=tuple(draw for draw in known if draw is not found))


def drawn_again(group: Group, draw: Group) -> Group:
    """Return a group as a new draw, with those before as its `draws`."""
    return replace(draw, draws=(*group.draws, replace(group, draws=())))


def settle_route(
    method: Method[Any], stage: Stage[Any], route: Route, group: Group, context: Context[Any], batch_std: float = 0.0,
    target: Verdict | None = None,
) -> Route:  # fmt: skip
    """Return the route with the advantages of its group's rewards, `target` being the verdict of a target among its branches.

    Raises ConfigError if the stage's own advantages are no numbers.
    """
    score, reward = stage.advantages, target.reward if target else 0.0
    if score is None:
        return settle(route, group, context.config.objective, batch_std, reward)
    known = replace(context, batch_std=batch_std, target=target)
    try:
        found = settle(route, group, context.config.objective, batch_std, reward, score=lambda rewards, pool: score(rewards, pool, known))
    except Exception as error:
        raise ConfigError(f"method {method.name}, stage {stage.name}, advantages: {failure(error, score)}") from error
    if trouble := _fault(found, stage, group):
        raise ConfigError(f"method {method.name}, stage {stage.name}: its advantages for {group.sample.id}: a route that {trouble}")
    return found


def replayed(method: Method[Any], stage: Stage[Any], context: Context[Any], samples: Mapping[str, Sample]) -> list[Sample]:
    """Return the samples that a stage trains on again at a step. Raises ConfigError if its function raises an error or names no sample."""
    if stage.replay is None:
        return []
    try:
        names = list(stage.replay(context))
    except Exception as error:
        raise ConfigError(f"method {method.name}, stage {stage.name}, replay: {failure(error, stage.replay)}") from error
    if lost := [name for name in names if not isinstance(name, str) or name not in samples]:
        raise ConfigError(f"method {method.name}, stage {stage.name}, replay: {quoted(lost[0])} is the id of no training sample")
    return [samples[name] for name in names]


def pools_target(route: Route) -> bool:
    """Return whether the target is one of the branches whose advantages come from rewards."""
    return any(branch.completion is None and is_open(branch) for branch in route.branches)


def try_out(method: Method[Any], config: Config, sample: Sample) -> list[Route]:
    """Return a method's routes for made-up groups of `sample`: none, one, half and all correct, at the start and at the end of a run; its
    state is updated between them.

    Raises ConfigError as `ask` does, so that a fault shows before long work.
    """
    tried, count, mind = [], config.rollout.num_generations, MethodState(method, config)
    for stage in method.plan(config):
        groups = [_made_up(sample, count, correct) for correct in (0, 1, count // 2, count)] if stage.rolls_out else [Group(sample=sample)]
        for progress in (0.0, 1.0):
            drawn = [_tried_again(method, stage, group, mind.context(1, progress)) for group in groups]
            context = replace(mind.context(1, progress), batch=tuple(group.verdicts for group in drawn))
            routes = []
            for place, group in enumerate(drawn):
                known = replace(context, place=place)
                routes.append(
                    settle_route(method, stage, ask(method, stage, group, known), group, known, 1.0, _made_up(sample, 1, 1).verdicts[0])
                )
            again = [Group(sample=one) for one in replayed(method, stage, context, {sample.id: sample})]
            tried += [ask(method, stage, group, replace(context, place=-1)) for group in again]
            mind.learn(list(zip(drawn, routes, strict=True)), context)
            tried += routes
    return tried


def _tried_again(method: Method[Any], stage: Stage[Any], group: Group, context: Context[Any]) -> Group:
    """Return a made-up group after the further draws that a stage asks for, each of them alike."""
    while (hint := ask_hint(method, stage, group, context)) is not None:
        if (back := drawn_before(group, hint)) is not None:
            return back
        group = drawn_again(group, replace(group, prefix=hint, draws=()))
    return group


def _made_up(sample: Sample, count: int, correct: int) -> Group:
    """Return a group whose first `correct` completions are right."""
    verdicts = tuple(
        Verdict(
            parsed=True, correct=k < correct, answer=sample.answer, thinking="", score=float(k < correct), reward=float(k < correct),
            rewards={"accuracy": float(k < correct), "format": 1.0, "thinking": 0.0},
        )
        for k in range(count)
    )  # fmt: skip
    return Group(sample=sample, completions=(Completion(text="", token_ids=(0,)),) * count, verdicts=verdicts)


def _fault(route: Any, stage: Stage[Any], group: Group) -> str:
    """Return the fault of a route, or ""."""
    if not isinstance(route, Route):
        return f"is {quoted(route)}, and a Route is needed"
    if route.mode not in typing.get_args(Mode):
        return f"has the mode {route.mode!r}; choose from {', '.join(typing.get_args(Mode))}"
    if not isinstance(route.reason, str):
        return f"has the reason {quoted(route.reason)}, and text is needed"
    if not isinstance(route.branches, Sequence) or not all(isinstance(branch, Branch) for branch in route.branches):
        return f"has the branches {quoted(route.branches)}, and Branch objects are needed"
    if route.mode == "skip" and route.branches:
        return "has the mode skip, and branches"
    faults = (_branch_fault(branch, stage, group) for branch in route.branches)
    return next((f"has a branch {fault}" for fault in faults if fault), "")


def _branch_fault(branch: Branch, stage: Stage[Any], group: Group) -> str:
    """Return the fault of a branch, or ""."""
    count = len(group.completions)
    if branch.term not in typing.get_args(Term):
        return f"with the term {branch.term!r}; choose from {', '.join(typing.get_args(Term))}"
    if branch.completion is None and not stage.imitates:
        return "without a completion, which is the target, and the stage declares imitates = False"
    if branch.completion is not None and (type(branch.completion) is not int or not 0 <= branch.completion < count):
        return f"for completion {quoted(branch.completion)}, and the group has {count}, counted from 0"
    if not isinstance(branch.trusted, bool) or (branch.trusted and branch.completion is not None):
        return f"with trusted = {quoted(branch.trusted)}; True is for targets, which a checker grades, False for all others"
    if branch.shape is not None and not (isinstance(branch.shape, Shape) and callable(branch.shape.of)):
        return f"with the shape {quoted(branch.shape)}, and a Shape of a function is needed"
    numbers = {"weight": branch.weight} | ({} if branch.advantage is None else {"advantage": branch.advantage})
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"with the {name} {quoted(value)}, and a finite number is needed"
    return ""
