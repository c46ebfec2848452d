"""Controls of the switch memorize as many prompts as they should, alike on all processes; DyME's soft and trusting switch."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from dyme.config import Config, MethodConfig, RunConfig
from dyme.methods import METHODS, asking
from dyme.methods.routes import settle
from dyme.recipe import load_recipe
from dyme.types import Branch, Completion, Group, Route, Sample, Verdict

K, PROMPTS = 8, 32


def group(right: int, name: str = "a", failed: bool = False) -> Group:
    """A group with `right` of K completions correct; each has the format, so that wrong ones are equal."""
    verdicts = tuple(
        Verdict(parsed=True, correct=k < right, answer="", thinking="", reward=float(k < right), failed=failed) for k in range(K)
    )
    return Group(
        sample=Sample(id=name, question="?", answer="1"), completions=(Completion(text="", token_ids=(1,)),) * K, verdicts=verdicts
    )


def routed(
    name: str, groups: Sequence[Group], *, step: int = 1, seed: int = 0, places: Sequence[int] | None = None, **own: Any
) -> list[Route]:
    """The routes of a step's groups, or of those at some places: another process's share."""
    config, method = Config(run=RunConfig(seed=seed), method=MethodConfig(name=name, settings=own)), METHODS[name]
    context = method.context(config, step=step, batch=tuple(g.verdicts for g in groups))
    stage = method.plan(config)[0]
    return [asking.ask(method, stage, groups[k], replace(context, place=k)) for k in (range(len(groups)) if places is None else places)]


def step_of(seed: int) -> list[Group]:
    draw = random.Random(seed)
    return [group(draw.choice([0, 0, 1, 3, K])) for _ in range(PROMPTS)]


@pytest.mark.parametrize("seed", range(5))
def test_yoked_random_memorizes_as_many_as_dyme_and_others(seed: int) -> None:
    groups = step_of(seed)
    dyme, yoked = ([r.mode for r in routed(name, groups, step=seed + 1)] for name in ("dyme", "yoked_random"))
    assert dyme.count("memorize") == yoked.count("memorize") == sum(g.solved == 0 for g in groups) > 5
    assert dyme != yoked, "others"
    for of, mode in zip(groups, yoked, strict=True):
        assert mode in ("memorize", "skip" if of.solved == K else "explore")


def test_what_is_drawn_at_random_is_each_prompt_alike() -> None:
    """Over 200 steps each of 8 places is memorized about half of the time, whether it is all wrong or not."""
    groups = [group(right) for right in (0, 0, 0, 0, 2, 2, K, K)]
    for name, own in (("yoked_random", {}), ("constant_mix", {"memorize_share": 0.5})):
        counts = [0] * 8
        for step in range(1, 201):
            chosen = [route.mode == "memorize" for route in routed(name, groups, step=step, **own)]
            assert sum(chosen) == 4
            counts = [count + one for count, one in zip(counts, chosen, strict=True)]
        assert all(65 < count < 135 for count in counts), (name, counts)  # 100 +- 5 deviations


@pytest.mark.parametrize("name", ["yoked_random", "constant_mix"])
def test_processes_choose_alike_and_a_resumed_step_chooses_again(name: str) -> None:
    """Two processes with every second prompt, three with every third, have what one has; seed and step make another choice."""
    groups = step_of(7)
    whole = routed(name, groups, step=5, seed=3)
    for count in (2, 3):
        shares = [routed(name, groups, step=5, seed=3, places=range(first, PROMPTS, count)) for first in range(count)]
        merged = [route for turn in itertools.zip_longest(*shares) for route in turn if route is not None]
        assert merged == whole
    assert whole != routed(name, groups, step=6, seed=3) and whole != routed(name, groups, step=5, seed=4)


def test_a_constant_mix_has_its_share_on_average() -> None:
    for prompts, share, counts, steps in (
        (32, 0.25, {8}, 9),
        (32, 0.0, {0}, 2),
        (32, 1.0, {32}, 2),
        (4, 0.3, {1, 2}, 300),
        (1, 0.25, {0, 1}, 300),
    ):
        groups = [group(k % 3) for k in range(prompts)]
        found = [sum(r.mode == "memorize" for r in routed("constant_mix", groups, step=k, memorize_share=share)) for k in range(steps)]
        assert set(found) == counts
        assert sum(found) / steps == pytest.approx(share * prompts, abs=0.1)


def test_a_group_that_the_verifier_failed_on_is_neither_counted_nor_drawn() -> None:
    groups = [group(0, failed=True)] * 30 + [group(0), group(3)]
    for step in range(1, 9):
        assert sum(r.mode == "memorize" for r in routed("yoked_random", groups, step=step, places=(30, 31))) == 1
        assert all(r.mode == "memorize" for r in routed("constant_mix", groups, step=step, places=(30, 31), memorize_share=1.0))


def test_inverse_is_the_other_way_round() -> None:
    groups = [group(right) for right in (0, 1, K)]
    assert [r.mode for r in routed("dyme", groups)] == ["memorize", "explore", "skip"]
    assert [r.mode for r in routed("inverse", groups)] == ["explore", "memorize", "skip"]
    assert [r.mode for r in routed("inverse", groups, all_correct="explore")] == ["explore", "memorize", "memorize"]


@pytest.mark.parametrize("name", ["yoked_random", "constant_mix", "inverse"])
def test_a_control_takes_the_settings_of_dyme(name: str) -> None:
    config = load_recipe("charts-dyme", [f"--method.name={name}", "--method.trust=true", "--method.all_correct=explore"])
    assert config.method.settings == {"memorize_weight": "code", "trust": True, "all_correct": "explore"}
    routes = routed(name, [group(right) for right in (0, 0, 0, 0, 3, K)], **config.method.settings)
    memorized = [r for r in routes if r.mode == "memorize"]
    assert memorized and all(r.branches == (Branch(term="imitate", weight=1 / K, trusted=True),) for r in memorized)
    assert all(len(r.branches) == K for r in routes if r.mode == "explore") and "skip" not in {r.mode for r in routes}


# DyME's own


def test_soft_dyme() -> None:
    """w (1 - s/K)^tau beside the policy branches as DyME has them; a large tau is DyME, bit for bit."""
    groups = [group(right) for right in (0, 2, 6, K)]
    soft = routed("dyme", groups, tau=2.0, memorize_weight=0.5)
    assert [r.mode for r in soft] == ["memorize", "mixed", "mixed", "skip"]
    assert [r.branches[-1].weight for r in soft[:3]] == pytest.approx([0.5, 0.5 * 0.75**2, 0.5 * 0.25**2])
    binary = routed("dyme", groups)
    assert [r.branches[:-1] for r in soft[1:3]] == [r.branches for r in binary[1:3]] and soft[0].branches[:-1] == ()
    assert routed("dyme", groups, tau=1e6) == binary
    constant = routed("dyme", groups, tau=0.0)
    assert [[b.weight for b in r.branches if b.completion is None] for r in constant] == [[1.0]] * 4
    assert [r.mode for r in constant] == ["memorize", "mixed", "mixed", "memorize"], "nothing of an all-correct group is explored"


def test_a_trusted_target_weighs_by_its_score() -> None:
    for tau in (None, 1.0):
        (route,) = routed("dyme", [group(0)], trust=True, memorize_weight=0.5, tau=tau)
        for trust, weight in ((None, 0.5), (1.0, 0.5), (0.4, 0.2), (0.0, 0.0)):
            settled = settle(route, replace(group(0), trust=trust), Config().objective)
            assert [b.weight for b in settled.branches] == pytest.approx([weight])
    mixed = routed("dyme", [group(4)], trust=True, tau=1.0)[0]
    settled = settle(mixed, replace(group(4), trust=0.5), Config().objective)
    assert [b.weight for b in settled.branches] == [1.0] * K + [0.25], "completions weigh as before"
    (plain,) = routed("dyme", [group(0)])
    assert settle(plain, replace(group(0), trust=0.0), Config().objective) == plain, "a score that was not asked for changes nothing"
