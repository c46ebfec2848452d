"""Precision: float32 masters under half-precision compute, the loss's scale, steps that are not finite, and what is refused."""

from __future__ import annotations

import copy
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from routing import route
from runs import ENVIRONMENT, small, snapshot
from safetensors.torch import load_file
from tiny import group, groups, prompts, samples

from dyme.cli.main import main
from dyme.config import Config, ModelConfig, RolloutConfig, TrainConfig
from dyme.errors import ConfigError, ModelError, RunError
from dyme.model import precision
from dyme.model.policy import Policy
from dyme.rollout import hf
from dyme.tracking.recorder import Recorder
from dyme.tracking.run_folder import RunFolder
from dyme.training import layout, update
from dyme.training import loop as train
from dyme.training.loss import Totals
from dyme.training.placement import replicated
from dyme.training.precision import guard
from dyme.training.precision.guard import FIRST_SCALE, GROW_AFTER, MOST_IN_A_ROW, Guard
from dyme.training.precision.masters import dithered
from dyme.training.update import Updater
from dyme.types import StepRecord

Load = Callable[[str], Policy]
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def imitation(policy: Policy, chosen: Any, targets: int = 4) -> tuple[Updater, Callable[[float], dict[str, float]]]:
    """An updater, and its step that imitates the same targets, at a learning rate."""
    config = Config(train=TrainConfig(precision=chosen))
    updater, asked = Updater(policy, config, Accelerator(cpu=True)), prompts(policy, targets)
    empty = [group(sample, [], []) for sample in samples(policy, targets)]
    routes = [route(g, config, "sft") for g in empty]
    return updater, lambda rate: updater.step(asked, empty, routes, rate)


# what a precision comes to


@pytest.mark.parametrize(
    ("asked", "launched", "device", "bf16", "chosen"),
    [
        ("auto", None, CPU, True, "fp32"), ("auto", "no", GPU, True, "bf16"), ("auto", None, GPU, False, "fp16"),
        ("fp32", "no", GPU, True, "fp32"), ("bf16", None, CPU, False, "bf16"), ("auto", "bf16", CPU, True, "bf16"),
        ("auto", "fp16", GPU, True, "fp16"), ("bf16", "bf16", GPU, True, "bf16"), ("fp32", "bf16", CPU, True, None),
        ("auto", "fp8", GPU, True, None),
    ],
)  # fmt: skip
def test_what_a_precision_comes_to(
    asked: Any, launched: str | None, device: torch.device, bf16: bool, chosen: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bf16 or including_emulation)
    monkeypatch.delenv("ACCELERATE_MIXED_PRECISION", raising=False)
    if launched:
        monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", launched)
    if chosen:
        assert precision.settle(asked, device) == chosen
    else:
        with pytest.raises(ConfigError, match=rf"accelerate's mixed_precision is {launched}"):
            precision.settle(asked, device)


def test_float32_products_on_a_gpu_are_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", said.append)
    for name, device in (("fp32", CPU), ("bf16", GPU), ("fp32", GPU)):
        precision.settled(Config(train=TrainConfig(precision=name)), device)  # type: ignore[arg-type]
    assert said == ["high", "high"]


def test_float16_weights_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "charts-sft", "--run.output", str(tmp_path / "run"), "--model.dtype", "float16", "--task.train_size=4"]
    assert main([*words, "--task.test_size=1"]) == 2
    assert 'set train.precision = "fp16"' in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


# masters


@pytest.mark.parametrize("family", ["idefics3", "smolvlm", "qwen2_vl", "gemma3", "llama"])
def test_masters_move_what_half_precision_cannot_hold(family: str, policies: Load, tmp_path: Path) -> None:
    """A model in bfloat16: every weight's master moves by a tiny step, the model's weights lie beside it, and are what is saved."""
    policy = copy.deepcopy(policies(family))
    policy.tower.step = {}  # in float32, shared with copies
    config = Config(train=TrainConfig(precision="bf16"))
    updater, answered = Updater(policy, config, Accelerator(cpu=True)), groups(policy, [[0.9, 0.0], [1.5, 0.0]])
    before = {name: master.clone() for name, master in updater.masters.weights.items()}
    updater.step(prompts(policy, 2), answered, [route(g, config) for g in answered], 1e-6)
    assert {weight.dtype for weight in policy.parameters()} == {torch.bfloat16}
    assert {master.dtype for master in updater.masters.weights.values()} == {torch.float32}
    trained = dict(policy.named_parameters())
    for name, master in updater.masters.weights.items():
        assert not torch.equal(master, before[name]), name
        assert ((trained[name].float() - master).abs() <= 2**-7 * master.abs()).all(), name
    updater.save(tmp_path / "state", tmp_path / "model")
    again = Policy.load(ModelConfig(path=str(tmp_path / "model")), torch.bfloat16)
    assert json.loads((tmp_path / "model/config.json").read_text(encoding="utf-8"))["dtype"] == "bfloat16"
    for name, weight in again.named_parameters():
        assert torch.equal(weight, trained[name]), name
    fresh = Updater(copy.deepcopy(policies(family)), config, Accelerator(cpu=True))
    fresh.load(tmp_path / "state")
    assert all(torch.equal(master, updater.masters.weights[name]) for name, master in fresh.masters.weights.items())


def test_small_steps_show_at_once_in_weights_on_bfloat16s_grid() -> None:
    """A step of a tenth of the grid rounds a tenth of the weights away, either way, the same ones each time; to the nearest, none."""
    start = torch.randn(100_000, generator=torch.Generator().manual_seed(1)).bfloat16().float()

    def rounded(master: torch.Tensor) -> torch.Tensor:
        drawn = torch.randint(1 << 16, master.shape, generator=torch.Generator().manual_seed(0), dtype=torch.int32)
        out = dithered(master, drawn)
        assert torch.equal(out, out.bfloat16().float()), "bfloat16 holds it"
        return out

    assert torch.equal(rounded(start), start)
    above = (start.view(torch.int32) + (1 << 16)).view(torch.float32)
    for share in (0.1, -0.1, 0.4):
        master = start + share * (above - start)
        assert torch.equal(master.bfloat16().float(), start)
        moved = rounded(master) != start
        assert torch.equal(moved, rounded(master) != start)
        assert moved.float().mean() == pytest.approx(abs(share), abs=0.02)
        assert (rounded(master) - start).abs().sum() / (master - start).abs().sum() == pytest.approx(1, abs=0.1), "without bias"


def test_the_precision_of_what_is_written(policies: Load, tmp_path: Path) -> None:
    """model.dtype = float32 under bf16 compute: the masters themselves."""
    config = Config(model=ModelConfig(dtype="float32"), train=TrainConfig(precision="bf16"))
    updater = Updater(copy.deepcopy(policies("llama")), config, Accelerator(cpu=True))
    with torch.no_grad():
        for master in updater.masters.weights.values():
            master += 1e-5
    updater.masters.round()
    updater.save(tmp_path / "state", tmp_path / "model")
    again = dict(Policy.load(ModelConfig(path=str(tmp_path / "model"))).named_parameters())
    assert all(torch.equal(again[name], master) for name, master in updater.masters.weights.items())
    assert json.loads((tmp_path / "model/config.json").read_text(encoding="utf-8"))["dtype"] == "float32"


def test_twenty_steps_move_all_weights_as_in_float32() -> None:
    """The embedded model at 8e-5: the mean loss of the last five steps within 2 % of float32's, and as many elements moved.

    Two targets a step: most of the time goes into products of half precision, which a CPU without them emulates.
    """
    last: dict[str, float] = {}
    moved: dict[str, dict[str, float]] = {}
    for name in ("fp32", "bf16", "fp16"):
        updater, step = imitation(Policy.load(ModelConfig()), name, targets=2)
        before = {key: value.detach().clone() for key, value in updater.masters.weights.items()}
        losses = [step(8e-5)["loss"] for _ in range(20)]
        last[name] = sum(losses[-5:]) / 5
        moved[name] = {key: float((value != before[key]).float().mean()) for key, value in updater.masters.weights.items()}
    for name in ("bf16", "fp16"):
        assert last[name] == pytest.approx(last["fp32"], rel=0.02)
        assert all(share >= 0.99 * moved["fp32"][key] > 0 for key, share in moved[name].items())


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_a_resumed_run_ends_in_the_same_bits(
    name: str, checkpoints: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Masters, moments, rollouts, and the scale of the loss, which changes at each step here; the run is cut off after an update."""
    monkeypatch.setattr(guard, "GROW_AFTER", 1)
    record, sample = Recorder.step, hf.sample
    held: set[torch.dtype] = set()

    def cut(recorder: Recorder, done: StepRecord, *rest: Any) -> None:
        if done.step == 3:
            raise ArithmeticError
        record(recorder, done, *rest)

    def sampled(policy: Policy, *given: Any, **named: Any) -> Any:
        held.update(weight.dtype for weight in policy.parameters())
        return sample(policy, *given, **named)

    monkeypatch.setattr(hf, "sample", sampled)
    words = [f"model.path={checkpoints('idefics3')}", f"train.precision={name}", "run.save_every=1"]
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    train.train(small(whole, *words))
    with monkeypatch.context() as patched, pytest.raises(ArithmeticError):
        patched.setattr(Recorder, "step", cut)
        train.train(small(resumed, *words))
    assert not (resumed / "checkpoints/step-000003").exists()
    train.train(small(resumed, *words), resume=True)
    assert held == {precision.DTYPES[name]}
    one, other = (
        [{k: v for k, v in row.metrics.items() if not k.startswith("seconds")} for row in RunFolder.open(run).steps()]
        for run in (whole, resumed)
    )
    assert one == other and (whole / "rollouts.jsonl").read_bytes() == (resumed / "rollouts.jsonl").read_bytes()
    assert snapshot(whole / "model") == snapshot(resumed / "model")
    for file in ("trained.safetensors", "chosen.json"):
        states = [run / "checkpoints/step-000003/state" / file for run in (whole, resumed)]
        assert states[0].read_bytes() == states[1].read_bytes()
    scales = [row.get("loss_scale") for row in one]
    assert scales[1] != FIRST_SCALE if name == "fp16" else scales == [None] * 3


def test_under_accelerates_mixed_precision(tmp_path: Path) -> None:
    """`accelerate launch --mixed_precision bf16`: the embedded model keeps its tree, and the run is one in bf16."""
    launch = "--cpu --num_processes=1 --num_machines=1 --dynamo_backend=no --mixed_precision=bf16 -m dyme train charts-dyme"
    words = "--run.output=run --task.train_size=4 --task.test_size=1 --train.prompts_per_step=2 --train.max_prompts=4"
    small_ones = "--rollout.num_generations=2 --rollout.max_completion_length=8"
    command = [sys.executable, "-m", "accelerate.commands.launch", *f"{launch} {words} {small_ones}".split()]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    run = RunFolder.open(tmp_path / "run")
    assert run.config().train.precision == "bf16"
    assert any(str(event.get("message", "")).startswith("layout: tree,") for event in run.events())
    assert len(run.steps()) == 2 and all(math.isfinite(step.metrics["loss"]) for step in run.steps())
    assert {weight.dtype for weight in load_file(run.path / "model/model.safetensors").values()} == {torch.bfloat16}
    kept = load_file(run.checkpoint_dir(2) / "state/trained.safetensors")
    assert {weight.dtype for weight in kept.values()} == {torch.float32}


def test_processes_sum_gradients_in_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """In buckets, whatever their shapes; a gradient that fills one goes by itself, uncopied."""
    monkeypatch.setattr(replicated, "BUCKET", 4 * 10)
    sizes: list[int] = []
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: sizes.append(flat.mul_(2).numel()))
    gradients = [torch.randn(shape) for shape in ((2, 3), (4,), (1,), (3, 2, 2), (5,), (0,), ())]
    gradients.append(torch.randn(3, 2).T)
    expected = [2 * gradient for gradient in gradients]
    for bucket in replicated.buckets(gradients):
        replicated._all_reduce(bucket)
    assert sizes == [10, 1, 12, 6, 6]
    assert all(torch.equal(gradient, double) for gradient, double in zip(gradients, expected, strict=True))


# layouts


@pytest.mark.parametrize("family", ["paligemma", "gemma3"])
def test_layouts_under_half_precision_are_those_of_float32(family: str, policies: Load) -> None:
    """On 24 of 24 first batches."""
    policy = copy.deepcopy(policies(family))
    policy.tower.step = {}
    chosen = []
    for seed, asked_for in [(0, "fp32"), *itertools.product(range(24), ["bf16"])]:
        config = Config(rollout=RolloutConfig(max_completion_length=9, num_generations=4), train=TrainConfig(precision=asked_for))
        updater, answered = Updater(policy, config, Accelerator(cpu=True)), groups(policy, [[1.9, 0.2], [0.5, 2.5]], seed)
        asked = prompts(policy, 5)[seed % 4 :][:2]
        policy.tower.prepare(asked)
        routes = [route(g, config, "grpo") for g in answered]
        trees = [updater._tree(p, g, r, [c.token_ids for c in g.completions], Totals(prompts=2, active=2, policy_prompts=2))
                 for p, g, r in zip(asked, answered, routes, strict=True)]  # fmt: skip
        chosen.append(updater._choose(trees, asked[0], pictured=True).layout)
    assert chosen == ["cached"] * 25


def test_an_exhausted_memory_is_no_disagreement() -> None:
    def score(kind: layout.Layout) -> torch.Tensor:
        if kind == "tree":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.zeros(2)

    with pytest.raises(ConfigError, match="memory ran out while layouts were compared"):
        layout.compare(score)


# steps that are not finite


def test_the_guard() -> None:
    """Overflow halves the scale, is no fault of the run, and ends it only where no scale is left."""
    guard = Guard.of("fp16")
    assert not guard.allows(1.0, math.inf) and guard.skipped == "overflow" and guard.scale == FIRST_SCALE / 2 and not guard.in_a_row
    assert all(guard.allows(1.0, 1.0) for _ in range(GROW_AFTER)) and guard.scale == FIRST_SCALE
    again = Guard.of("fp16")
    again.restore(guard.state())
    assert again.state() == guard.state()
    while not guard.broken:
        guard.allows(1.0, math.nan)
    assert guard.scale < 1 and "float16" in guard.broken
    plain = Guard.of("fp32")
    for loss, norm in ((math.nan, 1.0), (1.0, math.inf), (1.0, 1.0), (math.inf, 1.0)):
        plain.allows(loss, norm)
    assert plain.in_a_row == 1 and not plain.broken
    while not plain.broken:
        plain.allows(math.nan, 1.0)
    assert plain.in_a_row == MOST_IN_A_ROW


def poisoned(monkeypatch: pytest.MonkeyPatch, *calls: int) -> None:
    """Make the loss nan at these calls, counted from 0; at all if none is named."""
    own, seen = update.loss, itertools.count()
    monkeypatch.setattr(update, "loss", lambda *given: own(*given) * (math.nan if (n := next(seen)) in calls or not calls else 1.0 + 0 * n))


def test_one_step_that_is_not_finite_changes_nothing(policies: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    updater, step = imitation(copy.deepcopy(policies("llama")), "fp32")
    step(1e-3)
    before = {name: master.detach().clone() for name, master in updater.masters.weights.items()}
    moments = copy.deepcopy(updater.optimizer.state_dict()["state"])
    poisoned(monkeypatch)
    metrics = step(1e-3)
    assert metrics["steps_skipped_nonfinite"] == 1 and math.isnan(metrics["loss"])
    assert all(torch.equal(master, before[name]) for name, master in updater.masters.weights.items())
    after = updater.optimizer.state_dict()["state"]
    assert all(torch.equal(after[k][name], value) for k, own in moments.items() for name, value in own.items())


def test_a_run_goes_on_after_one_and_stops_after_several(
    checkpoints: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [
        f"model.path={checkpoints('idefics3')}",
        "method.name=sft",
        "task.train_size=4",
        "train.prompts_per_step=1",
        "run.save_every=1",
    ]
    config = small(tmp_path / "one", *words, "train.max_prompts=3")
    poisoned(monkeypatch, 1)
    assert train.train(config) == tmp_path / "one/model"
    run = RunFolder.open(tmp_path / "one")
    assert [record.metrics["steps_skipped_nonfinite"] for record in run.steps()] == [0, 1, 0]
    assert [event["step"] for event in run.events() if event["kind"] == "nonfinite_step"] == [2]
    Policy.load(ModelConfig(path=str(tmp_path / "one/model")))  # finite, else refused
    poisoned(monkeypatch)
    kept = tmp_path / "all/checkpoints/step-000005"
    with pytest.raises(RunError, match=rf"step 5: the loss or the gradient was not finite in 5 steps in a row.* {kept}; ") as caught:
        train.train(small(tmp_path / "all", *words, "train.max_prompts=9"))
    assert "\n" not in str(caught.value) and not (tmp_path / "all/model").exists()
    Policy.load(ModelConfig(path=str(kept / "model")))


def test_an_absurd_learning_rate_ends_with_an_error(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    words = [f"model.path={checkpoints('idefics3')}", "method.name=sft", "train.learning_rate=1e300", "train.warmup_steps=0"]
    with pytest.raises(
        RunError, match=r"step 1: the update at learning rate 1e\+300 left weights that are not finite; there is no earlier"
    ):
        train.train(small(tmp_path / "run", *words))
    assert not (tmp_path / "run/checkpoints").exists() and not (tmp_path / "run/model").exists()


def test_a_model_that_diverged_is_not_read(policies: Load, tmp_path: Path) -> None:
    policy = copy.deepcopy(policies("llama"))
    with torch.no_grad():
        next(iter(policy.parameters()))[0, 0] = math.nan
    policy.save(tmp_path)
    with pytest.raises(ModelError, match=r"1 of its weights are not finite in float32 \(\S+ \.\.\.\)"):
        Policy.load(ModelConfig(path=str(tmp_path)))
