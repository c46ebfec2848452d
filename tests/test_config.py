"""Settings: what is read, what is refused and in which words, and that every recipe that ships is one."""

from __future__ import annotations

import dataclasses
import errno
import math
import re
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dyme import checks, recipe, samples
from dyme.comparison.design import Arm, Block, Design
from dyme.config import Bounds, Config, MethodConfig, TrainConfig
from dyme.errors import ConfigError
from dyme.evaluation.items import Plan
from dyme.evaluation.run import evaluate, run_evaluation
from dyme.methods import METHODS
from dyme.model.policy import Policy
from dyme.recipe import build, documentation, find, load_recipe, shipped, write_copy
from dyme.tasks import TASKS
from dyme.training.loop import train

RECIPES = list(shipped().values())


def refused(tree: dict[str, Any], *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        build(tree, overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What is read


def test_nothing_is_the_defaults() -> None:
    assert build({}) == Config()


def test_sections_and_overrides() -> None:
    config = build(
        {"train": {"learning_rate": 1, "max_prompts": 64.0}, "task": {"tolerance": "none"}},
        ["--train.learning_rate", "1e-4", "--model.freeze_vision=false", "--task.marker", "So:", "--method.memorize_weight", "0.5"],
    )
    assert (config.train.learning_rate, config.train.max_prompts) == (1e-4, 64)
    assert isinstance(config.train.max_prompts, int)
    assert (config.model.freeze_vision, config.task.marker, config.task.tolerance) == (False, "So:", None)
    assert config.method == MethodConfig(name="dyme", settings={"memorize_weight": 0.5})


def test_values_may_begin_with_dashes_and_the_last_one_counts() -> None:
    assert build({}, ["--task.marker", "--", "--run.seed", "1", "--run.seed=2"]) == build({}, ["--task.marker=--", "--run.seed", "2"])


def test_round_trip_through_dictionaries() -> None:
    config = build({}, ["--task.tolerance", "0.1", "--objective.epsilon_high", "0.28", "--run.seed", "7"])
    assert build(config.to_dict()) == config
    assert build(Config().to_dict()) == Config()


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().run.seed = 1  # type: ignore[misc]


def test_every_setting_is_documented() -> None:
    documented = documentation()
    assert list(documented) == [f.name for f in dataclasses.fields(Config)]
    for section, keys in documented.items():
        assert section == "method" or list(keys) == list(Config().to_dict()[section])
        assert all(text.endswith(".") and len(text) > 10 for _, text in keys.values())
    own = {key for method in METHODS.values() for key in dataclasses.asdict(method.settings)}
    assert set(documented["method"]) == {"name", *own}
    assert documented["method"]["sft_learning_rate"][1].startswith("sft, two_stage: ")


# What is refused


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({"train": {"learnig_rate": 1}}, ["[train]", "unknown key 'learnig_rate'", "did you mean 'learning_rate'?"]),
        ({"trian": {}}, ["unknown section 'trian'", "did you mean 'train'?"]),
        ({"zzz": {}}, ["unknown section 'zzz'", "choose from run, model"]),
        ({"train": 5}, ["train must be a section", "[train]"]),
        ({"train": {"learning_rate": "fast"}}, ["[train] learning_rate", "'fast' is not a number"]),
        ({"train": {"learning_rate": [1]}}, ["[1] is not a number"]),
        ({"train": {"learning_rate": True}}, ["True is not a number"]),
        ({"train": {"learning_rate": float("nan")}}, ["nan is not a number"]),
        ({"train": {"max_seconds": float("inf")}}, ["inf is not a number"]),
        ({"rollout": {"num_generations": 2.5}}, ["2.5 is not a whole number"]),
        ({"model": {"freeze_vision": 1}}, ["1 is not true or false"]),
        ({"model": {"freeze_vision": [1]}}, ["[1] is not true or false"]),
        ({"model": {"freeze_vision": "yes"}}, ["'yes' is not true or false"]),
        ({"run": {"output": 5}}, ["5 is not text"]),
        ({"objective": {"loss_type": "ppo"}}, ["'ppo' is not one of grpo, dr_grpo, dapo"]),
        ({"objective": {"loss_type": ["grpo"]}}, ["is not one of"]),
    ],
)
def test_wrong_names_and_types(tree: dict[str, Any], words: list[str]) -> None:
    text = refused(tree)
    assert all(word in text for word in words), text


@pytest.mark.parametrize(
    "word",
    [
        "rollout.num_generations=1", "rollout.max_completion_length=0", "rollout.temperature=0", "rollout.top_p=0", "rollout.top_p=1.1",
        "rollout.top_k=-1", "train.prompts_per_step=0", "train.learning_rate=0", "train.num_iterations=0", "train.max_tokens_per_batch=-1",
        "train.max_prompts=-1", "train.max_seconds=-1", "train.num_train_epochs=0", "train.weight_decay=-1", "train.warmup_steps=-1",
        "train.max_grad_norm=0", "run.save_every=-1", "run.keep_checkpoints=0", "method.memorize_weight=-1",
        "task.marker= ", "task.tolerance=-0.1", "task.train_size=-1", "objective.beta=-1",
    ],
)  # fmt: skip
def test_values_that_cannot_work(word: str) -> None:
    key = word.partition("=")[0].partition(".")[2]
    assert key.split("_")[-1] in refused({}, f"--{word}").replace("sizes", "size")


BOUNDED = [
    (f"{section}.{key}", hint.__metadata__[0], typing.get_args(hint)[0])
    for section, cls in typing.get_type_hints(Config).items()
    for key, hint in typing.get_type_hints(cls, include_extras=True).items()
    if typing.get_origin(hint) is typing.Annotated
]


def with_value(name: str, value: Any) -> Config:
    """A Config made in Python, which nothing has checked."""
    section, key = name.split(".")
    if section == "method" and key != "name":
        return dataclasses.replace(Config(), method=MethodConfig(settings={key: value}))
    return dataclasses.replace(Config(), **{section: dataclasses.replace(getattr(Config(), section), **{key: value})})


def refused_in_python(config: Any, check: Callable[[Any], None] = recipe.check_values) -> str:
    with pytest.raises(ConfigError) as caught:
        check(config)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    return str(caught.value)


def test_every_number_has_bounds() -> None:
    numbers = {
        f"{section}.{key}" for section, table in Config().to_dict().items() for key, value in table.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }  # fmt: skip
    assert numbers <= {name for name, _, _ in BOUNDED}


@pytest.mark.parametrize(("name", "bounds", "kind"), BOUNDED, ids=[name for name, _, _ in BOUNDED])
def test_bounds_hold_in_a_recipe_and_in_python(name: str, bounds: Bounds, kind: Any) -> None:
    whole, tiny = kind is int, 1e-9
    within = [edge for edge in (bounds.least, bounds.most) if math.isfinite(edge)]
    beyond = [bounds.least - (1 if whole else tiny), bounds.most + (1 if whole else 1.0), bounds.above, bounds.below]
    beyond = [value for value in beyond if math.isfinite(value)]
    assert beyond
    for value in within:
        value = int(value) if whole else float(value)
        recipe.check_values(with_value(name, value))
        assert build({}, [f"--{name}={value!r}"]) == with_value(name, value)
    for value in beyond:
        value = int(value) if whole else float(value)
        assert refused({}, f"--{name}={value!r}") == refused_in_python(with_value(name, value))
        assert refused({}, f"--{name}={value!r}").startswith(f"{name} must be {bounds}, not ")
    assert f"{bounds}."[1:] in documentation()[name.partition(".")[0]][name.partition(".")[2]][1]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("train.prompts_per_step", "8", "'8' is str, not int; give 8"), ("train.prompts_per_step", 8.0, "8.0 is float, not int; give 8"),
        ("train.prompts_per_step", True, "True is not a number"), ("train.prompts_per_step", None, "None is not a whole number"),
        ("train.prompts_per_step", 10**15, "from 1 to 65,536"),
        pytest.param("train.prompts_per_step", 10**5000, "thousands of digits", id="huge"),
        ("train.learning_rate", math.nan, "nan is not a number"), ("train.learning_rate", math.inf, "inf is not a number"),
        ("train.learning_rate", "1e-4", "is str, not float"), ("train.learning_rate", -1, "above 0"), ("run.seed", -1, "from 0 to"),
        ("run.push_to_hub", 1, "1 is not true or false"), ("run.push_to_hub", "true", "'true' is str, not bool"),
        ("run.output", Path("runs/x"), "is not text"), ("run.output", "", "must not be empty"), ("model.path", " ", "must not be empty"),
        ("model.layout", "trees", "is not one of auto, tree"), ("model.dtype", None, "is not one of auto, float32"),
        ("objective.loss_type", "gpro", "is not one of grpo"), ("objective.epsilon_high", "none", "is str, not NoneType"),
        ("rollout.num_generations", 1, "one completion has no group"), ("rollout.temperature", 0, "must be from 0.001"),
        ("method.memorize_weight", "papers", "nor one of paper, code"), ("method.memorize_weight", -1.0, "at least 0"),
        ("reward.functions", ["a.py:b"], "is list, not tuple"), ("reward.functions", ("a:b", "c:b"), "two rewards of one name"),
        ("reward.functions", (1,), "1 is not text"), ("reward.functions", ("a.py:thinking",), "names of dyme's own rewards"),
        ("reward.weights", (1.0, math.nan), "nan is not a number"), ("reward.weights", ("1",), "is not of the right types; give (1.0,)"),
        ("model.image_splitting", 1, "1 is not true or false"), ("task.train_size", 10**9, "from 0 to"),
    ],
)  # fmt: skip
def test_a_config_made_in_python_is_held_to_the_same(name: str, value: Any, words: str) -> None:
    text = refused_in_python(with_value(name, value))
    assert words in text and name in text, text


def test_names_and_sections_are_checked_too() -> None:
    assert "did you mean 'dyme'?" in refused_in_python(with_value("method.name", "dme"), checks.check_training)
    assert "did you mean 'charts'?" in refused_in_python(with_value("task.name", "chart"), checks.check_config)
    assert "train must be a TrainConfig, not dict" in refused_in_python(
        dataclasses.replace(Config(), train={"learning_rate": 1}), checks.check_config
    )
    assert "a dyme.config.Config is needed, not dict" in refused_in_python({}, checks.check_config)
    checks.check_training(Config())


def test_settings_that_cannot_go_together() -> None:
    assert "at most model.image_max_pixels" in refused({}, "--model.image_min_pixels=9", "--model.image_max_pixels=8")
    assert "run.hub_model_id" in refused({}, "--run.push_to_hub=true")
    assert "supervision.url" in refused({}, "--supervision.facts=llm")


@pytest.mark.parametrize(
    "door",
    [
        lambda config: train(config), lambda config: train(config, samples=[], resume=True), lambda config: samples.load(config, "test"),
        lambda config: run_evaluation(config, [], Plan()), lambda config: evaluate(None, [], config, None),  # type: ignore[arg-type]
        lambda config: Design(
            title="", where="compare", recipe="", tables=config.to_dict(), settings={}, out=Path("x"),
            arms={"sft": Arm(name="sft", method="sft")}, blocks={"b": Block(name="b", arms=("sft",), seeds=(0,))},
        ).check(),
    ],
    ids=["train", "resume", "load", "run_evaluation", "evaluate", "compare"],
)  # fmt: skip
@pytest.mark.parametrize(("name", "value"), [("objective.loss_type", "gpro"), ("task.name", "chrts"), ("rollout.num_generations", 1)])
def test_every_door_checks_first(door: Callable[[Config], Any], name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before data, models or folders are touched."""
    monkeypatch.setattr(samples, "load_split", None)
    monkeypatch.setattr(Policy, "load", None)
    with pytest.raises(ConfigError, match=str(value)):
        door(with_value(name, value))


@pytest.mark.parametrize(
    "text", ["x = 0x" + "f" * 5000, "x = " + "9" * 5000, "x = " + "[" * 5000, "[train]\nprompts_per_step = 0x" + "f" * 5000],
    ids=["hexadecimal", "digits", "brackets", "setting"],
)  # fmt: skip
def test_toml_beyond_all_measure_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "huge.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_recipe(tmp_path / "huge.toml")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_recipe_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "bom.toml").write_text("[train]\nprompts_per_step = 8\n", encoding="utf-8-sig")
    assert load_recipe(tmp_path / "bom.toml").train.prompts_per_step == 8


@pytest.mark.parametrize("words", [["x"], ["--seed", "1"], ["--run.seed"], ["--run.sed", "1"], ["--rum.seed", "1"], ["run.seed=1"]])
def test_wrong_overrides(words: list[str]) -> None:
    assert words[0].split("=")[0].lstrip("-") in refused({}, *words)


def test_recipe_files_that_cannot_be_read(tmp_path: Path) -> None:
    broken, binary = tmp_path / "broken.toml", tmp_path / "binary.toml"
    broken.write_text("[train\n", encoding="utf-8")
    binary.write_bytes(b"\xff\xfe")
    for path, words in ((tmp_path / "no.toml", "cannot read"), (tmp_path, "cannot read"), (broken, "not valid TOML"), (binary, "TOML")):
        with pytest.raises(ConfigError, match=words) as caught:
            load_recipe(path)
        assert str(caught.value).startswith(str(path))


# The recipes


def test_there_are_recipes() -> None:
    names = {path.stem for path in RECIPES}
    assert names >= {"charts-dyme", "charts-sft", "charts-grpo", "charts-two-stage", "own-data", "full-dyme"}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_loads_and_opens_with_its_command(path: Path) -> None:
    config = load_recipe(path)
    assert config.task.name in TASKS
    assert config.method.name in METHODS
    assert path.read_text(encoding="utf-8").startswith(f"# dyme train {path.stem}")


def test_a_recipe_that_ships_is_found_by_its_name_and_a_file_of_ones_own_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own-data").mkdir()  # the rows' folder is no recipe
    assert find("own-data") == shipped()["own-data"]
    own = tmp_path / "own-data.toml"
    own.write_text("[run]\nseed = 7\n", encoding="utf-8")
    assert load_recipe("own-data").run.seed == 7
    with pytest.raises(ConfigError, match="`dyme recipes` lists"):
        load_recipe("full-dyme.toml")


def test_a_copy_of_a_recipe_has_its_rows_and_overwrites_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert write_copy("own-data") == [Path("own-data.toml"), Path("own-data")]
    ours, theirs = load_recipe("own-data.toml"), load_recipe(shipped()["own-data"])
    assert dataclasses.replace(ours, task=theirs.task) == theirs
    assert Path(ours.task.train).read_bytes() == Path(theirs.task.train).read_bytes()
    kept = {path.relative_to(tmp_path): path.read_bytes() for path in (tmp_path / "own-data").rglob("*") if path.is_file()}
    assert len(kept) == 34
    assert write_copy("charts-sft", Path("deep/mine.toml")) == [Path("deep/mine.toml")]
    assert write_copy("charts-sft", Path("deep")) == [Path("deep/charts-sft.toml")]
    for name, out, message in (
        ("own-data", Path(), "exists already; choose another --out"),
        ("own-data", Path("other.toml"), "^own-data exists already"),
        ("charts-sft", Path("deep"), "exists already"),
        ("chart-sft", Path(), "did you mean 'charts-sft'"),
    ):
        with pytest.raises(ConfigError, match=message):
            write_copy(name, out)
    assert not Path("other.toml").exists()


@pytest.mark.parametrize("last", [True, False])
def test_a_copy_of_a_recipe_is_whole_or_not_there(last: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, as the rows' 10th file is written, or the recipe, which is the last."""
    copied: list[Any] = []

    def full(source: Any, target: Any) -> None:
        if len(copied) == 9:
            raise OSError(errno.ENOSPC, "No space left on device")
        copied.append(target.write_bytes(source.read_bytes()))

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*(recipe, "write_whole", refuse) if last else (recipe.shutil, "copyfile", full))  # type: ignore[call-overload]
    with pytest.raises(OSError, match="No space left"):
        write_copy("own-data", tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    monkeypatch.undo()
    assert len(write_copy("own-data", tmp_path / "new")) == 2


def test_recipes_write_to_folders_of_their_own() -> None:
    outputs = [load_recipe(path).run.output for path in RECIPES]
    assert len(set(outputs)) == len(outputs)


def test_charts_recipes_differ_in_the_method_alone() -> None:
    for path in RECIPES:
        if path.stem.startswith("charts-"):
            config, plain = load_recipe(path), Config(train=TrainConfig(learning_rate=1e-3))
            assert config.method.name.replace("_", "-") == path.stem.removeprefix("charts-")
            method = dataclasses.replace(config.method, name=plain.method.name)
            if config.method.name == "dyme":
                assert method.settings == {"memorize_weight": "code"}
            method = dataclasses.replace(method, settings={})
            assert dataclasses.replace(config, run=plain.run, method=method) == plain


def test_smolvlm_recipe_holds_the_settings_of_the_paper() -> None:
    config = load_recipe("smolvlm-500m-chartqa")
    train, rollout = config.train, config.rollout
    assert (train.learning_rate, train.weight_decay, train.warmup_steps, train.lr_scheduler_type) == (8e-5, 0.01, 0, "linear")
    assert (train.prompts_per_step, train.num_train_epochs, train.num_iterations) == (32, 10, 1)
    assert (rollout.num_generations, rollout.max_completion_length, rollout.temperature) == (8, 300, 1)
    assert (config.objective.beta, config.train.precision, config.model.dtype, config.model.freeze_vision) == (0, "auto", "auto", True)


PAPER = [path for path in RECIPES if path.stem.rpartition("-")[2] in ("chartqa", "slake", "geometry", "aokvqa", "gsm8k")]


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_recipes_of_published_models_say_what_they_cost_and_where_the_data_is(path: Path) -> None:
    config, text = load_recipe(path), " ".join(line.removeprefix("# ") for line in path.read_text(encoding="utf-8").splitlines())
    task = path.stem.rpartition("-")[2]
    assert (config.task.name, config.task.path, config.run.output) == (task, f"data/{task}", f"runs/{path.stem}")
    assert f"dyme prepare {task} --from" in text
    assert re.search(r"Cost \(an estimate from parameters and tokens, not measured\): about [\d,]+ TFLOP a step .*, .* steps", text)
    assert config.supervision.domain == {"chartqa": "chart", "slake": "medical", "aokvqa": "world", "gsm8k": "text"}.get(task, task)
    if not config.model.lora_rank:
        ours, theirs = config, load_recipe("smolvlm-500m-chartqa")
        assert (ours.train, ours.rollout, ours.objective, ours.model.dtype) == (theirs.train, theirs.rollout, theirs.objective, "auto")


def test_there_is_a_recipe_for_each_model_of_the_paper() -> None:
    models = {path.stem.rpartition("-")[0] for path in PAPER}
    assert models >= {"smolvlm-500m", "llava-onevision-0.5b", "internvl-1b", "qwen2.5-0.5b", "qwen2.5-vl-7b", "smollm2-135m"}


def test_own_data_recipe_marks_two_lines() -> None:
    text = find("own-data").read_text(encoding="utf-8")
    assert len(re.findall("<- your", text)) == 2
