"""The schedule is a function of the position: which samples come, which stage it is, at what learning rate."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyme.checks import check_config
from dyme.config import Config, MethodConfig, RunConfig, TrainConfig
from dyme.errors import ConfigError
from dyme.methods import METHODS, Stage
from dyme.training.schedule import Position, budget, learning_rate, next_samples, stage_index
from dyme.types import Sample


def config(seed: int = 0, **train: Any) -> Config:
    return Config(run=RunConfig(seed=seed), train=TrainConfig(**train))


def samples(count: int) -> list[Sample]:
    return [Sample(id=str(k), question="?", answer="1") for k in range(count)]


def stream(count: int, settings: Config, steps: int) -> list[str]:
    position, ids = Position(), []
    for _ in range(steps):
        ids += [s.id for s in next_samples(samples(count), position, settings)]
        position = position.advance(settings.train.prompts_per_step, 1.0)
    return ids


@given(st.integers(1, 30), st.integers(1, 20), st.integers(0, 5))
def test_each_epoch_visits_each_sample_once(size: int, per_step: int, seed: int) -> None:
    ids = stream(size, config(seed, prompts_per_step=per_step), steps=3 * size // per_step + 1)
    for epoch in range(len(ids) // size):
        assert Counter(ids[epoch * size : (epoch + 1) * size]) == Counter(str(k) for k in range(size))


def test_order_depends_on_the_seed_alone() -> None:
    one = stream(20, config(prompts_per_step=4), 10)
    assert one == stream(20, config(prompts_per_step=4), 10)
    assert one == stream(20, config(prompts_per_step=5), 8), "not on the size of a step"
    assert one != stream(20, config(seed=1, prompts_per_step=4), 10)
    assert one[:20] != one[20:], "each epoch has an order of its own"
    assert one[:20] != [str(k) for k in range(20)]


def test_a_resumed_position_goes_on() -> None:
    settings = config(prompts_per_step=3)
    later = [s.id for s in next_samples(samples(7), Position(step=4, prompts=12), settings)]
    assert later == stream(7, settings, 5)[12:]


def test_budget() -> None:
    assert budget(config(max_prompts=70, num_train_epochs=9), 100) == 70
    assert budget(config(num_train_epochs=2.5), 101) == math.ceil(252.5)
    assert budget(config(max_seconds=60, num_train_epochs=9), 100) == 0
    assert budget(config(max_seconds=60, max_prompts=70), 100) == 70
    assert budget(config(max_completions=60), 100) == budget(config(max_tokens=60), 100) == 0


def test_progress_is_whichever_limit_is_nearer() -> None:
    timed = config(max_seconds=100)
    assert Position(prompts=30, seconds=50).progress(timed, 0) == 0.5
    assert Position(prompts=30, seconds=50).progress(timed, 40) == 0.75
    assert Position(prompts=30, seconds=90).progress(timed, 40) == 0.9
    assert Position(prompts=30, seconds=90).progress(config(), 40) == 0.75
    assert Position(prompts=50, seconds=500).progress(timed, 40) == 1.0


def test_progress_in_completions_and_in_tokens() -> None:
    at = Position(prompts=30, completions=160, unsampled=10, sampled_tokens=900, trained_tokens=300, seconds=80)
    assert at.progress(config(max_completions=480), 0) == 0.5, "a prompt that SFT trained on counts as K = 8"
    assert at.progress(config(max_tokens=2000), 0) == 0.6
    assert at.progress(config(max_tokens=2000, max_seconds=100), 0) == 0.8
    assert at.progress(config(max_tokens=1000), 0) == 1.0


def test_one_budget_is_enough() -> None:
    check_config(config(max_tokens=5, max_seconds=9.0))
    with pytest.raises(ConfigError, match=r"there are train.max_prompts = 7 and train.max_tokens = 5; set all but one of them to 0"):
        check_config(config(max_prompts=7, max_tokens=5))


def test_positions() -> None:
    start = Position().advance(8, 1.5, (64, 700), 40).enter(1).advance(8, 1.5, None, 9)
    assert start == Position(
        step=2, prompts=16, seconds=3.0, stage=1, stage_step=1, completions=64, sampled_tokens=700, trained_tokens=49, unsampled=8
    )


def stage(share: float, own_rate: float | None = None) -> Stage[Any]:
    return Stage(
        name="", route=lambda group, context: pytest.fail("not called"), rolls_out=True, imitates=True, share=share, learning_rate=own_rate
    )


@pytest.mark.parametrize(
    ("shares", "progress", "index"),
    [
        ((1.0,), 0.0, 0), ((1.0,), 1.0, 0),
        ((0.3, 0.7), 0.0, 0), ((0.3, 0.7), 0.2999, 0), ((0.3, 0.7), 0.3, 1), ((0.3, 0.7), 1.0, 1),
        ((0.0, 1.0), 0.0, 1), ((1.0, 0.0), 0.999, 0), ((0.1, 0.2, 0.7), 0.3, 2),
    ],
)  # fmt: skip
def test_stage_borders(shares: tuple[float, ...], progress: float, index: int) -> None:
    assert stage_index(progress, [stage(share) for share in shares]) == index


def test_every_method_ends_in_its_last_stage() -> None:
    for method in METHODS.values():
        stages = method.plan(Config())
        assert sum(s.share for s in stages) == pytest.approx(1.0)
        assert stage_index(1.0, stages) == len(stages) - 1


def rate(position: Position, *, stages: list[Stage[Any]] | None = None, **train: Any) -> float:
    settings = Config(train=TrainConfig(learning_rate=1.0, **train))
    return learning_rate(settings, position, 100, stages or [stage(1.0)])


def test_warm_up_is_linear_and_never_zero() -> None:
    rates = [rate(Position(stage=0, stage_step=k), warmup_steps=4) for k in range(7)]
    assert rates == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0])
    assert rate(Position(stage=0), warmup_steps=0) == 1.0


@pytest.mark.parametrize(
    ("kind", "quarter", "end"), [("linear", 0.75, 0.0), ("cosine", 0.5 * (1 + math.cos(math.pi / 4)), 0.0), ("constant", 1.0, 1.0)]
)
def test_decay(kind: str, quarter: float, end: float) -> None:
    late = {"stage": 0, "stage_step": 50}
    assert rate(Position(prompts=0, **late), lr_scheduler_type=kind) == pytest.approx(1.0)
    assert rate(Position(prompts=25, **late), lr_scheduler_type=kind) == pytest.approx(quarter)
    assert rate(Position(prompts=100, **late), lr_scheduler_type=kind) == pytest.approx(end)


def test_each_stage_warms_up_and_decays_on_its_own() -> None:
    stages = [stage(0.4, own_rate=3.0), stage(0.6)]
    first = [rate(Position(stage=0, stage_step=50, prompts=p), stages=stages) for p in (0, 20, 40)]
    assert first == pytest.approx([3.0, 1.5, 0.0])
    second = [rate(Position(stage=1, stage_step=50, prompts=p), stages=stages) for p in (40, 70, 100)]
    assert second == pytest.approx([1.0, 0.5, 0.0])
    assert rate(Position(stage=1, prompts=40), stages=stages, warmup_steps=3) == pytest.approx(0.25)


def test_stages_of_sft_have_its_rate_or_the_common_one() -> None:
    for name in ("sft", "two_stage"):
        for own, expected in (({"sft_learning_rate": 0.5}, 0.5), ({}, 1.0)):
            stages = METHODS[name].plan(Config(method=MethodConfig(name=name, settings=own)))
            assert rate(Position(stage=0, stage_step=9), stages=list(stages)) == expected
    assert stages[1].learning_rate is None


def test_the_order_may_stay() -> None:
    assert stream(4, config(prompts_per_step=3, shuffle=False), 3) == ["0", "1", "2", "3", "0", "1", "2", "3", "0"]
