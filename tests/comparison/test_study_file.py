"""Study files: what they say, and one line for everything that is wrong in them, before any work."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from comparison_designs import TINY, design, tree
from runs import ROOT

from dyme.cli.main import main
from dyme.comparison.design import budget_of, named, parse_budget
from dyme.comparison.study import Study
from dyme.comparison.study_file import design_of, read_study
from dyme.errors import ConfigError


def test_a_file_says_what_its_cells_are(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(
        '[study]\nrecipe = "own.toml"\nbudget = "8prompts"\ncells = "cells"\n'
        '[settings]\ntrain.learning_rate = 2e-3\n"task.traces" = "high"\n'
        "[arms.sft]\n[arms.soft]\nmethod = 'dyme'\nlabel = 'soft DyME'\nsettings = { method.memorize_weight = 0.5 }\n"
        '[blocks.first]\narms = ["sft", "soft"]\nseeds = [1, 2]\n'
        'conditions = { true = { "task.misread" = 0.0 }, half = { task.misread = 0.5 } }\n',
        encoding="utf-8",
    )
    (tmp_path / "own.toml").write_text("[rollout]\nnum_generations = 4\n[method]\nname = 'grpo'\n", encoding="utf-8")
    (tmp_path / "cells").mkdir()
    found = read_study(file, ["--train.weight_decay", "0.5", "--task.traces=low"], jobs=3)
    found.check()
    assert (found.title, found.out, found.jobs, found.arms["sft"].method) == ("mine", Path("runs/mine"), 3, "sft")
    config = found.configure(found.arms["soft"], 2, found.blocks["first"].conditions["half"], {"method.all_correct": "explore"})
    assert (config.method.name, config.method.settings) == ("dyme", {"memorize_weight": 0.5, "all_correct": "explore"})
    assert (config.run.seed, config.train.max_prompts, config.train.learning_rate, config.task.misread) == (2, 8, 2e-3, 0.5)
    assert config.rollout.num_generations == 4, "the recipe beside the file"
    assert found.cells == tmp_path / "cells", "the cells beside the file"
    assert (config.train.weight_decay, config.task.traces) == (0.5, "low"), "the command line's stand above the file's"


def test_a_method_of_ones_own_may_lie_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "focal.py").write_text((ROOT / "examples/focal.py").read_text(encoding="utf-8"), encoding="utf-8")
    content = tree(arms={"mine": {"method": "focal.py:METHOD"}}, blocks={"b": {"arms": ["mine"], "seeds": [1]}})
    own = design_of(content, "s.toml", tmp_path / "s.toml")
    own.check()
    assert own.configure(own.arms["mine"], 1, {}, {}).method.name == f"{tmp_path}/focal.py:METHOD"
    cell = Study(own).test_cell("mine", "", {}, 1, {})
    assert cell.identity["method"]["name"] == "focal.py:METHOD" and list(cell.identity["code"]) == ["focal.py"], "wherever it lies"
    before = cell.id
    (tmp_path / "focal.py").write_text((tmp_path / "focal.py").read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert Study(own).test_cell("mine", "", {}, 1, {}).id != before, "another method"


@pytest.mark.parametrize(
    ("text", "limits"),
    [("120s", {"max_seconds": 120.0}), ("2000prompts", {"max_prompts": 2000}), (" 8completions ", {"max_completions": 8}),
     ("500tokens", {"max_tokens": 500}), ("1.5s", {"max_seconds": 1.5})],
)  # fmt: skip
def test_budgets(text: str, limits: dict[str, float]) -> None:
    assert parse_budget(text) == limits


@pytest.mark.parametrize("text", ["", "s", "120", "0s", "0prompts", "0.5prompts", "-5s", "2h", "1.2.3s", "²s", "prompts", "1e3prompts"])
def test_what_is_no_budget(text: str) -> None:
    with pytest.raises(ConfigError, match="is not understood; write 120s or 2000prompts"):
        parse_budget(text)


@pytest.mark.parametrize(
    ("budget", "part"), [("4800prompts", "1600prompts"), ("100completions", "33completions"), ("60s", "19.998s"), ("", "0.9999epochs")]
)
def test_a_trial_has_a_part_of_the_budget_in_whole_steps(budget: str, part: str, tmp_path: Path) -> None:
    own = design(tmp_path, tree(study={"recipe": "charts-dyme", "budget": budget}, settings={}))
    whole, third = (own.configure(own.arms["sft"], 0, {}, share=share) for share in (1.0, 0.3333))
    assert (budget_of(whole), budget_of(third)) == (budget or "3epochs", part)


def _with(section: str, name: str, **keys: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda t: t[section].setdefault(name, {}).update(keys)


def _study(**keys: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda t: t["study"].update(keys)


WRONG: dict[str, tuple[Callable[[dict[str, Any]], Any], tuple[str, ...]]] = {
    "section": (lambda t: t.update(block={}), ("section [block]", "did you mean 'blocks'")),
    "key": (_study(jbos=2), ("[study]", "jbos", "did you mean 'jobs'")),
    "kind": (_study(jobs="2"), ("[study] jobs: '2' is not a whole number",)),
    "no jobs": (_study(jobs=0), ("jobs and threads must be at least 1",)),
    "budget": (_study(budget="2h"), ("[study] budget '2h'", "write 120s or 2000prompts")),
    "no recipe": (_study(recipe=""), ("[study] needs a recipe",)),
    "unknown recipe": (_study(recipe="charts-dime"), ("charts-dime", "dyme recipes")),
    "keep": (_study(keep="all"), ("keep is 'all'", "figures, models")),
    "setting": (lambda t: t["settings"].update({"train.learning_rat": 1}), ("learning_rat", "did you mean 'learning_rate'")),
    "bare setting": (lambda t: t.update(settings={"seed": 1}), ("[settings]: 'seed' is not a setting; write its section too",)),
    "nobody's setting": (lambda t: t["settings"].update({"method.mu": 1}), ("[settings] method.mu: no arm's method",)),
    "method": (_with("arms", "sft", method="stf"), ("[arms.sft] method", "unknown method 'stf'", "'sft'")),
    "arm's setting": (_with("arms", "sft", settings={"method.memorize_weight": 1}), ("[arms.sft]: sft: unknown setting",)),
    "value": (_with("arms", "dyme", grid={"method.memorize_weight": ["code", "papers"]}), ("[arms.dyme]", "papers")),
    "bounds": (_with("arms", "sft", grid={"train.learning_rate": [1e-3, -1.0]}), ("learning_rate must be above 0",)),
    "no list": (_with("arms", "sft", grid={"train.learning_rate": 1e-3}), ("[arms.sft] grid: train.learning_rate needs a list",)),
    "twice": (_with("arms", "sft", grid={"train.learning_rate": [1e-3, 1e-3]}), ("names a value twice",)),
    "given and tuned": (_with("arms", "sft", settings={"train.learning_rate": 1e-3}), ("train.learning_rate is in the grid and given",)),
    "name": (_with("arms", "base", method="sft"), ("[arms.base]: choose another name",)),
    "block's name": (_with("blocks", "tuning", arms=["sft"], seeds=[1]), ("[blocks.tuning]: choose another name",)),
    "tuned as nobody": (_with("arms", "control", tuned_as="dime"), ("[arms.control] tuned_as", "'dime'", "did you mean 'dyme'")),
    "itself": (_with("arms", "control", tuned_as="control"), ("[arms.control] is tuned as itself",)),
    "circle": (
        lambda t: t["arms"].update(a={"method": "sft", "tuned_as": "b"}, b={"method": "sft", "tuned_as": "a"}),
        ("[arms.a] is tuned as itself, by way of b",),
    ),
    "grid and leader": (_with("arms", "sft", tuned_as="dyme"), ("[arms.sft] has a grid and tuned_as",)),
    "arm": (_with("blocks", "primary", arms=["dyme", "spt"]), ("[blocks.primary]", "unknown arm 'spt'")),
    "pair": (_with("blocks", "primary", compare=["dyme"]), ("'dyme' is no pair",)),
    "pair outside": (_with("blocks", "primary", arms=["sft"]), ("compare names 'dyme', which is not among its arms",)),
    "no seeds": (_with("blocks", "primary", seeds=[]), ("[blocks.primary] needs arms and seeds",)),
    "seed": (_with("blocks", "primary", seeds=[1, -2]), ("-2 is no seed",)),
    "seeds meet": (_with("blocks", "primary", seeds=[1, 101]), ("[blocks.primary]: seed 101 is a tuning seed",)),
    "condition": (_with("blocks", "primary", conditions={"a": {"task.misread": 2.0}}), ("misread",)),
    "no tuning": (lambda t: t.pop("tuning"), ("[arms.sft] has a grid, and there is no [tuning]",)),
    "tuning seeds": (lambda t: t["tuning"].pop("seeds"), ("[tuning] needs seeds",)),
    "halving": (lambda t: t["tuning"].update(halving={"first": 1.5}), ("halving.first must be above 0 and at most 1",)),
    "halving's key": (lambda t: t["tuning"].update(halving={"frist": 0.5}), ("[tuning] halving", "'first'")),
    "nothing": (lambda t: t.update(arms={}), ("at least one arm",)),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line_that_names_the_place(case: str, tmp_path: Path) -> None:
    change, words = WRONG[case]
    content = json.loads(json.dumps(tree()))
    change(content)
    with pytest.raises(ConfigError) as caught:
        design(tmp_path / "out", content).check()
    text = str(caught.value)
    assert all(word in text for word in words), text
    assert "\n" not in text and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "cannot read the study"), ("[study\n", "not valid TOML"), ("[study]\nrecipe = 'charts-dyme'\n", "at least one arm")],
)
def test_a_file_that_is_none(content: str | None, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "s.toml"
    if content is not None:
        file.write_text(content, encoding="utf-8")
    assert main(["study", str(file)]) == 2
    error = capsys.readouterr().err
    assert words in error and str(file) in error and error.count("\n") == 1


def test_blocks_by_name_need_the_trials_of_their_arms_and_of_those_they_follow(tmp_path: Path) -> None:
    content = tree(blocks={"a": {"arms": ["control"], "seeds": [1]}, "b": {"arms": ["sft"], "seeds": [1]}})
    own = design(tmp_path, content)
    blocks, arms = named(own, ["a"])
    assert ([block.name for block in blocks], [arm.name for arm in arms]) == (["a"], ["dyme", "control"])
    assert named(own, ["tuning"]) == ([], list(own.arms.values()))
    with pytest.raises(ConfigError, match="--only c: no such block; choose from tuning, a, b"):
        named(own, ["c"])
    assert set(TINY) <= set(own.settings)
