"""Export: a run's adapter becomes a plain checkpoint with a card; precision; what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import runs
import torch
from tiny import inputs
from transformers import AutoModelForImageTextToText

from dyme.config import ModelConfig
from dyme.model.policy import Policy
from dyme.tasks import charts
from dyme.tracking.run_folder import RunFolder


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished LoRA run of the embedded model, by the command line."""
    folder = tmp_path_factory.mktemp("lora")
    tree = runs.SMALL | {"run": {"output": str(folder / "run"), "save_every": 2}, "model": {"lora_rank": 4}}
    status, _, error = runs.run("train", runs.recipe(folder / "recipe.toml", tree), "--train.learning_rate", "1e-2")
    assert status == 0, error
    return folder / "run"


def logits(model: object, policy: Policy) -> torch.Tensor:
    prompt = policy.encode(charts.samples("test", 1)[0], "Think.")
    with torch.no_grad():
        out: torch.Tensor = model(**inputs(policy.model, prompt)).logits  # type: ignore[operator]
    return out


def test_a_lora_run_is_evaluated_and_says_so_in_its_card(adapted: Path) -> None:
    assert {"adapter_config.json", "adapter_model.safetensors", "README.md"} <= {file.name for file in (adapted / "model").iterdir()}
    assert RunFolder.open(adapted).evaluations()[-1]["name"] == "test"
    text = (adapted / "model/README.md").read_text()
    assert 'library_name: "peft"' in text and "lora_rank = 4" in text and "| test | accuracy, thinking | " in text
    assert sum(file.stat().st_size for file in (adapted / "checkpoints").rglob("*.safetensors")) < 4e6, "no checkpoint holds the base"


def test_export_merges_a_runs_adapter(adapted: Path, tmp_path: Path) -> None:
    out = tmp_path / "plain"
    status, said, error = runs.run("export", adapted, "--out", out)
    assert (status, error) == (0, "") and said.strip() == f"model  {out} (adapter merged, float32)"
    assert not (out / "adapter_config.json").exists() and 'library_name: "transformers"' in (out / "README.md").read_text()
    policy = Policy.load(ModelConfig(path=str(adapted))).eval()
    merged, base = AutoModelForImageTextToText.from_pretrained(out, dtype="float32").eval(), Policy.load(ModelConfig()).eval()
    assert torch.allclose(logits(merged, policy), logits(policy.model, policy), atol=1e-3)
    assert not torch.allclose(logits(base.model, policy), logits(policy.model, policy), atol=1e-3), "training moved it"


def test_export_in_another_precision(adapted: Path, tmp_path: Path) -> None:
    assert runs.run("export", adapted / "model", "--out", tmp_path / "half", "--dtype", "bfloat16")[0] == 0
    assert json.loads((tmp_path / "half/config.json").read_text())["dtype"] == "bfloat16"
    assert runs.run("export", "embedded", "--out", tmp_path / "base")[0] == 0
    assert not (tmp_path / "base/README.md").exists(), "no run, no card"


def test_an_exported_checkpoint_has_its_own_figures(adapted: Path, tmp_path: Path) -> None:
    """The run was evaluated after its last step, 3."""
    steps = {int(folder.name[5:]): folder / "model" for folder in (adapted / "checkpoints").iterdir()}
    assert set(steps) == {2, 3}
    for step, model in steps.items():
        assert runs.run("export", model, "--out", tmp_path / str(step))[0] == 0
        text = (tmp_path / str(step) / "README.md").read_text()
        assert ("Not evaluated." in text, "after step 2 of 3" in text, "| test |" in text) == (step == 2, step == 2, step == 3)


def test_export_overwrites_nothing(adapted: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    status, _, error = runs.run("export", adapted, "--out", tmp_path)
    assert (status, error) == (2, f"dyme: {tmp_path}: is not an empty folder; choose another --out\n")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_a_lora_run_resumes_and_its_adapter_can_be_trained_on(adapted: Path, tmp_path: Path) -> None:
    before = runs.snapshot(adapted / "model")
    assert runs.run("train", "--resume", adapted)[0] == 0
    assert runs.snapshot(adapted / "model") == before, "a finished run stays as it is"
    recipe = runs.recipe(tmp_path / "on.toml", runs.SMALL | {"run": {"output": str(tmp_path / "on")}, "model": {"path": str(adapted)}})
    status, _, error = runs.run("train", recipe)
    assert status == 2 and "is a LoRA adapter of rank 4, and model.lora_rank is 0; set it to 4" in error
    assert not (tmp_path / "on").exists()
    assert runs.run("train", recipe, "--model.lora_rank", "4")[0] == 0
