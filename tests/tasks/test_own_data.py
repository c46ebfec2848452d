"""Rows of one's own, from a recipe to an evaluated model: real charts, real architectures, pictures of every kind, facts or none."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from runs import ROOT, lines, recipe

from dyme import api
from dyme.cli.main import main
from dyme.config import TaskConfig
from dyme.errors import ConfigError
from dyme.model.policy import Policy
from dyme.recipe import load_recipe
from dyme.report import page
from dyme.rollout import hf
from dyme.tracking.run_folder import RunFolder
from dyme.types import Completion

CHARTQA = ROOT.parent / "shared/data/chartqa"
FAMILIES = ("embedded", "idefics3", "llava", "llava_onevision")
QUICK = ("--rollout.max_completion_length=8", "--rollout.num_generations=2", "--train.prompts_per_step=4")


@pytest.fixture(autouse=True)
def pageless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have tests of their own."""
    monkeypatch.setattr(page, "write_page", lambda run, out=None: run / "report.html")


def train(*words: object) -> int:
    return main(["train", *map(str, words), *QUICK])


def write(folder: Path, *rows: dict[str, Any], name: str = "train.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps({"question": "What is it?", "answer": "5"} | row) + "\n" for row in rows), encoding="utf-8")
    return file


def own(folder: Path, *rows: dict[str, Any]) -> Path:
    """A recipe for these rows, the last of which is for validation."""
    return recipe(
        folder / "own.toml",
        {
            "run": {"output": str(folder / "run")},
            "task": {"name": "jsonl", "train": str(write(folder, *rows, {}))},
            "train": {"max_prompts": 4},
        },
    )


# Real charts, real architectures


@pytest.mark.skipif(not CHARTQA.is_dir(), reason=f"{CHARTQA} is not there: rows of ChartQA are not shipped with the project")
@pytest.mark.parametrize("family", FAMILIES)
def test_chartqa_trains_and_evaluates(family: str, tmp_path: Path, checkpoints: Any, capsys: pytest.CaptureFixture[str]) -> None:
    model = "embedded" if family == "embedded" else checkpoints(family)
    output, test = tmp_path / "run", CHARTQA / "eval.jsonl"
    words = ["--task.train", CHARTQA / "train.jsonl", "--task.test", test, "--task.train_size=12", "--task.test_size=2"]
    assert train("own-data", *words, "--model.path", model, "--run.output", output, "--train.max_prompts=8") == 0
    shown = capsys.readouterr().out
    assert "12 of 12 rows have no rationale" in shown
    assert "no facts either: their target is the bare answer" in shown
    run = RunFolder.open(output)
    assert [s.step for s in run.steps()] == [1, 2]
    assert run.evaluations()[-1]["metrics"]["think_accuracy"]["n"] == 2
    questions = {row["question"] for row in lines(CHARTQA / "train.jsonl")[:12]}
    assert {row["question"] for row in run.rollouts()} <= questions
    assert main(["eval", str(output / "model"), "--samples", "1", "--k", "2"]) == 0
    assert "accuracy, thinking" in capsys.readouterr().out


# The recipes as they stand


@pytest.mark.parametrize("stands", ["checkout", "elsewhere", "copied"])
def test_own_data_recipe_as_it_stands(
    stands: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT if stands == "checkout" else tmp_path)
    if stands == "copied":
        assert main(["recipes", "own-data", "--out", "mine"]) == 0
    named = "mine/own-data.toml" if stands == "copied" else "own-data"
    assert train(named, "--run.output", tmp_path / "run", "--train.max_prompts=4") == 0
    shown = capsys.readouterr().out
    assert "5 of 22 rows have no rationale: their target is their facts in words and the answer\n" in shown
    assert "no test data: the evaluation at the end is on the validation split, 2 rows that are not trained on" in shown
    (figures,) = RunFolder.open(tmp_path / "run").evaluations()
    assert figures["name"] == "validation" and figures["by_kind"]


def test_own_data_recipe_with_two_lines_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_idefics3: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["recipes", "own-data"]) == 0
    file = Path("own-data.toml")
    rows = "".join(f"Question {k}?,{k}\n" for k in range(20))
    Path("mine.csv").write_text("question,answer\n" + rows, encoding="utf-8")
    text = file.read_text(encoding="utf-8").replace("own-data/train.jsonl", "mine.csv").replace('"embedded"', f'"{tiny_idefics3}"')
    file.write_text(text, encoding="utf-8")
    assert train(file, "--train.max_prompts=4") == 0
    (figures,) = RunFolder.open("runs/own-data").evaluations()
    assert (figures["name"], figures["metrics"]["direct_accuracy"]["n"]) == ("validation", 2)


def test_a_recipe_names_both_places_of_a_file_that_is_in_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    file = recipe(tmp_path / "there/own.toml", {"task": {"name": "jsonl", "train": "rows.jsonl", "path": "owner/name"}})
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(
        ConfigError, match=rf"train: rows.jsonl is neither in the working directory, {tmp_path}/here, nor .*{tmp_path}/there;"
    ):
        load_recipe(file)
    assert load_recipe(file, ["--task.train=other.jsonl"]).task.train == "other.jsonl"
    beside = write(tmp_path / "there", {}, name="rows.jsonl")
    assert load_recipe(file).task == TaskConfig(name="jsonl", train=str(beside), path="owner/name")
    write(tmp_path / "here", {}, name="rows.jsonl")
    assert load_recipe(file).task.train == "rows.jsonl"


@pytest.mark.parametrize("name", ["charts-dyme", "charts-sft", "charts-grpo", "charts-two-stage"])
def test_charts_recipes_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert train(name, "--run.output", tmp_path / "run", "--train.max_prompts=8", "--task.test_size=2") == 0
    run = RunFolder.open(tmp_path / "run")
    assert [s.step for s in run.steps()] == [1, 2]
    assert [e["name"] for e in run.evaluations()] == ["test"]


def test_smolvlm_recipe_runs_on_its_architecture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_idefics3: Path) -> None:
    monkeypatch.chdir(ROOT)
    data = ["--task.name=jsonl", "--task.path=" + str(ROOT / "recipes/own-data"), "--task.test_size=2", "--supervision.facts=data"]
    words = ["--model.path", tiny_idefics3, "--run.output", tmp_path / "run", "--train.max_prompts=4", "--train.precision=bf16"]
    assert train("smolvlm-500m-chartqa", *data, *words) == 0
    assert json.loads((tmp_path / "run/model/config.json").read_text(encoding="utf-8"))["dtype"] == "bfloat16"


# What a row may bring


def memorized(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The targets that are asked for from now on."""
    asked: list[str] = []
    plain = Policy.target
    monkeypatch.setattr(Policy, "target", lambda self, text: asked.append(text) or plain(self, text))
    return asked


def test_targets_are_made_of_what_a_row_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"tea": 1.8, "jam": "3.20"}
    rows = [
        {"rationale": "Jam is third.", "facts": facts, "answer": "1"},
        {"rationale": "Tea is first.", "answer": "2"},
        {"facts": facts, "answer": "3"},
        {"answer": "4"},
    ]
    asked = memorized(monkeypatch)
    assert train(own(tmp_path, *rows), "--method.name=sft") == 0
    assert sorted(set(asked)) == [
        "Answer: 4",
        "Jam is third. Answer: 1",
        "Observation: tea 1.8, jam 3.20. Answer: 3",
        "Tea is first. Answer: 2",
    ]
    shown = capsys.readouterr().out
    assert "2 of 4 rows have no rationale: their target is their facts in words and the answer; 1 have no facts either" in shown
    assert train(tmp_path / "own.toml", "--supervision.refiner=local", "--run.output", tmp_path / "refined") == 0
    assert "2 of 4 rows have no rationale: the local refiner writes their target; where it cannot, it is" in capsys.readouterr().out


def test_rows_with_rationales_need_no_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(own(tmp_path, *[{"rationale": "Jam is third."}] * 4), "--method.name=sft") == 0
    assert "no rationale" not in capsys.readouterr().out


def test_facts_earn_the_thinking_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def sample(policy: Policy, prompts: Sequence[Any], seeds: Sequence[int], config: Any, **_: Any) -> list[tuple[Completion, ...]]:
        texts = ["I see tea 1.8, jam 3.20. Answer: 5", "I see tea 9, nothing else. Answer: 5"]
        return [tuple(Completion(text=text, token_ids=policy.target(text)) for text in texts)] * len(prompts)

    monkeypatch.setattr(hf, "sample", sample)
    monkeypatch.setattr(api, "held_out", lambda task: None)
    rows = [{"facts": {"tea": 1.8, "jam": "3.20"}, "rationale": "Jam is third."}] * 4
    assert train(own(tmp_path, *rows), "--method.name=grpo") == 0
    for row in lines(tmp_path / "run/rollouts.jsonl"):
        assert row["facts"] == [["tea", "1.8"], ["jam", "3.20"]]
        good, bad = row["completions"]
        assert good["rewards"]["thinking"] == 1 > bad["rewards"]["thinking"]
        assert good["advantage"] > 0 > bad["advantage"]


def test_text_rows_train_a_text_model_and_the_embedded_one(tmp_path: Path, tiny_llama: Path) -> None:
    for name, model in (("a", tiny_llama), ("b", "embedded")):
        (tmp_path / name).mkdir()
        assert train(own(tmp_path / name, {}, {}, {}), "--model.path", model) == 0


def test_rows_with_and_without_pictures_train_together(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    assert train(own(tmp_path, {"image": "a.png"}, {}, {"images": ["a.png", "a.png"]}, {})) == 0


def test_a_text_that_is_taken_for_a_picture_is_told_before_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    before = {"image": "a.png", "question": "<image>\nHow much?"}
    assert train(own(tmp_path, *[before] * 30)) == 0, "around the question it is left out"
    rows = [before] * 20 + [before | {"facts": {"<image>": 5}}] + [before] * 10
    assert train(own(tmp_path, *rows), "--run.output", tmp_path / "other") == 2
    assert "dyme: train:21: the list of facts holds '<image>', which " in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert main(["eval", "embedded", "--task=jsonl", f"--task.test={tmp_path / 'train.jsonl'}"]) == 2
    assert "train:21: the list of facts holds '<image>'" in capsys.readouterr().err


def pictures(folder: Path) -> dict[str, Image.Image]:
    """One picture in every mode that the issue names, each 40 x 30 with a red left half."""
    plain = Image.new("RGB", (40, 30), "blue")
    plain.paste("red", (0, 0, 20, 30))
    turned = plain.transpose(Image.Transpose.ROTATE_90)  # EXIF 6: turn by 270 degrees anticlockwise to view
    exif = Image.Exif()
    exif[0x0112] = 6
    plain.convert("P").save(folder / "palette.png")
    plain.convert("RGBA").save(folder / "rgba.png")
    plain.convert("CMYK").save(folder / "cmyk.jpg", quality=95)
    turned.save(folder / "exif.jpg", quality=95, exif=exif)
    Image.new("I;16", (40, 30), 40_000).save(folder / "grey16.png")
    return {file.name: Image.open(file) for file in sorted(folder.iterdir()) if file.suffix in (".png", ".jpg")}


def test_pictures_of_every_kind_train_right_side_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pictures(tmp_path)
    assert len(made) == 5
    seen: list[Image.Image] = []
    plain = Policy.encode

    def encode(self: Policy, sample: Any, instruction: str) -> Any:
        seen.extend(source.load() for source in sample.images)
        return plain(self, sample, instruction)

    monkeypatch.setattr(Policy, "encode", encode)
    assert train(own(tmp_path, *({"image": name} for name in made)), "--train.max_prompts=5", "--train.prompts_per_step=5") == 0
    assert len(seen) >= 5
    assert {(picture.mode, picture.size) for picture in seen} == {("RGB", (40, 30))}
    for picture in seen:
        left, right = picture.getpixel((5, 15)), picture.getpixel((35, 15))
        assert isinstance(left, tuple)
        assert isinstance(right, tuple)
        assert (left[0] > 200 and right[2] > 200) or left == right == (156, 156, 156)
