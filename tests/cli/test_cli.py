"""The command line: what a newcomer reads, and how bad input ends: status 2, one line, nothing overwritten, no model loaded."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from runs import ENVIRONMENT, ROOT, SMALL, recipe, run, small, snapshot

from dyme.cli.listing import tasks
from dyme.cli.looking import diagnose
from dyme.cli.looking import eval as eval_command
from dyme.cli.main import COMMANDS, build_parser, main, module_of, split_overrides
from dyme.cli.training import demo
from dyme.config import Config
from dyme.errors import RunError
from dyme.methods import METHODS
from dyme.recipe import documentation
from dyme.tasks import TASKS
from dyme.tracking.run_folder import RunFolder
from dyme.types import StepRecord

ROW = {"question": "What does the jam cost?", "answer": "3.20"}
Bad = Callable[[Path], list[object]]


def data(folder: Path, *rows: object, name: str = "rows.jsonl") -> list[object]:
    """Words that train on a JSON-lines file with these rows, in `folder`."""
    file = folder / name
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return ["train", plain(folder), "--task.name", "jsonl", "--task.train", file, "--run.output", folder / "run"]


def plain(folder: Path, **changes: dict[str, Any]) -> Path:
    return recipe(folder / "recipe.toml", SMALL | {"run": {"output": str(folder / "run")}} | changes)


def pictured(folder: Path, content: bytes | None) -> list[object]:
    if content is not None:
        (folder / "a.png").write_bytes(content)
    return data(folder, ROW, ROW | {"id": "till-7", "image": "a.png"}, ROW)


def png(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def bomb() -> bytes:
    """A PNG that claims 20,000 x 20,000 pixels."""
    small = png(Image.new("1", (8, 8)))
    header = b"IHDR" + (20_000).to_bytes(4, "big") * 2 + small[24:29]
    return small[:12] + header + zlib.crc32(header).to_bytes(4, "big") + small[33:]


def held(folder: Path) -> list[object]:
    """A folder that holds another run."""
    RunFolder.create(folder / "run", small(folder / "run"))
    return ["train", plain(folder)]


def unfinished(folder: Path) -> Path:
    run = RunFolder.create(folder / "run", small(folder / "run"))
    run.log_step(StepRecord(step=1, prompts=4, epoch=0.1, seconds=1.0, metrics={}))
    return run.path


BAD: dict[str, tuple[Bad, tuple[str, ...]]] = {
    "unknown command": (lambda f: ["trian", plain(f)], ("'trian'", "did you mean 'train'")),
    "unknown option": (lambda f: ["eval", "embedded", "--smaples", 3], ("'--smaples'", "did you mean --samples")),
    "setting without its section": (lambda f: ["train", plain(f), "--learning-rate", 3], ("did you mean --train.learning_rate",)),
    "option without a value": (lambda f: ["eval", "embedded", "--samples"], ("--samples", "--help")),
    "option that is not a number": (lambda f: ["eval", "embedded", "--k", "many"], ("--k", "many")),
    "word that nothing takes": (lambda f: ["tasks", "all"], ("'all'",)),
    "setting where none is taken": (lambda f: ["methods", "--run.seed", 1], ("--run.seed",)),
    "no recipe": (lambda f: ["train"], ("recipe", "--resume")),
    "recipe and resume": (lambda f: ["train", plain(f), "--resume", f], ("not both",)),
    "resume with a setting": (lambda f: ["train", "--resume", unfinished(f), "--run.seed", 1], ("keeps its recipe", "--run.seed")),
    "resume what is no run": (lambda f: ["train", "--resume", f], ("not a run folder",)),
    "report on what is no run": (lambda f: ["report", f], ("not a run folder",)),
    "missing recipe": (lambda f: ["train", f / "no.toml"], ("no.toml", "cannot read")),
    "wrong key": (lambda f: ["train", plain(f, train={"learnig_rate": 1})], ("learnig_rate", "did you mean 'learning_rate'")),
    "wrong value": (lambda f: ["train", plain(f), "--train.learning_rate", "fast"], ("'fast' is not a number",)),
    "unknown task": (lambda f: ["train", plain(f), "--task.name", "chart"], ("did you mean 'charts'",)),
    "unknown task to eval": (lambda f: ["eval", "embedded", "--task", "json"], ("did you mean 'jsonl'",)),
    "unknown method": (lambda f: ["train", plain(f), "--method.name", "twostage"], ("did you mean 'two_stage'",)),
    "K = 1": (lambda f: ["train", plain(f), "--rollout.num_generations", 1], ("num_generations must be from 2 to 4,096",)),
    "K = 1 to diagnose": (lambda f: ["diagnose", "embedded", "--k", 1], ("--k must be at least 2",)),
    "K = 1 to evaluate": (lambda f: ["eval", "embedded", "--k", 1], ("--k must be at least 2, or 0",)),
    "K = 0 to diagnose": (lambda f: ["diagnose", "embedded", "--k", 0], ("--k must be at least 2",)),
    "unknown prompt": (lambda f: ["eval", "embedded", "--prompt", "thinking"], ("--prompt", "'thinking'", "both")),
    "no tokens in a batch": (lambda f: ["eval", "embedded", "--batch-tokens", 0], ("--batch-tokens must be at least 1",)),
    "items into another folder": (lambda f: ["eval", "embedded", "--out", plain(f).parent], ("not an evaluation", "--out")),
    "items into a file": (lambda f: ["eval", "embedded", "--out", plain(f)], ("is a file", "--out")),
    "negative samples": (lambda f: ["eval", "embedded", "--samples", -5], ("--samples",)),
    "json file that cannot be written": (lambda f: ["eval", "embedded", "--json", f], ("--json", "cannot be written")),
    "folder of another run": (held, ("already holds files", "--resume")),
    "demo into another run": (lambda f: ["demo", "--out", held(f) and f / "run"], ("already holds files",)),
    "run that is not finished": (lambda f: ["eval", unfinished(f)], ("no final model", "--resume")),
    "export into what is a file": (
        lambda f: ["export", "embedded", "--out", plain(f) / "x"],
        ("no folder can be made in", "choose another --out"),
    ),
    "output is a file": (lambda f: ["train", plain(f), "--run.output", plain(f)], ("already holds files",)),
    "output below a file": (lambda f: ["train", plain(f), "--run.output", plain(f) / "run"], ("recipe.toml",)),
    "no data named": (lambda f: ["train", plain(f), "--task.name", "jsonl"], ("no train data", "--task.train")),
    "no data to test on": (lambda f: ["eval", "embedded", "--task", "jsonl"], ("no test data", "--task.test")),
    "missing data": (lambda f: [*data(f, ROW), "--task.train", f / "no.jsonl"], ("no.jsonl", "cannot read")),
    "missing test data": (lambda f: [*data(f, ROW, ROW), "--task.test", f / "no.jsonl"], ("no.jsonl", "cannot read")),
    "bad JSON line": (lambda f: data(f, ROW, '{"question": '), ("rows.jsonl:2", "not valid JSON")),
    "empty answer": (lambda f: data(f, ROW, ROW, ROW | {"answer": " "}), ("rows.jsonl:3", "answer is empty")),
    "empty data set": (lambda f: data(f), ("rows.jsonl", "has no rows")),
    "one row": (lambda f: data(f, ROW), ("one row",)),
    "missing image": (lambda f: pictured(f, None), ("id till-7", "does not exist")),
    "zero-byte image": (lambda f: pictured(f, b""), ("id till-7", "0 bytes")),
    "truncated image": (lambda f: pictured(f, png(Image.effect_noise((64, 64), 50))[:-400]), ("id till-7", "cut off or damaged")),
    "decompression bomb": (lambda f: pictured(f, bomb()), ("id till-7", "too large")),
    "text for an image": (lambda f: pictured(f, b"<svg/>"), ("id till-7", "not a picture")),
    "budget": (lambda f: ["compare", plain(f), "--budget", "2h"], ("'2h'", "120s or 2000prompts")),
    "unknown method to compare": (lambda f: ["compare", plain(f), "--methods", "base,dymes"], ("did you mean 'dyme'",)),
    "no method": (lambda f: ["compare", plain(f), "--methods", ","], ("at least one method",)),
    "seeds": (lambda f: ["compare", plain(f), "--seeds", "0,one"], ("--seeds", "'0,one'")),
    "learning rates": (lambda f: ["compare", plain(f), "--learning-rates", "1e-4,-1"], ("learning_rate must be above 0",)),
    "traces": (lambda f: ["compare", plain(f), "--traces", "low,hihg"], ("'hihg'", "low, medium, high")),
    "a checker that is none": (lambda f: ["judge", "loca"], ("'loca' is no checker", "http://")),
    "no traces": (lambda f: ["judge", "local", "--traces", 0], ("--traces must be at least 2",)),
    "an LLM without address": (lambda f: ["facts", "--source", "llm"], ("--supervision.url", "--supervision.model")),
    "nobody answers": (
        lambda f: ["judge", "http://127.0.0.1:9/v1", "--supervision.model", "m", "--supervision.max_retries", 0],
        ("no connection", "127.0.0.1:9"),
    ),
    "jobs": (lambda f: ["compare", plain(f), "--jobs", 0], ("jobs", "must be at least 1")),
    "data of a comparison": (lambda f: ["compare", *data(f, ROW, "{")[1:], "--out", f / "out"], ("rows.jsonl:2",)),
}
_CHILD = """
import contextlib, io, json, sys
from dyme.cli.main import main
for words in json.load(sys.stdin):
    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        status = main(words)
    print(json.dumps([status, error.getvalue(), "torch" in sys.modules]))
"""
"""All bad inputs in one process: what each left on stderr, its status, and whether torch had been imported by then."""


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str, bool, dict[str, str], dict[str, str]]]:
    folders = {name: tmp_path_factory.mktemp("bad") for name in BAD}
    words = [[str(word) for word in make(folders[name])] for name, (make, _) in BAD.items()]
    before = {name: snapshot(folder) for name, folder in folders.items()}
    child = subprocess.run(
        [sys.executable, "-c", _CHILD], input=json.dumps(words), capture_output=True, text=True, env=ENVIRONMENT, cwd=ROOT, check=True
    )
    assert child.stderr == ""
    results = map(json.loads, child.stdout.splitlines())
    return {name: (*result, before[name], snapshot(folders[name])) for name, result in zip(BAD, results, strict=True)}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_before_torch(name: str, outcomes: dict[str, Any]) -> None:
    status, error, torch, before, after = outcomes[name]
    assert status == 2
    assert error.startswith("dyme: ")
    assert error.endswith("\n")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert all(words in error for words in BAD[name][1]), error
    assert not torch, "found only after torch was imported"
    assert after == before, "files were changed"


def test_bad_input_as_a_process(tmp_path: Path) -> None:
    status, out, error = run("train", tmp_path / "no.toml")
    assert (status, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("dyme: ")


# Models that cannot be used: torch is there, but no run folder is made


def _model(folder: Path, source: Path, *without: str, **files: bytes) -> Path:
    target = folder / "model"
    target.mkdir()
    for file in source.iterdir():
        if file.is_file() and file.name not in without:
            (target / file.name).write_bytes(file.read_bytes())
    for name, content in files.items():
        (target / name.replace("_json", ".json").replace("_safetensors", ".safetensors")).write_bytes(content)
    return target


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1, error
    return error


@pytest.mark.parametrize(
    ("without", "files", "words"),
    [
        (("config.json",), {}, "has no config.json"),
        (("model.safetensors",), {}, "has no weights"),
        ((), {"model_safetensors": b""}, "has no weights"),
        ((), {"model_safetensors": b"\x10" * 100}, "100 bytes of them"),
        ((), {"config_json": b"{"}, "not valid JSON"),
        ((), {"config_json": b'{"model_type": "llamas"}'}, "cannot load the model"),
        ((), {"config_json": b'{"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config"}}'}, "--model.trust_remote_code true"),
        (("tokenizer.json", "tokenizer_config.json"), {}, "cannot load the model"),
        (("chat_template.jinja",), {}, "no chat template"),
    ],
)
def test_model_folders_that_cannot_be_used(
    tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str], without: tuple[str, ...], files: dict[str, bytes], words: str
) -> None:
    model = _model(tmp_path, tiny_llama, *without, **files)
    text = [*data(tmp_path, ROW, ROW), "--model.path", model]
    error = refused(capsys, *text)
    assert str(model) in error
    assert words in error
    assert not (tmp_path / "run").exists()


def test_model_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such folder" in refused(capsys, "eval", tmp_path / "no", "--samples", 2)
    assert "no such folder" in refused(capsys, "train", plain(tmp_path), "--model.path", "./no")
    assert not (tmp_path / "run").exists()


def test_model_that_reads_text_only(tmp_path: Path, tiny_llama: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, "train", plain(tmp_path), "--model.path", tiny_llama)
    assert "charts/train/0/" in error
    assert "reads text only" in error
    assert not (tmp_path / "run").exists()


def test_rationale_that_holds_the_marker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused(capsys, *data(tmp_path, ROW | {"rationale": "Jam. Answer: 3.20"}, ROW, ROW))
    assert "rows:1" in error
    assert "task.marker" in error
    assert not (tmp_path / "run").exists()


# What a newcomer reads


def _help(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words, "--help"]) == 0
    return capsys.readouterr().out


def test_help_names_the_commands_but_not_the_hidden_one(capsys: pytest.CaptureFixture[str]) -> None:
    text = _help(capsys)
    assert re.findall(r"^    (\w+) ", text, re.MULTILINE) == list(COMMANDS)
    assert "cell" not in text
    assert "Exit status" in text
    assert "cell" not in refused(capsys, "zzz")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_each_option(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = _help(capsys, command)
    assert max(map(len, text.splitlines())) <= 80
    parsers = next(action.choices for action in build_parser()._actions if action.dest == "command")
    assert isinstance(parsers, dict)
    for action in parsers[command]._actions:
        assert len((action.help or "").split()) >= 4, action.dest
        assert (action.option_strings or [action.dest])[0] in text


def test_no_words_are_a_call_for_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "dyme demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("tasks", list(TASKS)),
        ("methods", list(METHODS)),
        ("settings", [f"--{section}.{key}" for section, keys in documentation().items() for key in keys]),
    ],
)
def test_listings_have_a_line_for_each(command: str, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == names
    assert "…" not in "".join(lines)


def test_listing_into_a_closed_pipe() -> None:
    process = subprocess.run(
        f"{sys.executable} -m dyme settings | head -1", shell=True, capture_output=True, text=True, env=ENVIRONMENT, check=True
    )
    assert process.stdout.startswith("setting")
    assert process.stderr == ""


def test_overrides_may_stand_anywhere() -> None:
    words = ["train", "--run.output", "a", "r.toml", "--train.max_prompts=8", "--resume", "x", "--task.marker", "--"]
    assert split_overrides(words) == (
        ["train", "r.toml", "--resume", "x"],
        ["--run.output", "a", "--train.max_prompts=8", "--task.marker", "--"],
    )


def test_interrupt_before_training(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(tasks, "run", interrupted)
    assert main(["tasks"]) == 130
    assert capsys.readouterr().err == "dyme: interrupted\n"


# Commands that do their work


def test_eval_takes_a_runs_own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    folder = unfinished(tmp_path)
    (folder / "model").mkdir()
    seen = []
    nothing: dict[str, Any] = {"metrics": {}, "by_kind": {}, "by_answer_kind": {}}
    monkeypatch.setattr(eval_command, "evaluate_model", lambda config, model, *_, **__: seen.append((config, model)) or nothing)
    for model in (folder, folder / "model", folder / "checkpoints/step-000002/model", "embedded"):
        assert main(["eval", str(model), "--rollout.top_k", "5"]) == 0
    own = small(folder, "rollout.top_k=5")
    assert [config.rollout for config, _ in seen[:3]] == [own.rollout] * 3
    assert seen[3][0].rollout.num_generations == 8
    assert [model for _, model in seen] == [str(folder), str(folder / "model"), str(folder / "checkpoints/step-000002/model"), "embedded"]


@pytest.mark.parametrize("command", ["eval", "diagnose"])
def test_samples_outweigh_a_size_that_is_not_theirs(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run's test_size is for its own evaluation; where the data hold fewer than were asked for, that is said."""
    seen: list[int] = []

    def evaluated(config: Config, model: str, samples: Any, *_: Any, **__: Any) -> Any:
        seen.append(len(samples))
        raise RunError("enough")

    monkeypatch.setattr(module_of(COMMANDS[command]), "evaluate_model", evaluated)
    for words in (["--samples=48", "--task.test_size=8"], ["--samples=5", "--task.test_size=8"], ["--task.test_size=8"]):
        assert main([command, "embedded", *words]) == 2
    assert seen == [48, 5, 8] and "asked for" not in capsys.readouterr().out
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": f"{k} + 1?", "answer": str(k + 1)}) + "\n" for k in range(6)))
    assert main([command, "embedded", "--samples=48", "--task.name=jsonl", f"--task.test={rows}", "--task.test_size=3"]) == 2
    assert seen[-1] == 6 and "48 samples were asked for, and jsonl's test split has 6" in " ".join(capsys.readouterr().out.split())


def test_eval_and_diagnose_write_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["embedded", "--samples", "3", "--k", "2", "--rollout.max_completion_length", "8"]
    assert main(["eval", *words, "--json", str(tmp_path / "new/eval.json")]) == 0
    shown = capsys.readouterr().out
    result = json.loads((tmp_path / "new/eval.json").read_text(encoding="utf-8"))
    assert (result["task"], result["split"], result["metrics"]["think_accuracy"]["n"]) == ("charts", "test", 3)
    assert all(words in shown for words in ("accuracy, thinking", "accuracy, direct", "pass@2", "format rate", "true statements", "length"))
    assert main(["diagnose", *words, "--json", str(tmp_path / "diagnose.json")]) == 0
    shown = capsys.readouterr().out
    result = json.loads((tmp_path / "diagnose.json").read_text(encoding="utf-8"))
    assert any("map" in line for line in result["advice"]) and result["trace_truth"]["n"] > 1000, "traces are those of the training samples"
    assert all(f"- {line}" in shown for line in result["advice"])
    assert "all wrong" in shown


@pytest.mark.parametrize("command", ["eval", "diagnose"])
def test_figures_are_written_before_they_are_shown(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `dyme eval ... --json x.json | head -1` closes the pipe at the first line."""

    def closed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module_of(COMMANDS[command]), "evaluate_model", lambda *_, **__: {"metrics": {"think_accuracy": {"value": 0.5}}})
    if command == "diagnose":
        monkeypatch.setattr(diagnose, "advice", lambda *_: ["train"])
    monkeypatch.setattr(module_of(COMMANDS[command]), "show_evaluation", closed)
    assert main([command, "embedded", "--samples=1", "--json", str(tmp_path / "x.json")]) == 130
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["metrics"]["think_accuracy"]["value"] == 0.5


def test_demo_on_a_small_budget(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "PROMPTS", 4)
    words = ["--task.test_size=2", "--train.prompts_per_step=4", "--rollout.max_completion_length=8", "--rollout.num_generations=2"]
    assert main(["demo", "--out", str(tmp_path / "demo"), *words]) == 0
    shown = capsys.readouterr().out
    assert "| base" in shown
    assert "| DyME" in shown
    assert str(tmp_path / "demo/report.html") in shown
    assert (tmp_path / "demo/report.html").is_file()
    assert [e["name"] for e in RunFolder.open(tmp_path / "demo").evaluations()] == ["base", "test"]
