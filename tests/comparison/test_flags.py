"""`dyme compare`: from flags to a study of one block."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dyme.cli.main import build_parser
from dyme.cli.training.compare import design_of
from dyme.comparison.design import Design
from dyme.errors import ConfigError

RATE = "train.learning_rate"


def flags(*words: str, rest: tuple[str, ...] = ()) -> Design:
    found = design_of(build_parser("compare").parse_args(["compare", "charts-dyme", *words]), list(rest))
    found.check()
    return found


def grids(design: Design) -> dict[str, Mapping[str, Any]]:
    return {name: arm.grid for name, arm in design.arms.items()}


def test_without_a_grid_nothing_is_tuned() -> None:
    own = flags("--seeds=3,4", "--budget=16000completions", "--jobs=2", "--out=x")
    assert (own.tuning, own.base, own.jobs, own.out, own.diagnose) == (None, True, 2, Path("x"), False)
    assert (list(own.arms), own.blocks["comparison"].seeds) == (["sft", "grpo", "two_stage", "dyme"], (3, 4))
    assert own.configure(own.arms["dyme"], 3, {}, {}).train.max_completions == 16000
    assert not flags("--methods=dyme").base


def test_grids_for_all_methods_or_for_one() -> None:
    own = flags("--methods=sft,two_stage,dyme", "--learning-rates=3e-4,1e-3", "--grid=dyme:method.memorize_weight=code,paper",
                "--grid=objective.scale_rewards=none", "--halving=0.33,1", "--open-edges=0", "--traces=high,low")  # fmt: skip
    rates = {RATE: (3e-4, 1e-3)}
    assert grids(own) == {"sft": rates, "two_stage": rates, "dyme": rates | {"method.memorize_weight": ("code", "paper")}}
    assert own.settings == {"objective.scale_rewards": "none"}, "one value for all is no grid"
    assert own.tuning is not None and own.tuning.seeds == (100, 101), "seeds of their own"
    assert (own.tuning.first, own.tuning.keep, own.tuning.open_edges) == (0.33, 1, 0)
    assert own.tuning.settings == {"task.traces": "high"} and list(own.blocks["comparison"].conditions) == ["high", "low"]


def test_a_rate_of_its_own_follows_the_method_that_it_belongs_to() -> None:
    own = flags("--methods=sft,two_stage", "--learning-rates=3e-4,1e-3", rest=("--method.name=two_stage", "--method.sft_learning_rate=0.1"))
    assert own.arms["two_stage"].takes == {"method.sft_learning_rate": "sft"}
    assert own.configure(own.arms["sft"], 0, {}, {RATE: 1e-3}).method.settings["sft_learning_rate"] is None, "sft's is its own"
    plain = flags("--methods=sft,two_stage", rest=("--method.name=two_stage", "--method.sft_learning_rate=0.1"))
    assert plain.configure(plain.arms["two_stage"], 0, {}, {}).method.settings["sft_learning_rate"] == 0.1
    alone = flags("--methods=two_stage", "--grid=train.learning_rate=3e-4,1e-3")
    assert alone.configure(alone.arms["two_stage"], 0, {}, {RATE: 1e-3}).method.settings["sft_learning_rate"] is None


def test_settings_of_one_method_make_another_arm() -> None:
    written = "dyme+method.memorize_weight=0.125+reward.thinking_weight=0"
    own = flags(f"--methods=dyme,{written}", "--grid=dyme:train.learning_rate=1e-3,2e-3")
    config = own.configure(own.arms[written], 0, {}, {})
    assert (config.method.settings["memorize_weight"], config.reward.thinking_weight) == (0.125, 0)
    assert set(grids(own)) == {"dyme", written} and all(grids(own).values()), "a method's name means all of its arms"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds=0,100", "--learning-rates=1e-4,1e-3"], "seed 100 is a tuning seed; seeds that choose settings are never tested on"),
        (["--learning-rates=1e-4,1e-3", "--tuning-seeds="], "--tuning-seeds: a grid needs at least one seed"),
        (["--grid=learning_rate=1,2"], "--grid 'learning_rate=1,2' is not understood"),
        (["--grid=train.learning_rate="], "is not understood"),
        (["--grid=dymo:train.learning_rate=1e-3,1e-4"], "'dymo' is not among --methods; did you mean 'dyme'"),
        (["--grid=train.learning_rat=1e-3,1e-4"], "did you mean 'learning_rate'"),
        (["--grid=grpo:method.memorize_weight=1,2"], "grpo: unknown setting 'memorize_weight'"),
        (["--halving=0.5", "--learning-rates=1e-4,1e-3"], "--halving '0.5' is not understood; write SHARE,KEEP"),
        (["--methods=dyme+memorize_weight=1"], "'memorize_weight' is no setting; write dyme+reward.thinking_weight=0"),
        (["--methods=dymee"], "unknown method 'dymee'; did you mean 'dyme'"),
        (["--methods="], "at least one method and one seed"),
    ],
)
def test_wrong_flags_are_one_line(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        flags(*words)
    assert message in str(caught.value) and "\n" not in str(caught.value)
