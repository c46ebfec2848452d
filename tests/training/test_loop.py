"""The loop: its stages in order, each method from start to end, its budgets, and the shape of the code around it."""

from __future__ import annotations

import ast
import io
import itertools
import json
import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import DistributedType
from rich.console import Console
from runs import ROOT, lines, small
from safetensors.torch import load_file

from dyme.config import Config
from dyme.errors import ConfigError, RunError
from dyme.methods import COMPARED, METHODS
from dyme.model.loading import resolve
from dyme.model.policy import Policy
from dyme.rollout import hf
from dyme.supervise.supervisor import Supervisor
from dyme.system import signals
from dyme.targets import target_text
from dyme.tasks import charts
from dyme.tracking.display import Display
from dyme.tracking.run_folder import RunFolder
from dyme.training import checkpoint, loop, schedule, setup
from dyme.training import draw as steps
from dyme.training.update import Updater
from dyme.types import Completion

SOURCES = sorted((ROOT / "src/dyme").rglob("*.py"))
SHARES = [f"share_{mode}" for mode in ("memorize", "explore", "mixed", "skip")]


def gold(policy: Policy, prompts: Sequence[Any], seeds: Sequence[int], config: Any, **_: Any) -> list[tuple[Completion, ...]]:
    """Instead of sampling: K times the right answer, found by the prompt's place in the training split."""
    samples = {s.id: s for s in charts.samples("train", 16)}
    order = {hf.seed_of(0, step, name): sample for step in range(9) for name, sample in samples.items()}
    targets = [f"{'I see it all here.'} Answer: {order[seed].answer}" for seed in seeds]
    return [(Completion(text=text, token_ids=policy.target(text)),) * config.num_generations for text in targets]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


# Whole runs


@pytest.mark.parametrize("method", COMPARED)
def test_a_run_leaves_a_complete_folder(method: str, tmp_path: Path) -> None:
    config = small(tmp_path / "run", f"method.name={method}", "objective.beta=0.01")
    final = loop.train(config)
    run = RunFolder.open(tmp_path / "run")
    assert final == run.path / "model"
    steps = run.steps()
    assert [(s.step, s.prompts, s.epoch) for s in steps] == [(1, 4, 0.25), (2, 8, 0.5), (3, 12, 0.75)]
    assert all(later.seconds > earlier.seconds > 0 for earlier, later in zip(steps, steps[1:], strict=False))
    for step in steps:
        assert sum(step.metrics[name] for name in SHARES) == 1
        assert {"loss", "grad_norm", "learning_rate", "trained_tokens", "seconds_rollout", "seconds_update"} <= step.metrics.keys()
        rolled_out = {"accuracy", "pass_at_k", "format_rate", "reward", "thinking_reward", "completion_length", "truncated"}
        assert rolled_out <= step.metrics.keys() or (method == "sft" or (method == "two_stage" and step.step < 3))
    groups = list(run.rollouts())
    assert [g["step"] for g in groups] == [1] * 4 + [2] * 4 + [3] * 4
    assert len({g["id"] for g in groups}) == 12
    assert all(g["mode"] in ("memorize", "explore", "mixed", "skip") and g["reason"] for g in groups)
    settled = METHODS[method].settled(replace(config, train=replace(config.train, precision="fp32")))  # what "auto" comes to on a CPU
    assert run.config() == settled
    assert run.versions()["processes"] == 1
    assert [f.name for f in sorted(run.path.glob("checkpoints/*"))] == ["step-000002", "step-000003"]
    assert not list(run.path.glob("**/*.tmp"))
    before, after = weights(Path(resolve(config.model))), weights(final)
    assert before.keys() == after.keys()
    vision = [name for name in after if "vision_model" in name]
    assert vision
    assert all(torch.equal(before[name].float(), after[name].float()) for name in vision), "the vision tower is frozen"
    assert any(not torch.equal(before[name].float(), after[name].float()) for name in after)
    Policy.load(replace(config.model, path=str(run.path)))


def test_stages_run_in_the_order_of_the_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def watch(owner: Any, name: str, label: str) -> None:
        own = getattr(owner, name)

        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if not called or called[-1] != label:
                called.append(label)
            return own(*args, **kwargs)

        monkeypatch.setattr(owner, name, wrapper)

    watch(schedule, "next_samples", "samples")
    watch(hf, "sample", "roll out")
    watch(steps, "verify_group", "verify")
    watch(Supervisor, "start", "supervise")
    watch(steps.Sampler, "settled", "advantages")
    watch(Updater, "_tree", "tree")
    watch(Updater, "_pass", "update")
    watch(RunFolder, "log_step", "record")
    watch(RunFolder, "log_rollouts", "record")
    route = METHODS["dyme"].plan(Config())[0].route

    def routed(*args: Any) -> Any:
        if called and called[-1] != "route":  # the check of targets asks before the first step
            called.append("route")
        return route(*args)

    stages = (replace(METHODS["dyme"].plan(Config())[0], route=routed),)
    monkeypatch.setitem(METHODS, "dyme", replace(METHODS["dyme"], stages=lambda own: stages))
    loop.train(small(tmp_path / "run", "train.max_prompts=8"))
    assert called == ["samples", "roll out", "verify", "route", "supervise", "advantages", "tree", "update", "record"] * 2


def test_sft_never_rolls_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("sampled")

    monkeypatch.setattr(hf, "sample", refuse)
    loop.train(small(tmp_path / "run", "method.name=sft"))
    rows = lines(tmp_path / "run/rollouts.jsonl")
    assert [(row["mode"], row["completions"]) for row in rows] == [("memorize", [])] * 12


def test_two_stage_switches_at_its_share(tmp_path: Path) -> None:
    loop.train(small(tmp_path / "run", "method.name=two_stage", "method.sft_share=0.25", "train.max_prompts=16", "train.warmup_steps=0"))
    rows = lines(tmp_path / "run/rollouts.jsonl")
    assert [bool(row["completions"]) for row in rows] == [False] * 4 + [True] * 12
    rates = [row["metrics"]["learning_rate"] for row in lines(tmp_path / "run/metrics.jsonl")]
    assert rates == pytest.approx([8e-5 * share for share in (1, 1, 2 / 3, 1 / 3)])


def test_solved_prompts_are_skipped_counted_and_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hf, "sample", gold)
    config = small(tmp_path / "run")
    final = loop.train(config)
    steps = RunFolder.open(tmp_path / "run").steps()
    assert [s.step for s in steps] == [1, 2, 3]
    assert all(s.metrics["share_skip"] == s.metrics["accuracy"] == s.metrics["pass_at_k"] == 1 for s in steps)
    assert all(s.metrics["loss"] == s.metrics["trained_tokens"] == 0 for s in steps)
    before, after = weights(Path(resolve(config.model))), weights(final)
    assert all(torch.equal(before[name].float(), after[name].float()) for name in after)


def test_memorized_text_is_the_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    own = Policy.target
    monkeypatch.setattr(Policy, "target", lambda self, text: asked.append(text) or own(self, text))
    loop.train(small(tmp_path / "run", "method.name=sft", "train.max_prompts=4"))
    samples = {s.id: s for s in charts.samples("train", 16)}
    imitated = [target_text(samples[row["id"]], "Answer:") for row in lines(tmp_path / "run/rollouts.jsonl")]
    assert asked[-len(imitated) :] == imitated, "after those whose length was looked at"


def test_time_budget_ends_a_run(tmp_path: Path) -> None:
    loop.train(small(tmp_path / "run", "train.max_prompts=0", "train.max_seconds=0.8"))
    seconds = [row["seconds"] for row in lines(tmp_path / "run/metrics.jsonl")]
    assert seconds[-1] >= 0.8
    assert all(second < 0.8 for second in seconds[:-1])
    assert (tmp_path / "run/model/model.safetensors").is_file()


@pytest.mark.parametrize(("budget", "name"), [("max_completions=60", "total_completions"), ("max_tokens=1500", "tokens")])
def test_budgets_of_completions_and_tokens_end_stages_and_runs(budget: str, name: str, tmp_path: Path) -> None:
    most = int(budget.partition("=")[2])
    loop.train(
        small(
            tmp_path / "run",
            "method.name=two_stage",
            "train.max_prompts=0",
            f"train.{budget}",
            "run.save_every=1",
            "run.keep_checkpoints=9",
        )
    )
    steps = [row["metrics"] | {"prompts": row["prompts"]} for row in lines(tmp_path / "run/metrics.jsonl")]
    used = [
        m["total_sampled_tokens"] + m["total_trained_tokens"] if name == "tokens" else m["total_completions"] + 4 * 4 * unsampled
        for m, unsampled in zip(steps, itertools.accumulate(m["completions"] == 0 for m in steps), strict=True)
    ]
    assert used[-1] >= most > used[-2]
    assert [m["progress"] for m in steps] == [min(1.0, n / most) for n in used]
    assert [m["completions"] > 0 for m in steps] == [n >= 0.5 * most for n in [0, *used[:-1]]], "SFT has half of the budget"
    for count in ("completions", "sampled_tokens", "trained_tokens"):
        assert [m[f"total_{count}"] for m in steps] == list(itertools.accumulate(m[count] for m in steps))
    rolled = [m for m in steps if m["completions"]]
    assert all(m["sampled_tokens"] == pytest.approx(m["completions"] * m["completion_length"]) for m in rolled)
    assert_resumes_alike(tmp_path / "run", 2, old=name != "tokens")


def assert_resumes_alike(folder: Path, step: int, *, old: bool) -> None:
    """From the checkpoint of `step` a run comes to the same bits; from one of an earlier version too, which counted no completions."""
    run = RunFolder.open(folder)
    whole, before = weights(folder / "model"), timeless(folder)
    for place, path in run.checkpoints():
        if place > step:
            shutil.rmtree(path)
    shutil.rmtree(folder / "model")
    if old:
        file = run.checkpoint_dir(step) / "position.json"
        kept = {k: v for k, v in json.loads(file.read_text()).items() if k in ("step", "prompts", "seconds", "stage", "stage_step")}
        file.write_text(json.dumps(kept))
        renamed = (folder / "metrics.jsonl").read_text().replace('"sampled_tokens"', '"rollout_tokens"')
        (folder / "metrics.jsonl").write_text(renamed)
    loop.train(run.config(), resume=True)
    assert all(torch.equal(whole[name], own) for name, own in weights(folder / "model").items())
    assert timeless(folder)[step:] == before[step:]


def timeless(folder: Path) -> list[dict[str, float]]:
    return [{k: v for k, v in row["metrics"].items() if not k.startswith("seconds")} for row in lines(folder / "metrics.jsonl")]


def test_interrupt_ends_the_step_saves_and_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = hf.sample

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return own(*args, **kwargs)

    monkeypatch.setattr(hf, "sample", interrupted)
    handler, output = signal.getsignal(signal.SIGINT), io.StringIO()
    folder = loop.train(small(tmp_path / "run"), display=Display(Console(file=output, width=400)))
    assert folder == tmp_path / "run/checkpoints/step-000001/model"
    assert output.getvalue().splitlines()[-1] == f"stopped after step 1; go on with: dyme train --resume {tmp_path / 'run'}"
    assert not (tmp_path / "run/model").exists()
    assert signal.getsignal(signal.SIGINT) == handler
    monkeypatch.setattr(hf, "sample", own)
    assert loop.train(small(tmp_path / "run"), resume=True) == tmp_path / "run/model"
    assert [row["step"] for row in lines(tmp_path / "run/metrics.jsonl")] == [1, 2, 3]


def test_signals_at_once_count_as_one_and_a_later_one_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr(signals.time, "monotonic", lambda: clock)
    with signals.Interrupt() as interrupt:
        assert not interrupt.requested
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupt.requested
        clock += signals.Interrupt.GRACE + 0.1
        with pytest.raises(KeyboardInterrupt, match="last checkpoint is intact"):
            os.kill(os.getpid(), signal.SIGTERM)


def test_given_samples_are_used_as_they_are(tmp_path: Path) -> None:
    samples = charts.samples("train", 5, seed=3)
    loop.train(small(tmp_path / "run", "train.max_prompts=4"), samples=samples)
    assert {row["id"] for row in lines(tmp_path / "run/rollouts.jsonl")} <= {s.id for s in samples}


def test_more_processes_than_prompts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.Accelerator, "num_processes", 8)
    with pytest.raises(ConfigError, match="number of processes, 8"):
        loop.train(small(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


# Checkpoints


def test_checkpoints_kept_and_leftovers_cleared(tmp_path: Path) -> None:
    config = small(tmp_path / "run", "run.save_every=1", "run.keep_checkpoints=1")
    half = tmp_path / "run/checkpoints/step-000001"
    loop.train(replace(config, train=replace(config.train, max_prompts=4)))
    (half / "complete.json").unlink()
    run = RunFolder.open(tmp_path / "run")
    assert run.latest_checkpoint() is None
    loop.train(config, resume=True)
    assert [f.name for f in run.path.glob("checkpoints/*")] == ["step-000003"]


@pytest.mark.parametrize("change", [{"question": "What else?"}, {"answer": "0"}, {"rationale": "No."}, {"facts": ()}, {"images": ()}, None])
def test_a_resumed_run_notices_that_its_data_changed(change: dict[str, Any] | None, tmp_path: Path) -> None:
    config, samples = small(tmp_path / "run"), charts.samples("train", 16)
    accelerator = SimpleNamespace(num_processes=1, distributed_type=DistributedType.NO, device="cpu")
    checkpoint.open_run(config, accelerator, samples, resume=False)  # type: ignore[arg-type]
    other = samples[:-1] if change is None else [*samples[:-1], replace(samples[-1], **change)]
    with pytest.raises(RunError, match="16 then, 15 now" if change is None else "as many, of other content") as caught:
        checkpoint.open_run(config, accelerator, other, resume=True)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value) and "put the data back" in str(caught.value)
    checkpoint.open_run(config, accelerator, samples, resume=True)  # type: ignore[arg-type]
    (tmp_path / "run/versions.json").unlink()
    checkpoint.open_run(config, accelerator, other, resume=True)  # type: ignore[arg-type]


def test_facts_that_are_extracted_may_come_later(tmp_path: Path) -> None:
    config, samples = small(tmp_path / "run", "supervision.facts=ocr"), charts.samples("train", 4)
    accelerator = SimpleNamespace(num_processes=1, distributed_type=DistributedType.NO, device="cpu")
    checkpoint.open_run(config, accelerator, [replace(s, facts=()) for s in samples], resume=False)  # type: ignore[arg-type]
    checkpoint.open_run(config, accelerator, samples, resume=True)  # type: ignore[arg-type]


def test_a_host_brings_model_and_verdicts_and_ends_the_run(tmp_path: Path) -> None:
    """What it says counts: every second completion right, a checkpoint at the second step, and no third step."""
    seen: list[str] = []

    class Own(setup.Host):
        def policy(self, config: Config) -> Policy:
            seen.append("policy")
            return super().policy(config)

        def grade(self, groups: Any, usual: Any) -> Any:
            return [
                replace(g, verdicts=tuple(replace(v, correct=k % 2 == 0, reward=float(k)) for k, v in enumerate(g.verdicts)))
                for g in usual(groups)
            ]

        def begin(self, run: RunFolder, policy: Policy, position: schedule.Position) -> None:
            seen.append(f"begin {position.step}")

        def before_step(self, position: schedule.Position) -> None:
            seen.append(f"before {position.step}")

        def after_step(self, record: Any, everyone: Any, save: Any) -> None:
            assert {route.mode for _, route in everyone} == {"explore"} and record.metrics["accuracy"] == 0.5
            if record.step == 2:
                save()
                self.over = True

    final = loop.train(small(tmp_path / "run", "run.save_every=0"), host=Own())
    assert seen == ["policy", "begin 0", "before 0", "before 1"]
    assert final == tmp_path / "run/model" and [step for step, _ in RunFolder(tmp_path / "run").checkpoints()] == [2]


# The shape of the code


def test_the_loop_fits_in_150_lines_and_no_file_in_400() -> None:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert sizes[ROOT / "src/dyme/training/loop.py"] <= 150
    assert {str(path): size for path, size in sizes.items() if size > 400} == {}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src/dyme")))
def test_functions_are_short_typed_and_documented(path: Path) -> None:
    faults = []
    public, every = _definitions(ast.parse(path.read_text(encoding="utf-8")))
    for node in every:
        if isinstance(node, ast.FunctionDef):
            given = node.args
            arguments = [*given.posonlyargs, *given.args, *given.kwonlyargs, *(a for a in (given.vararg, given.kwarg) if a)]
            untyped = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            if (node.end_lineno or 0) - node.lineno + 1 > 60:
                faults.append(f"{node.name} has more than 60 lines")
            if untyped or node.returns is None:
                faults.append(f"{node.name} is not typed: {untyped or 'its result'}")
    faults += [f"{node.name} has no docstring" for node in public if not ast.get_docstring(node) and node.name != "__init__"]
    assert faults == []


def _definitions(tree: ast.Module) -> tuple[list[Any], list[Any]]:
    """Public classes, functions and methods; and all of them, inner ones included."""
    public = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_")]
    for node in list(public):
        if isinstance(node, ast.ClassDef):
            public += [m for m in node.body if isinstance(m, ast.FunctionDef) and (not m.name.startswith("_") or m.name.endswith("__"))]
    return public, [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef | ast.FunctionDef)]
