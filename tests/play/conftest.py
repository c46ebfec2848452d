"""The embedded model on its own charts, as the page asks it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dyme.config import Config
from dyme.evaluation.run import load
from dyme.play.asking import Model, Play
from dyme.play.session import Desk
from dyme.samples import load as samples_of
from dyme.tasks.rules import rules_of


@pytest.fixture(scope="session")
def play() -> Play:
    config = Config()
    config = replace(
        config, task=replace(config.task, test_size=4), rollout=replace(config.rollout, num_generations=4, max_completion_length=40)
    )
    samples, _ = samples_of(config, "test")
    model = Model(name="embedded", policy=load(config, lambda line: None))
    return Play(models=(model,), config=config, samples=samples, rules=rules_of(config), source="charts, test")


@pytest.fixture
def desk(play: Play) -> Desk:
    return Desk(play)
