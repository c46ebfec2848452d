"""The model card: what the hub reads, the run's figures with intervals, and nothing about the machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import runs
import yaml
from transformers import AutoModelForImageTextToText

import dyme
from dyme.config import Config
from dyme.publishing import card
from dyme.recipe import build
from dyme.tracking.run_folder import RunFolder
from dyme.types import StepRecord

FIGURES = {"metrics": {
    "think_accuracy": {"value": 0.325, "low": 0.29, "high": 0.36, "n": 300, "seeds": 1},
    "completion_tokens": {"value": 40.25, "low": 39.0, "high": 41.5, "n": 300, "seeds": 1},
}}  # fmt: skip


def made(
    tmp_path: Path, *overrides: str, files: tuple[str, ...] = ("processor_config.json",), figures: Any = FIGURES
) -> tuple[dict[str, Any], str]:
    """Front matter and body of a card."""
    config = build({}, [f"--run.output={tmp_path / 'run'}", *(f"--{word}" for word in overrides)])
    run = RunFolder.create(tmp_path / "run", config, {})
    if figures:
        run.log_evaluation(0, "base", {"metrics": {"think_accuracy": {"value": 0.1, "low": 0.08, "high": 0.12, "n": 300, "seeds": 1}}})
        run.log_step(StepRecord(step=9, prompts=72, epoch=1.0, seconds=1.0, metrics={}))
        run.log_evaluation(9, "test", figures)
    folder = tmp_path / "model"
    folder.mkdir()
    for name in files:
        (folder / name).write_text("{}")
    text = card.write(run, folder).read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    return yaml.safe_load(front), body


def test_a_fine_tune(tmp_path: Path) -> None:
    front, body = made(tmp_path, "model.path=HuggingFaceTB/SmolVLM-500M-Instruct", "train.learning_rate=3e-5", "method.name=grpo")
    assert front == {
        "library_name": "transformers", "pipeline_tag": "image-text-to-text", "tags": ["dyme", "reinforcement-learning"],
        "base_model": "HuggingFaceTB/SmolVLM-500M-Instruct", "base_model_relation": "finetune",
    }  # fmt: skip
    assert body.strip().startswith("# SmolVLM-500M-Instruct, grpo on charts")
    assert "| base | accuracy, thinking | 10.0 % | 8.0 % to 12.0 % | 300 |" in body
    assert "| test | accuracy, thinking | 32.5 % | 29.0 % to 36.0 % | 300 |" in body
    assert "| test | completion tokens | 40.2 | 39.0 to 41.5 | 300 |" in body
    assert '[method]\nname = "grpo"\n\n[train]\nlearning_rate = 3e-05\n' in body
    assert f"QUESTION {Config().task.think_prompt}" in body and "`Answer:`" in body and "`enable_thinking=False`" in body
    assert f"dyme {dyme.__version__}" in body and "transformers 5" in body and "## Licence" in body


def test_an_adapter_of_a_text_model(tmp_path: Path) -> None:
    front, body = made(tmp_path, "model.path=Qwen/Qwen2.5-0.5B-Instruct", "model.lora_rank=8", files=("adapter_config.json",), figures=None)
    assert (front["library_name"], front["pipeline_tag"], front["base_model_relation"]) == ("peft", "text-generation", "adapter")
    assert "lora" in front["tags"] and "A LoRA adapter of rank 8 for" in body and "Not evaluated." in body
    assert 'PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("Qwen/Qwen2.5-0.5B-Instruct"), ' in body


@pytest.mark.parametrize("adapter", [False, True])
def test_nothing_tells_of_the_machine(adapter: bool, tmp_path: Path) -> None:
    words = (
        f"model.path={tmp_path}/secret/base", f"task.train={tmp_path}/rows.jsonl", "supervision.checker=llm", "supervision.refiner=llm",
        "supervision.url=http://10.0.0.7:8000/v1", "supervision.model=judge", "supervision.api_key_env=MY_KEY",
        f"task.prepared={tmp_path}/secret", "supervision.facts_cache=our/facts", "supervision.cache=our/answers",
        "supervision.concurrency=7", "task.language=zh", "supervision.on_failure=wait",
    )  # fmt: skip
    front, body = made(tmp_path, *words, files=("adapter_config.json",) if adapter else ())
    for word in (str(tmp_path), "10.0.0.7", "MY_KEY", "rows.jsonl", "our/", "prepared"):
        assert word not in body + json.dumps(front)
    for word in ("concurrency = 7", 'language = "zh"', 'on_failure = "wait"'):
        assert word in body
    assert "base_model" not in front and "a local checkpoint, `base`" in body and 'model = "judge"' in body


@pytest.mark.parametrize("name", ["/models/judge", "../judge", "~/judge", "our/models/judge", "C:\\judge"])
def test_a_served_model_may_be_a_path(name: str, tmp_path: Path) -> None:
    _, body = made(tmp_path, "supervision.checker=llm", "supervision.url=http://x/v1", f"supervision.model={name}")
    assert "judge" not in body


def test_figures_are_those_of_the_weights(tmp_path: Path) -> None:
    made(tmp_path, "train.precision=fp32")
    run = RunFolder.open(tmp_path / "run")

    def figures(step: int | None, dtype: str = "") -> str:
        return card.write(run, tmp_path / "model", step=step, dtype=dtype).read_text(encoding="utf-8")

    assert "32.5 %" in figures(9) and "after step" not in figures(9)
    for step in (3, -1):
        text = figures(step)
        assert "Not evaluated." in text and "32.5 %" not in text and "10.0 %" not in text
        assert ("These are the weights after step 3 of 9." in text) == (step == 3)
    run.log_evaluation(3, "test", FIGURES)
    assert "32.5 %" in figures(3)
    assert "Measured in float32; these weights are in bfloat16." in figures(9, "bfloat16")
    assert "Measured" not in figures(9, "float32")


def test_a_local_base_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in runs/ trained from runs/c1, its card written from elsewhere; then moved, where only what was recorded helps."""
    (tmp_path / "runs/c1").mkdir(parents=True)
    config = build({"model": {"path": "runs/c1"}})
    (tmp_path / "else/model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "else")

    def base(folder: str, **told: str) -> bool:
        run = RunFolder.create(tmp_path / folder, config, told)
        return "base_model" in card.write(run, tmp_path / "else/model").read_text(encoding="utf-8")

    assert not base("runs/c2")
    assert not base("else/c3", base="")
    assert base("else/c4", base="me/model")
    assert (card.base_of("runs/c1", [tmp_path]), card.base_of("runs/c1")) == ("", "runs/c1")
    assert [card.base_of(path) for path in ("embedded", "/a/b", "./a", "~/a", "a/b/c")] == [""] * 5


def test_the_code_of_the_card_runs(tmp_path: Path) -> None:
    """As the card of a run says, on the run's own folder."""
    status, out, error = runs.run("train", runs.recipe(tmp_path / "r.toml", runs.SMALL | {"run": {"output": str(tmp_path / "run")}}))
    assert status == 0, error
    text = (tmp_path / "run/model/README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0].replace("path/or/id/of/this/folder", str(tmp_path / "run/model"))
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert isinstance(scope["model"], type(AutoModelForImageTextToText.from_pretrained(tmp_path / "run/model")))
    value = RunFolder.open(tmp_path / "run").evaluations()[-1]["metrics"]["think_accuracy"]
    assert f"| test | accuracy, thinking | {100 * value['value']:.1f} % | " in text
