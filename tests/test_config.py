"""Settings: what is read, what is refused and in which words, and that every recipe that ships is one."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from dyme.config import Config, TrainConfig
from dyme.errors import ConfigError
from dyme.recipe import build, documentation, find, load_recipe, shipped, write_copy
from dyme.route import ROUTERS
from dyme.tasks import TASKS

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
        ["--train.learning_rate", "1e-4", "--model.freeze_vision=false", "--task.marker", "So:", "--method.sft_learning_rate", "none"],
    )
    assert (config.train.learning_rate, config.train.max_prompts) == (1e-4, 64)
    assert isinstance(config.train.max_prompts, int)
    assert (config.model.freeze_vision, config.task.marker, config.task.tolerance) == (False, "So:", None)


def test_values_may_begin_with_dashes_and_the_last_one_counts() -> None:
    assert build({}, ["--task.marker", "--", "--run.seed", "1", "--run.seed=-2"]) == build({}, ["--task.marker=--", "--run.seed", "-2"])


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
        assert list(keys) == list(Config().to_dict()[section])
        assert all(text.endswith(".") and len(text) > 10 for _, text in keys.values())


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
        "train.max_grad_norm=0", "run.save_every=-1", "run.keep_checkpoints=0", "method.sft_share=1.5", "method.memorize_weight=-1",
        "method.sft_learning_rate=0", "task.marker= ", "task.tolerance=-0.1", "task.train_size=-1", "objective.beta=-1",
    ],
)  # fmt: skip
def test_values_that_cannot_work(word: str) -> None:
    key = word.partition("=")[0].partition(".")[2]
    assert key.split("_")[-1] in refused({}, f"--{word}").replace("sizes", "size")


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
    assert config.method.name in ROUTERS
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
    assert load_recipe("own-data.toml") == load_recipe(shipped()["own-data"])
    kept = {path.relative_to(tmp_path): path.read_bytes() for path in (tmp_path / "own-data").rglob("*") if path.is_file()}
    assert len(kept) == 34
    assert write_copy("charts-sft", Path("deep/mine.toml")) == [Path("deep/mine.toml")]
    assert write_copy("charts-sft", Path("deep")) == [Path("deep/charts-sft.toml")]
    for name, out, message in (
        ("own-data", Path(), "exists already; choose another --out"),
        ("own-data", Path("other.toml"), "own-data/.* exists already"),
        ("charts-sft", Path("deep"), "exists already"),
        ("chart-sft", Path(), "did you mean 'charts-sft'"),
    ):
        with pytest.raises(ConfigError, match=message):
            write_copy(name, out)
    assert not Path("other.toml").exists()


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
                assert method.memorize_weight == "code"
                method = dataclasses.replace(method, memorize_weight=plain.method.memorize_weight)
            assert dataclasses.replace(config, run=plain.run, method=method) == plain


def test_smolvlm_recipe_holds_the_settings_of_the_paper() -> None:
    config = load_recipe("smolvlm-500m-chartqa")
    train, rollout = config.train, config.rollout
    assert (train.learning_rate, train.weight_decay, train.warmup_steps, train.lr_scheduler_type) == (8e-5, 0.01, 0, "linear")
    assert (train.prompts_per_step, train.num_train_epochs, train.num_iterations) == (32, 10, 1)
    assert (rollout.num_generations, rollout.max_completion_length, rollout.temperature) == (8, 300, 1)
    assert (config.objective.beta, config.model.dtype, config.model.freeze_vision) == (0, "bfloat16", True)


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
        assert (ours.train, ours.rollout, ours.objective, ours.model.dtype) == (theirs.train, theirs.rollout, theirs.objective, "bfloat16")


def test_there_is_a_recipe_for_each_model_of_the_paper() -> None:
    models = {path.stem.rpartition("-")[0] for path in PAPER}
    assert models == {"smolvlm-500m", "llava-onevision-0.5b", "internvl-1b", "qwen2.5-0.5b", "qwen2.5-vl-7b", "smollm2-135m"}


def test_own_data_recipe_marks_two_lines() -> None:
    text = find("own-data").read_text(encoding="utf-8")
    assert len(re.findall("<- your", text)) == 2
