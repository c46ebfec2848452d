"""Methods: who memorizes, explores or skips, and with what advantages; plain Python, no torch."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import routing
from hypothesis import given
from hypothesis import strategies as st

from dyme.config import Config, MethodConfig, ObjectiveConfig
from dyme.methods import METHODS
from dyme.methods.advantages import advantages, standard_deviation
from dyme.methods.routes import live_branches, settle
from dyme.tracking.metrics import mode_shares
from dyme.types import Branch, Completion, Group, Route, Sample, Verdict

SAMPLE = Sample(id="a", question="?", answer="1")


def group(*verdicts: tuple[bool, float]) -> Group:
    """Completions as (correct, shaped reward)."""
    return Group(
        sample=SAMPLE,
        completions=tuple(Completion(text="", token_ids=(1,)) for _ in verdicts),
        verdicts=tuple(Verdict(parsed=True, correct=c, answer="", thinking="", reward=r) for c, r in verdicts),
    )


WRONG, SHAPED = group((False, 0.0), (False, 0.0)), group((False, 0.9), (False, 0.1))
MIXED, RIGHT, RIGHT_SHAPED = group((True, 1.0), (False, 0.0)), group((True, 1.0), (True, 1.0)), group((True, 1.9), (True, 1.2))
FLAT = group((True, 1.0), (False, 1.0))
"""One right, one wrong, and the shaping makes them equal."""


def config(all_correct: Any = "skip", weight: Any = 1.0, **objective: Any) -> Config:
    own = {"all_correct": all_correct, "memorize_weight": weight}
    return Config(method=MethodConfig(settings=own), objective=ObjectiveConfig(**objective))


def route(method: str, of: Group, settings: Config | None = None, stage: int = 0) -> Route:
    settings = settings or config()
    return routing.route(of, settings, method, stage)


@pytest.mark.parametrize(
    ("name", "of", "dyme", "dyme_exploring", "grpo"),
    [
        ("wrong", WRONG, "memorize", "memorize", "skip"),
        ("wrong, shaped rewards differ", SHAPED, "memorize", "memorize", "explore"),
        ("mixed", MIXED, "explore", "explore", "explore"),
        ("mixed, shaped rewards equal", FLAT, "skip", "skip", "skip"),
        ("right", RIGHT, "skip", "skip", "skip"),
        ("right, shaped rewards differ", RIGHT_SHAPED, "skip", "explore", "explore"),
    ],
)
def test_truth_table(name: str, of: Group, dyme: str, dyme_exploring: str, grpo: str) -> None:
    assert route("dyme", of).mode == dyme
    assert route("dyme", of, config("explore")).mode == dyme_exploring
    assert route("grpo", of).mode == route("two_stage", of, stage=1).mode == grpo
    assert route("sft", of).mode == route("two_stage", of).mode == "memorize"


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 3)), min_size=1, max_size=8))
def test_correctness_alone_drives_the_switch(verdicts: list[tuple[bool, float]]) -> None:
    solved = sum(correct for correct, _ in verdicts)
    mode = route("dyme", group(*verdicts)).mode
    assert (mode == "memorize") == (solved == 0)
    if solved == len(verdicts):
        assert mode == "skip"


def test_a_memorizing_route_is_the_target_alone() -> None:
    for weight, expected in (("paper", 1.0), ("code", 1 / 8), (0.3, 0.3), (0, 0.0)):
        assert route("dyme", SHAPED, config(weight=weight)).branches == (Branch(term="imitate", weight=expected),)
        for method in ("sft", "two_stage"):  # the weight is of memorizing beside exploring
            assert route(method, SHAPED, config(weight=weight)).branches == (Branch(term="imitate", weight=1.0),)
    assert route("sft", Group(sample=SAMPLE)).branches == (Branch(term="imitate"),)


def test_an_exploring_route_names_each_completion() -> None:
    branches = route("dyme", group((True, 2.0), (False, 0.0), (False, 1.0))).branches
    assert [(b.term, b.completion, b.weight) for b in branches] == [("policy", 0, 1.0), ("policy", 1, 1.0), ("policy", 2, 1.0)]
    assert branches[0].advantage > branches[2].advantage > branches[1].advantage


@pytest.mark.parametrize("of", [WRONG, MIXED, RIGHT, FLAT])
def test_a_route_says_why(of: Group) -> None:
    for method in METHODS:
        assert route(method, of).reason


def test_stages() -> None:
    settings = Config(method=MethodConfig(name="two_stage", settings={"sft_share": 0.3}))
    first, second = METHODS["two_stage"].plan(settings)
    assert (first.name, first.rolls_out, first.share) == ("sft", False, 0.3)
    assert (second.name, second.rolls_out, second.share) == ("grpo", True, 0.7)
    assert {name: [s.rolls_out for s in METHODS[name].plan(Config())] for name in ("sft", "grpo", "dyme")} == {
        "sft": [False], "grpo": [True], "dyme": [True],
    }  # fmt: skip
    assert all(name == method.name and method.summary and method.source for name, method in METHODS.items())


def test_advantages_by_hand() -> None:
    rewards = [1.0, 0.0, 0.0, 3.0]  # mean 1, squared deviations 0 + 1 + 1 + 4
    population, sample = math.sqrt(6 / 4), math.sqrt(6 / 3)
    centred = [0.0, -1.0, -1.0, 2.0]
    eps = {"advantage_eps": 0.01}
    for kind, std in (("population", population), ("sample", sample)):
        expected = [c / (std + 0.01) for c in centred]
        assert advantages(rewards, ObjectiveConfig(std=kind, **eps)) == pytest.approx(expected)  # type: ignore[arg-type]
    assert advantages(rewards, ObjectiveConfig(scale_rewards="none", **eps)) == pytest.approx(centred)
    assert advantages(rewards, ObjectiveConfig(scale_rewards="batch", **eps), 4.0) == pytest.approx([c / 4.01 for c in centred])


def test_standard_deviation() -> None:
    assert standard_deviation([1.0, 0.0, 0.0, 3.0], "population") == pytest.approx(math.sqrt(1.5))
    assert standard_deviation([1.0, 0.0, 0.0, 3.0], "sample") == pytest.approx(math.sqrt(2))
    assert standard_deviation([5.0], "sample") == standard_deviation([], "population") == 0


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
@pytest.mark.parametrize("rewards", [[0.7] * 3, [0.1 + 0.2, 0.3, 0.3], [1e-12, 0.0], [2.0]])
def test_equal_rewards_give_exact_zeros(scale: Any, rewards: list[float]) -> None:
    """0.1 + 0.2 is not 0.3 to a float; divided by a deviation as small, the difference would become an advantage of order 1."""
    assert advantages(rewards, ObjectiveConfig(scale_rewards=scale, advantage_eps=1e-20), 1e-17) == [0.0] * len(rewards)


@given(st.lists(st.floats(0, 3), min_size=2, max_size=16), st.sampled_from(["group", "none"]))
def test_advantages_are_centred_and_ordered(rewards: list[float], scale: Any) -> None:
    scores = advantages(rewards, ObjectiveConfig(scale_rewards=scale))
    assert math.fsum(scores) == pytest.approx(0, abs=1e-9)
    for (r1, a1), (r2, a2) in zip(sorted(zip(rewards, scores, strict=True)), sorted(zip(rewards, scores, strict=True))[1:], strict=False):
        assert a1 <= a2 or r1 == r2


BRANCHES = (
    Branch(term="policy", completion=0, advantage=1.0),
    Branch(term="policy", completion=1, advantage=0.0),
    Branch(term="policy", completion=2, advantage=-1.0, weight=0.0),
    Branch(term="imitate"),
    Branch(term="imitate", weight=0.0),
)


def test_live_branches() -> None:
    whole = Route(mode="mixed", branches=BRANCHES)
    assert live_branches(whole, ObjectiveConfig()) == (BRANCHES[0], BRANCHES[3])
    assert live_branches(whole, ObjectiveConfig(beta=0.1)) == (BRANCHES[0], BRANCHES[1], BRANCHES[3])


def test_with_a_kl_term_a_group_without_variance_still_explores() -> None:
    settings = config("explore", beta=0.1)
    for method in ("grpo", "dyme"):
        kept = route(method, RIGHT, settings)
        assert kept.mode == "explore" and [b.advantage for b in kept.branches] == [0.0, 0.0]
        assert live_branches(kept, settings.objective) == kept.branches


def test_an_advantage_of_the_methods_own_stays() -> None:
    own = Route(
        mode="mixed",
        branches=(Branch(term="policy", completion=0, advantage=5.0), Branch(term="policy", completion=1), Branch(term="imitate")),
    )
    assert [b.advantage for b in settle(own, MIXED, ObjectiveConfig(scale_rewards="none")).branches] == [5.0, -0.5, None]
    assert [b.advantage for b in settle(own, RIGHT, ObjectiveConfig()).branches] == [5.0, 0.0, None], "it trains on its target all the same"


def test_mode_shares() -> None:
    routes = [Route(mode="memorize"), Route(mode="skip"), Route(mode="skip"), Route(mode="explore")]
    assert mode_shares(routes) == {"memorize": 0.25, "explore": 0.25, "mixed": 0.0, "skip": 0.5}
    assert set(mode_shares([]).values()) == {0.0}


def test_routing_needs_no_torch() -> None:
    subprocess.run([sys.executable, "-c", "import sys, dyme.methods; sys.exit('torch' in sys.modules)"], check=True)


def test_what_was_cut_off_may_be_left_out_of_the_loss() -> None:
    cut = replace(RIGHT_SHAPED, completions=(Completion(text="", token_ids=(1,), finished=False), Completion(text="", token_ids=(1,))))
    routes = {masked: routing.asked(cut, config(mask_truncated=masked), "grpo") for masked in (False, True)}
    weights = {masked: [b.weight for b in route.branches] for masked, route in routes.items()}
    assert weights == {False: [1.0, 1.0], True: [0.0, 1.0]}
    assert [b.completion for b in live_branches(routes[True], config().objective)] == [1]


def test_a_completion_without_a_reward_is_out_of_mean_and_deviation() -> None:
    objective = ObjectiveConfig(std="sample")
    alone = advantages([1.0, 3.0], objective)
    assert advantages([1.0, math.nan, 3.0], objective) == [alone[0], 0.0, alone[1]]
    assert advantages([math.nan, math.nan], objective) == [0.0, 0.0]
