"""The door of methods: what a user's method may be, and what each fault of one is told in; nothing outside the folder knows a name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
from runs import ROOT, small

from dyme import plugins
from dyme.checks import check_training
from dyme.cli.main import build_parser
from dyme.cli.training.compare import design_of
from dyme.config import Bounds, Config, MethodConfig
from dyme.errors import ConfigError
from dyme.methods import METHODS, Context, Method, NoSettings, Stage, asking, find, known_elsewhere
from dyme.methods.routes import explore, settle
from dyme.methods.state import MethodState
from dyme.model.policy import Policy
from dyme.recipe import build, load_recipe
from dyme.training import preflight
from dyme.training.loop import train
from dyme.types import Branch, Completion, Group, Route, Sample, Shape, Verdict

SAMPLE = Sample(id="s1", question="?", answer="1", rationale="One.")


@dataclass(frozen=True, kw_only=True)
class Settings:
    share: Annotated[float, Bounds(0, 1)] = 0.5
    """Part of it."""
    kinds: tuple[str, ...] = ("a",)
    """Kinds of it."""


def method(route: Any = explore, *, name: str = "own", stage: dict[str, Any] | None = None, **fields: Any) -> Method[Any]:
    stages = (Stage(**{"name": "only", "route": route, "rolls_out": True, "imitates": True, **(stage or {})}),)
    return Method(**{"name": name, "summary": "a", "source": "b", "stages": lambda own: stages, **fields})


def told(one: Any) -> str:
    """What a run of `one` is refused with."""
    with pytest.raises(ConfigError) as caught, plugins.given(Config(), method=one) as config:
        found = check_training(config)
        MethodState(found, config)
        preflight.check_method(found, config, SAMPLE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def routed(*branches: Any, **fields: Any) -> Callable[..., Route]:
    return lambda group, context: Route(**{"mode": "mixed", "branches": branches, **fields})


def raising(*_: Any) -> Any:
    raise KeyError("s1")


NAN = float("nan")
FAULTS = [
    (METHODS, "a dyme.Method is needed"), (method(name=""), "method.name must not be empty"),
    (method(name=3), "its name must be text, not 3"), (method(name="a+b"), "neither ':' nor '+'"),
    (method(name="dyme"), "as a method that ships does"), (method(summary=3), "its summary must be text, not 3"),
    (method(stages=None), "its stages must be a function"), (method(stages=lambda own: ()), "a tuple of Stage objects is needed"),
    (method(stages=raising), "its stages: test_door.py, line"), (method(stage={"share": 0.5}), "add up to 0.5, not to 1"),
    (method(stage={"share": NAN}), "share of stage 'only' must be a number from 0 to 1"),
    (method(stage={"rolls_out": "yes"}), "must be True or False"),
    (method(route=None), "must be functions"), (method(settings={"a": 1}), "must be a frozen dataclass"),
    (method(settings=Settings), "must be a frozen dataclass"), (method(settings=Settings(share=2)), "method.share must be from 0 to 1"),
    (method(defaults={"objective.bta": 0}), "unknown key 'bta'; did you mean 'beta'"), (method(defaults={"method.x": 0}), "no section"),
    (method(follows={"rate": ""}), "none of its settings"), (method(next_state=raising), "no first_state"),
    (method(first_state=lambda own: {1, 2}), "first_state: returned what JSON cannot hold"),
    (method(first_state=lambda own: NAN), "returned what JSON cannot hold"), (method(first_state=raising), "KeyError"),
    (method(first_state=lambda own: [], next_state=raising), "next_state: test_door.py, line"),
    (method(raising), "method own, stage only: test_door.py, line"), (method(lambda group: None), "TypeError"),
    (method(lambda group, context: "memorize"), "for s1 is 'memorize', and a Route is needed"),
    (method(routed(mode="mix")), "has the mode 'mix'; choose from memorize, explore"), (method(routed(1)), "Branch objects are needed"),
    (method(routed(Branch(term="imitate", weight=NAN))), "weight nan, and a finite number is needed"),
    (method(routed(Branch(term="policy", completion=0, advantage=NAN))), "advantage nan"),
    (method(routed(Branch(term="policy", completion=8))), "for completion 8, and the group has 8, counted from 0"),
    (method(routed(Branch(term="policy", completion=0, trusted=True))), "trusted = True; True is for targets"),
    (method(routed(Branch(term="imitate", trusted=1))), "trusted = 1"),  # type: ignore[arg-type]
    (method(routed(Branch(term="sft"))), "with the term 'sft'; choose from policy, imitate"),  # type: ignore[arg-type]
    (method(routed(Branch(term="imitate")), stage={"imitates": False}), "the stage declares imitates = False"),
    (method(stage={"rolls_out": False}, route=routed(Branch(term="policy", completion=0))), "completion 0, and the group has 0"),
    (method(routed(Branch(term="imitate", shape=Shape(of=3)))), "a Shape of a function is needed"),  # type: ignore[arg-type]
    (method(routed(Branch(term="imitate", shape=Shape(of=lambda p: p / 0)))), "a tensor of three finite numbers is needed"),
    (method(routed(Branch(term="imitate", shape=Shape(of=lambda p: 1.0)))), "returned 1.0, and a tensor"),
    (method(routed(Branch(term="imitate", shape=Shape(of=raising)))), "KeyError"),
    (method(stage={"advantages": lambda rewards, pool, context: [0.0]}), "ValueError"),
    (method(stage={"advantages": lambda rewards, pool, context: [NAN] * 8}), "advantage nan"),
    (method(stage={"replay": 3}), "must be functions"), (method(stage={"replay": raising}), "replay: test_door.py, line"),
    (method(stage={"replay": lambda context: ["s1", "s2"]}), "replay: 's2' is the id of no training sample"),
    (method(stage={"replay": lambda context: 3}), "replay: test_door.py, line"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "words"), FAULTS, ids=range(len(FAULTS)))
def test_a_fault_of_a_users_method_is_one_line_before_anything_runs(one: Any, words: str) -> None:
    assert words in told(one)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("METHOD = 3", "is 3, and a dyme.Method is needed"), ("OTHER = 3", "has no 'METHOD'"), ("x =", "line 1: SyntaxError"),
        ("import nothing_of_the_kind", "ModuleNotFoundError"), (None, "no such file"),
    ],
)  # fmt: skip
def test_a_file_without_a_method(text: str | None, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Policy, "load", None)
    if text is not None:
        (tmp_path / "mine.py").write_text(text, encoding="utf-8")
    name = f"{tmp_path / 'mine.py'}:METHOD"
    config = replace(small(tmp_path / "run"), method=MethodConfig(name=name))
    doors: list[Callable[[], Any]] = [
        lambda: build({"method": {"name": name}}), lambda: train(config),
        lambda: compared(name),
    ]  # fmt: skip
    for door in doors:
        with pytest.raises(ConfigError, match=re.escape(words)) as caught:
            door()
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def compared(methods: str) -> None:
    """Check a comparison of these methods."""
    design_of(build_parser("compare").parse_args(["compare", "charts-dyme", "--methods", methods]), []).check()


def test_names_are_known_or_the_nearest_is_told() -> None:
    with pytest.raises(ConfigError, match="unknown method 'two-stage'; did you mean 'two_stage'"):
        find("two-stage")
    with pytest.raises(ConfigError, match="did you mean 'base'"):
        compared("bse")


# Settings


def test_settings_of_a_users_method_are_keys_of_the_section(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").write_text('[method]\nname = "mine.py:METHOD"\nshare = 0.25\n', encoding="utf-8")
    (tmp_path / "mine.py").write_text(
        f"import sys; sys.path.insert(0, {str(ROOT / 'tests/methods')!r})\nimport test_door\n"
        'METHOD = test_door.method(settings=test_door.Settings(), defaults={"objective.beta": 0.1, "objective.std": "sample"})\n',
        encoding="utf-8",
    )
    config = load_recipe(tmp_path / "recipe.toml", ["--objective.std=population", "--method.kinds=b,c"])
    found = find(config.method.name)
    own = found.settings_of(config)
    assert (own.share, own.kinds) == (0.25, ("b", "c"))
    assert (config.objective.beta, config.objective.std) == (0.1, "population"), "a method's defaults yield to what is given"
    assert build(config.to_dict()) == config
    for word, message in (("share=2", "method.share must be from 0 to 1, not 2.0"), ("shre=1", "did you mean 'share'"),
                          ("sft_share=1", "own has no setting 'sft_share'; two_stage has")):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            load_recipe(tmp_path / "recipe.toml", [f"--method.{word}"])


def test_settings_of_another_method_stay_behind_where_a_recipe_holds_them(caplog: pytest.LogCaptureFixture) -> None:
    config = load_recipe("charts-dyme", ["--method.name=two_stage"])
    assert config.method == MethodConfig(name="two_stage")
    assert "memorize_weight is left out: two_stage has no such setting" in caplog.text
    caplog.clear()
    assert build({"method": {"name": "grpo", "sft_share": 0.5}}).method.settings == {} and not caplog.text, "a default says nothing"
    with pytest.raises(ConfigError, match="--method.all_correct: grpo has no setting 'all_correct'; dyme, .* and .* have"):
        build({}, ["--method.name=grpo", "--method.all_correct=explore"])
    assert known_elsewhere("sft_learning_rate") == ["sft", "two_stage"] and not known_elsewhere("zzz")


def test_a_run_of_a_method_whose_file_is_gone_can_be_read(tmp_path: Path) -> None:
    from dyme.tracking.run_folder import RunFolder

    place = MethodConfig(name="/gone/mine.py:METHOD", settings={"share": 0.5})
    run = RunFolder.create(tmp_path / "run", replace(Config(), method=place))
    assert run.config().method == place
    with pytest.raises(ConfigError, match="no such file"):
        check_training(run.config())


# What a method may know, and remember


def verdicts(*rewards: float) -> tuple[Verdict, ...]:
    return tuple(Verdict(parsed=True, correct=r >= 1, answer="", thinking="", reward=r) for r in rewards)


def group(*rewards: float) -> Group:
    return Group(sample=SAMPLE, completions=(Completion(text="", token_ids=(1,)),) * len(rewards), verdicts=verdicts(*rewards))


def test_the_target_joins_the_pool_of_a_group() -> None:
    """S-GRPO, all wrong: appended with reward 1 to 8 rows A* is 2.83 and each wrong row's -0.354; in place of a row 2.65 and -0.378."""
    wrong, objective = group(*[0.0] * 8), replace(Config().objective, advantage_eps=0.0)
    for rows, best, rest in ((8, 2.828, -0.354), (7, 2.646, -0.378)):
        pool = (*(Branch(term="policy", completion=k) for k in range(rows)), Branch(term="policy"))
        settled = settle(Route(mode="mixed", branches=pool), wrong, objective, target_reward=1.0)
        assert [b.advantage for b in settled.branches] == pytest.approx([rest] * rows + [best], abs=1e-3)


def test_advantages_of_a_methods_own() -> None:
    """LUFFY's code: the baseline is the mean of the model's own rows alone."""

    def own_rows(rewards: Any, pool: Any, context: Any) -> list[float]:
        own = [r for r, b in zip(rewards, pool, strict=True) if b.completion is not None]
        return [r - sum(own) / len(own) for r in rewards]

    one = method(routed(*(Branch(term="policy", completion=k) for k in range(2)), Branch(term="policy")), stage={"advantages": own_rows})
    stage, context = one.stages(one.settings)[0], one.context(Config())
    of = group(1.0, 0.0)
    settled = asking.settle_route(one, stage, asking.ask(one, stage, of, context), of, context, 0.0, verdicts(1.0)[0])
    assert [b.advantage for b in settled.branches] == [0.5, -0.5, 0.5]


def test_state_is_what_json_holds_and_a_method_cannot_change_it_in_place() -> None:
    one = method(first_state=lambda own: {"seen": (1, 2)}, next_state=lambda groups, routes, context: [context.step, len(groups), routes])
    state = MethodState(one, Config())
    assert state.context(1, 0.0).state == {"seen": [1, 2]}, "as a checkpoint gives it back"
    with pytest.raises(ConfigError, match="next_state: returned what JSON cannot hold"):
        state.learn([(group(1.0), Route(mode="skip"))], state.context(3, 0.5))


def test_needs_are_declared() -> None:
    needs = {name: [stage.needs for stage in one.plan(Config(method=MethodConfig(name=name)))] for name, one in METHODS.items()}
    both = ("rollouts", "traces")
    plain = {"sft": [("traces",)], "grpo": [("rollouts",)], "two_stage": [("traces",), ("rollouts",)]}
    assert needs == {name: plain.get(name, [both]) for name in METHODS}
    assert method(stage={"imitates": False, "reads_traces": True}).stages(None)[0].needs == both
    for one in METHODS.values():
        asking.try_out(one, Config(method=MethodConfig(name=one.name)), SAMPLE)
    assert isinstance(METHODS["grpo"].settings, NoSettings) and isinstance(
        METHODS["grpo"].context(Config(method=MethodConfig(name="grpo"))), Context
    )


# No name outside


def test_no_methods_name_is_written_outside_its_folder() -> None:
    """But for the default of method.name, and the findings of a study, which are sentences about named methods; "grpo" is a kind of loss
    too, and some names are words, which only count as a method's name.
    """
    words = {"dyme", "chord", "inverse", "threshold", "annealed", "budget"}
    source, names = ROOT / "src/dyme", "|".join(name for name in METHODS if name not in words)
    allowed = re.compile(r"loss_type|write compare = |\bdr_grpo\b|\bdapo\b|^from dyme.methods import ")
    faults = []
    for file in sorted(source.rglob("*.py")):
        if any(file.is_relative_to(source / room) for room in ("methods", "comparison/findings")):
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            compared = rf"(?:==|!=|\bin) *[(\[]?[\"'](?:{'|'.join(words)})[\"']"
            name = re.search(rf"(?<![\w.])(?:{names})(?!\w)|{compared}|METHODS\[[\"']", line)
            if name and not allowed.search(line):
                faults.append(f"{file.relative_to(source)}:{number}: {line.strip()}")
    assert not faults, faults
