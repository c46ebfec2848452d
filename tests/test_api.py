"""The public names and their signatures, and what happens where they are used wrongly."""

from __future__ import annotations

import ast
import inspect
import io
import signal
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image
from rich.console import Console
from runs import ENVIRONMENT, ROOT, small

import dyme
from dyme import api

TYPES = (
    "Config", "RunConfig", "ModelConfig", "TaskConfig", "MethodConfig", "RolloutConfig", "RewardConfig", "SupervisionConfig",
    "ObjectiveConfig", "TrainConfig", "Sample", "Fact", "ImageFile", "Picture", "Completion", "Verdict", "Judgement", "Group", "Branch",
    "Route", "Shape", "Bounds", "Method", "Stage", "Context", "Task", "Policy", "RunFolder", "Display", "DymeError", "ConfigError",
    "DataError", "ModelError", "RunError", "SupervisionError", "Tracker", "Stopped",
)  # fmt: skip
VALUES = ["METHODS", "TASKS", "__version__"]
SIGNATURES = {
    "load_recipe": "(path, *overrides)",
    "train": (
        "(config, *, samples=None, validation=None, rewards=None, verifier=None, method=None, trackers=(), resume=False, display=None)"
    ),
    "evaluate": "(model, config=None, *, samples=None, split=None, prompts=('think', 'direct'), k=8, verifier=None, display=None)",
    "write_page": "(run, out=None, *, beside=None)",
}
"""A change here is a change for everyone who builds on dyme."""


def signature(function: Any) -> str:
    """Names and defaults, without types."""
    found = inspect.signature(function)
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in found.parameters.values()]
    return str(found.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def test_names_and_signatures() -> None:
    assert sorted(dyme.__all__) == sorted([*TYPES, *VALUES, *SIGNATURES]) == dir(dyme)
    assert all(isinstance(getattr(dyme, name), type) for name in TYPES)
    assert {name: signature(getattr(dyme, name)) for name in SIGNATURES} == SIGNATURES
    assert all(getattr(dyme, name).__doc__ for name in [*TYPES, *SIGNATURES])
    assert set(dyme.METHODS) >= {"sft", "grpo", "dyme"} and "jsonl" in dyme.TASKS
    with pytest.raises(AttributeError, match="no attribute 'tran'"):
        _ = dyme.tran  # type: ignore[attr-defined]


def test_the_version_is_that_of_pyproject() -> None:
    assert dyme.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def test_type_checkers_see_what_is_there() -> None:
    """The imports under TYPE_CHECKING are the table of homes."""
    tree = ast.parse(Path(dyme.__file__).read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {
        (node.module.removeprefix("dyme."), alias.name)
        for node in block.body if isinstance(node, ast.ImportFrom) and node.module for alias in node.names
    }  # fmt: skip
    assert seen == {(home, name) for home, names in dyme._HOMES.items() for name in names}


def test_import_is_quick_and_free_of_torch() -> None:
    code = (
        "import sys, time; start = time.perf_counter(); import dyme; taken = time.perf_counter() - start; "
        "early = [n for n in ('torch', 'transformers', 'accelerate', 'PIL', 'numpy', 'rich') if n in sys.modules]; "
        "dyme.Sample, dyme.Config, dyme.RunFolder, dyme.METHODS, dyme.TASKS, dyme.train, dyme.load_recipe('charts-dyme'); "
        "late = [n for n in ('torch', 'transformers', 'accelerate') if n in sys.modules]; print(taken, early, late)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT, check=True).stdout
    taken, loaded = out.split(" ", 1)
    assert float(taken) < 0.3 and loaded == "[] []\n"


def rows(count: int, start: int = 10) -> list[dict[str, Any]]:
    """Questions about pictures in memory."""
    noise = numpy.random.default_rng(start)
    return [
        {
            "id": f"r{start + k}", "question": "Which number?", "answer": start + k, "rationale": f"I read {start + k}.",
            "image": Image.fromarray(noise.integers(0, 255, (32, 32, 3), "uint8")),
        }
        for k in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dyme.RunFolder:
    """A run of three steps on samples given in Python."""
    config = small(tmp_path_factory.mktemp("api") / "run", "task.name=jsonl")
    return dyme.train(config, samples=rows(8), validation=rows(2, 50), display=dyme.Display.quiet())


def test_train_returns_the_run_with_model_card_evaluation_and_page(trained: dyme.RunFolder) -> None:
    assert trained.model == trained.path / "model" and (trained.model / "model.safetensors").is_file()
    assert [(row["name"], row["step"]) for row in trained.evaluations()] == [("validation", 3)]
    assert "accuracy, thinking" in (trained.model / "README.md").read_text()
    assert (trained.path / "report.html").is_file()
    assert {image for row in trained.rollouts() for image in row["images"]} <= {dyme.Picture(row["image"]).key for row in rows(8)}


def test_evaluate_takes_a_run_a_folder_a_name_or_a_policy(trained: dyme.RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = dyme.Display.quiet()
    policy = dyme.Policy.load(dyme.ModelConfig(path=str(trained.model)))
    config = trained.config()
    asked = [
        dyme.evaluate(model, config, samples=rows(2, 50), k=0, display=quiet)
        for model in (trained, trained.model, str(trained.model), policy)
    ]
    assert asked[0] == asked[1] == asked[2] == asked[3]
    assert asked[0]["metrics"]["think_accuracy"]["n"] == 2
    assert (
        dyme.evaluate(trained, samples=rows(2, 50), k=0, prompts=("direct",), display=quiet)["metrics"].keys() < asked[0]["metrics"].keys()
    )
    assert capsys.readouterr().out == ""


def test_write_page_takes_a_run_or_its_folder(trained: dyme.RunFolder, tmp_path: Path) -> None:
    assert dyme.write_page(trained, tmp_path / "a.html").read_text() == dyme.write_page(str(trained.path), tmp_path / "b.html").read_text()


def test_a_second_training_in_one_process_is_as_the_first(trained: dyme.RunFolder, tmp_path: Path) -> None:
    """Nothing of another training, of other settings, is left over."""
    other = small(
        tmp_path / "other", "method.name=sft", "train.learning_rate=1e-2", "run.seed=3", "train.max_prompts=4", "task.train_size=4"
    )
    assert dyme.train(other, display=dyme.Display.quiet()).model.is_dir()
    config = replace(trained.config(), run=replace(trained.config().run, output=str(tmp_path / "again")))
    again = dyme.train(config, samples=rows(8), display=dyme.Display.quiet())
    assert (again.model / "model.safetensors").read_bytes() == (trained.model / "model.safetensors").read_bytes()
    assert again.evaluations() == []


def test_a_task_that_draws_its_own_gives_way_to_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dyme.Config] = []
    monkeypatch.setattr(api, "_train", lambda config, *_: seen.append(config))
    dyme.train(small(tmp_path / "run"), samples=rows(1), display=dyme.Display.quiet())
    config = dyme.load_recipe("own-data", f"run.output={tmp_path / 'other'}")
    assert config.task.train
    dyme.train(config, samples=rows(1), display=dyme.Display.quiet())
    assert [(one.task.name, one.task.train) for one in seen] == [("jsonl", ""), ("jsonl", "")], "no data is named that is not read"


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"train": {"learning_rate": -1.0}}, dyme.ConfigError, "train.learning_rate must be above 0"),
        ({"train": {"learning_rate": "1e-3"}}, dyme.ConfigError, "train.learning_rate: '1e-3' is str, not float"),
        ({"train": {"learning_rate": numpy.float32(1e-3)}}, dyme.ConfigError, "train.learning_rate"),
        ({"train": {"max_prompts": True}}, dyme.ConfigError, "train.max_prompts"),
        ({"run": {"seed": 1.0}}, dyme.ConfigError, "run.seed"),
        ({"run": {"output": Path("x")}}, dyme.ConfigError, "run.output"),
        ({"method": {"name": "dmye"}}, dyme.ConfigError, "did you mean 'dyme'"),
        ({"task": {"name": "chart"}}, dyme.ConfigError, "did you mean 'charts'"),
    ],
)
def test_a_config_made_by_hand_is_checked(change: dict[str, Any], error: type[Exception], said: str, tmp_path: Path) -> None:
    config = small(tmp_path / "run")
    [(section, values)] = change.items()
    config = replace(config, **{section: replace(getattr(config, section), **values)})
    doors = [lambda: dyme.train(config, samples=rows(1))]
    if section != "method":  # which an evaluation does not ask for
        doors.append(lambda: dyme.evaluate("embedded", config, samples=rows(1)))  # type: ignore[arg-type, return-value]
    for door in doors:
        with pytest.raises(error, match=said):
            door()
    assert not (tmp_path / "run").exists()


def test_wrong_use_is_one_line_before_anything_long(tmp_path: Path, trained: dyme.RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    config = small(tmp_path / "run")
    monkeypatch.setattr(dyme.Policy, "load", lambda *_: pytest.fail("a model was loaded"))
    wrong = {
        "a dyme.config.Config is needed, not dict": lambda: dyme.train({"run": {}}),  # type: ignore[arg-type]
        "train must be a TrainConfig, not dict": lambda: dyme.train(dyme.Config(train={"seed": 1})),  # type: ignore[arg-type]
        "samples is empty": lambda: dyme.train(config, samples=[]),
        "id 'r10' is also that of samples": lambda: dyme.train(config, samples=[*rows(2), *rows(1)]),
        "validation is empty": lambda: dyme.train(config, samples=rows(1), validation=[]),
        "already holds files": lambda: dyme.train(trained.config(), samples=rows(8)),
        "is not a run folder": lambda: dyme.train(config, resume=True),
        "a resumed run keeps its settings, and train.max_prompts differs": lambda: dyme.train(
            replace(trained.config(), train=replace(trained.config().train, max_prompts=64)), samples=rows(8), resume=True
        ),
        "began with other training samples": lambda: dyme.train(trained.config(), samples=rows(7), resume=True),
        "give samples or a split, not both": lambda: dyme.evaluate("embedded", samples=rows(1), split="test"),
        "task jsonl has no test data": lambda: dyme.evaluate(trained),
        "display is str; give a dyme.Display": lambda: dyme.train(config, samples=rows(1), display="quiet"),  # type: ignore[arg-type]
        "trackers is int; give a list": lambda: dyme.train(config, samples=rows(1), trackers=3),  # type: ignore[arg-type]
        "a dyme.Method is needed": lambda: dyme.train(config, samples=rows(1), method="sft"),  # type: ignore[arg-type]
        "a function (prediction, sample) is needed": lambda: dyme.train(config, samples=rows(1), verifier=3),  # type: ignore[arg-type]
        "rewards must be named": lambda: dyme.train(config, samples=rows(1), rewards=[3]),  # type: ignore[arg-type]
        "k must be": lambda: dyme.evaluate("embedded", samples=rows(1), k=1),
        "prompts is 'think'": lambda: dyme.evaluate("embedded", samples=rows(1), prompts="think"),  # type: ignore[arg-type]
        "a model is a folder": lambda: dyme.evaluate(3, samples=rows(1)),  # type: ignore[arg-type]
        "is not an override": lambda: dyme.load_recipe("charts-dyme", "train.learning_rate"),
        "is not an override; give each as text": lambda: dyme.load_recipe("charts-dyme", ["train.learning_rate=1"]),
        "did you mean 'learning_rate'": lambda: dyme.load_recipe("charts-dyme", "train.learnin_rate=1"),
    }
    for said, use in wrong.items():
        if "other training" in said:
            monkeypatch.undo()
        with pytest.raises(dyme.DymeError) as caught:
            use()
        assert said in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_stopped_run_says_how_to_go_on_and_goes_on_to_the_same_bits(trained: dyme.RunFolder, tmp_path: Path) -> None:
    config = replace(trained.config(), run=replace(trained.config().run, output=str(tmp_path / "run")))

    shown = io.StringIO()

    class Stopping(dyme.Display):
        def step(self, record: Any, stage: str) -> None:
            if record.step == 1:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match=r"stopped after step \d; the run is saved in .*resume=True"):
        dyme.train(config, samples=rows(8), display=Stopping(Console(file=shown, width=400)))
    assert "go on with: dyme.train(..., resume=True)" in shown.getvalue() and "dyme train" not in shown.getvalue()
    with pytest.raises(dyme.ModelError, match="no final model yet"):
        _ = dyme.RunFolder(config.run.output).model
    run = dyme.train(config, samples=rows(8), validation=rows(2, 50), resume=True, display=dyme.Display.quiet())
    assert (run.model / "model.safetensors").read_bytes() == (trained.model / "model.safetensors").read_bytes()
    assert [row["name"] for row in run.evaluations()] == ["validation"]


def test_an_evaluation_that_is_stopped_is_made_by_resuming(trained: dyme.RunFolder, tmp_path: Path) -> None:
    config = replace(trained.config(), run=replace(trained.config().run, output=str(tmp_path / "run")))
    run = dyme.RunFolder(config.run.output)

    def exact(prediction: str, sample: dyme.Sample) -> bool:
        if (run.path / "model").exists() and not stopped:
            stopped.append(True)
            signal.raise_signal(signal.SIGINT)
        return prediction == sample.answer

    def train(resume: bool) -> dyme.RunFolder:
        return dyme.train(config, samples=rows(8), validation=rows(2, 50), verifier=exact, resume=resume, display=dyme.Display.quiet())

    stopped: list[bool] = []
    with pytest.raises(
        KeyboardInterrupt, match=r"the trained model is saved in .*run/model; dyme\.train\(\.\.\., resume=True\) evaluates it"
    ):
        train(resume=False)
    held = (run.model / "model.safetensors").read_bytes()
    assert run.evaluations() == []
    assert [row["name"] for row in train(resume=True).evaluations()] == ["validation"]
    assert (run.model / "model.safetensors").read_bytes() == held
