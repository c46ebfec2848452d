"""The route of a prompt is the method's own, whichever method the recipe names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dyme.config import Config, MethodConfig
from dyme.methods import METHODS
from dyme.play.asking import Asked, Play, question_of
from dyme.play.routing import routed
from dyme.types import Group, Route

LLM = {"checker": "llm", "refiner": "llm", "url": "http://nowhere.invalid/v1", "model": "m"}


def under(play: Play, method: str, **settings: object) -> Config:
    return replace(play.config, method=MethodConfig(name=method, settings=settings))


def test_the_recipes_method_decides_on_the_recipes_samples(play: Play) -> None:
    asked = Asked(sample=play.samples[0], known=True)
    policy = play.models[0].policy
    config = under(play, "dyme")
    remote = replace(config, supervision=replace(config.supervision, **LLM))  # type: ignore[arg-type]
    [found] = routed(policy, asked, remote, play.rules)
    assert found.route is not None and len(found.group.verdicts) == 4 and found.stage == "dyme"
    solved = found.group.solved
    assert found.route.mode in (("memorize",) if solved == 0 else ("skip",) if solved == 4 else ("explore", "skip"))
    assert [found] == routed(policy, asked, config, play.rules), "the same samples again, and no helper is asked"


@pytest.mark.parametrize("method", sorted(METHODS))
def test_any_method_routes(play: Play, method: str) -> None:
    short = replace(under(play, method), rollout=replace(play.config.rollout, num_generations=2, max_completion_length=24))
    found = routed(play.models[0].policy, Asked(sample=play.samples[1], known=True), short, play.rules)
    assert [one.stage for one in found] == [stage.name for stage in METHODS[method].plan(short)]
    for one in found:
        assert isinstance(one.route, Route) and isinstance(one.group, Group) and len(one.group.verdicts) in (0, 2)


def test_without_a_known_answer_there_are_samples_and_no_route(play: Play) -> None:
    asked = question_of("What is the lowest value?", "", play.samples[0].images, (), None)
    [found] = routed(play.models[0].policy, asked, under(play, "dyme"), play.rules)
    assert found.route is None and len(found.group.verdicts) == 4
    assert all(verdict.answer is None or verdict.parsed for verdict in found.group.verdicts)
