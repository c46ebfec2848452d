"""DyMETrainer as TRL's users call it: on TRL's examples, with other people's arguments, and against GRPOTrainer's own gradients."""

from __future__ import annotations

import copy
import errno
import importlib
import importlib.util
import json
import math
import os
import re
import runpy
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset, IterableDataset
from PIL import Image
from runs import ROOT, lines
from safetensors.torch import load_file
from tiny import gap
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    TrainerCallback,
    TrainingArguments,
)
from trl import GRPOConfig, GRPOTrainer

from dyme.errors import ConfigError, DataError, ModelError, RunError
from dyme.integrations.trl import DyMETrainer
from dyme.integrations.trl import trainer as trainer_module
from dyme.rollout import hf
from dyme.training.update import Updater

Checkpoints = Callable[[str], Path]
SMALL: dict[str, Any] = {
    "use_cpu": True, "bf16": False, "per_device_train_batch_size": 8, "num_generations": 4, "max_completion_length": 6, "max_steps": 2,
    "logging_steps": 1, "learning_rate": 1e-3, "gradient_checkpointing": False, "disable_tqdm": True, "report_to": [],
}  # fmt: skip
TALK = [[{"role": "system", "content": "You count."}, {"role": "user", "content": f"How many are {k} pears?"}] for k in range(6)]
ROWS = Dataset.from_dict({"prompt": TALK, "solution": [f"They are {k}." for k in range(6)], "answer": list(range(6))})


def spread(completion_ids: list[list[int]], **kwargs: Any) -> list[float]:
    """A reward that differs within every group."""
    return [float(np.mean(ids)) + 0.01 * ids[0] for ids in completion_ids]


def never(completions: list[Any], **kwargs: Any) -> list[float]:
    return [0.0] * len(completions)


def settings(folder: Path, **given: Any) -> GRPOConfig:
    return GRPOConfig(output_dir=str(folder), **SMALL | given)


def trainer(
    path: Any, folder: Path, rewards: Any = spread, data: Any = ROWS, args: dict[str, Any] | None = None, **given: Any
) -> DyMETrainer:
    return DyMETrainer(str(path) if isinstance(path, Path) else path, rewards, settings(folder, **args or {}), data, **given)


# TRL's examples


@pytest.mark.parametrize(
    ("example", "family", "mode"), [("length", "qwen2", "explore"), ("accuracy", "qwen2", "memorize"), ("pictures", "idefics3", "explore")]
)
def test_trls_examples_run(example: str, family: str, mode: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    found = runpy.run_path(str(ROOT / f"examples/trl/{example}.py"))["main"](str(checkpoints(family)), str(tmp_path / "out"), **SMALL)
    assert {row["mode"] for row in lines(tmp_path / "out/dyme/rollouts.jsonl")} == {mode}
    history = found.state.log_history
    assert [row["step"] for row in history] == [1, 2] and all(row["grad_norm"] > 0 for row in history)
    names = [function.__name__ for function in found.reward.functions]
    assert {f"rewards/{name}/mean" for name in names} <= history[0].keys()
    assert (tmp_path / "out/dyme/model/model.safetensors").exists()
    if example == "length":
        assert AutoModelForCausalLM.from_pretrained(tmp_path / "out") and AutoTokenizer.from_pretrained(tmp_path / "out")


def test_the_same_script_runs_on_trl_itself(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """One line differs."""
    text = (ROOT / "examples/trl/length.py").read_text()
    ours, theirs = "from dyme.integrations.trl import DyMETrainer as GRPOTrainer", "from trl import GRPOTrainer"
    assert text.count(ours) == 1
    (tmp_path / "theirs.py").write_text(text.replace(ours, theirs))
    main = runpy.run_path(str(tmp_path / "theirs.py"))["main"]
    found = main(str(checkpoints("qwen2")), str(tmp_path / "out"), **SMALL | {"max_steps": 1})
    assert type(found) is GRPOTrainer and found.state.global_step == 1


def test_the_manuals_example_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    block = re.findall(r"```python\n(.*?)```", (ROOT / "docs/trl.md").read_text(encoding="utf-8"), re.DOTALL)[1]
    names: dict[str, Any] = {}
    exec(block.replace('output_dir="runs/sums"', 'output_dir="runs/sums", use_cpu=True, bf16=False'), names)
    assert names["trainer"].config.method.name == "dyme" and names["trainer"].rows.samples[0].rationale == "3 and 4 make \\boxed{7}."


# Gradients


@pytest.mark.parametrize(
    ("family", "given"),
    [("llama", {}), ("llama", {"loss_type": "grpo", "beta": 0.1, "temperature": 0.9, "scale_rewards": "batch"}),
     ("qwen2", {"loss_type": "dr_grpo", "mask_truncated_completions": True}), ("idefics3", {"scale_rewards": "none"})],
)  # fmt: skip
@pytest.mark.parametrize("plain", [False, True])
def test_gradients_are_grpo_trainers(
    family: str, given: dict[str, Any], plain: bool, checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Always exploring, one update a rollout: TRL tokenizes, decodes, asks the same reward and makes its own loss of our tokens."""
    sees = family == "idefics3"
    if plain and sees:
        pytest.skip("TRL takes pictures in messages alone")
    rows = [{"prompt": text} if plain else {"prompt": TALK[k]} for k, text in enumerate(("How many?", "And now?"))]
    if sees:
        rows = [row | {"images": [Image.new("RGB", (24 + 8 * k, 30), (60 * k, 90, 30))] * (k + 1)} for k, row in enumerate(rows)]
    data = Dataset.from_list(rows)
    gradients: dict[str, torch.Tensor] = {}
    step = Updater.step

    def watched(self: Updater, *args: Any, **more: Any) -> Any:
        def clip(parameters: Any, limit: float) -> torch.Tensor:
            gradients.update({n: p.grad.clone() for n, p in self.masters.weights.items() if p.grad is not None})
            return Accelerator.clip_grad_norm_(self.accelerator, parameters, limit)

        self.accelerator.clip_grad_norm_ = clip  # type: ignore[method-assign]
        try:
            return step(self, *args, **more)
        finally:
            del self.accelerator.clip_grad_norm_

    sample = hf.sample

    def ended(policy: Any, *args: Any, **more: Any) -> Any:
        """What was sampled, with completions of several lengths, of which every second one ends."""
        return [
            tuple(
                replace(c, token_ids=(*c.token_ids[: 1 + k], policy.eos), logprobs=c.logprobs[: 2 + k], finished=True) if k % 2 else c
                for k, c in enumerate(own)
            )
            for own in sample(policy, *args, **more)
        ]

    monkeypatch.setattr(hf, "sample", ended)
    monkeypatch.setattr(Updater, "step", watched)
    groups: list[Any] = []
    args = given | {"max_steps": 1, "shuffle_dataset": False}
    ours = trainer(checkpoints(family), tmp_path / "ours", spread, data, args)
    monkeypatch.setattr(ours, "after_step", lambda record, everyone, save: groups.extend(group for group, _ in everyone))
    ours.train()
    loss = lines(tmp_path / "ours/dyme/metrics.jsonl")[0]["metrics"]["loss"]

    theirs = GRPOTrainer(
        str(checkpoints(family)), spread, settings(tmp_path / "theirs", **args), data, processing_class=ours.processing_class
    )
    completions = [list(c.token_ids) for group in groups for c in group.completions]
    monkeypatch.setattr(theirs, "_generate_single_turn", lambda *_, **__: (completions, None))
    theirs.current_gradient_accumulation_steps = 1
    theirs.model.train()
    inputs = theirs._generate_and_score_completions([row for row in data for _ in range(4)])
    for k, group in enumerate(groups):
        asked = [token for token, kept in zip(inputs["prompt_ids"][4 * k], inputs["prompt_mask"][4 * k], strict=True) if kept]
        assert ours._loaded().encode(group.sample, "").token_ids == tuple(asked)
    value = theirs.compute_loss(theirs.model, inputs)
    value.backward()
    found = {f"model.{name}": p.grad for name, p in theirs.model.named_parameters() if p.grad is not None}
    assert gap(gradients, found) < 1e-5
    assert loss == pytest.approx(value.item(), rel=1e-4, abs=1e-6)


# What scripts look at


class Watch(TrainerCallback):
    """Notes the events; saves at one step and stops at another."""

    def __init__(self, stop: int = 10**9, save: int = 0) -> None:
        self.stop, self.save = stop, save
        self.seen: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name.startswith("on_") and name not in ("on_step_end",):
            self.seen.append(name[3:])
        return found

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.seen.append(f"step_end {state.global_step}")
        control.should_training_stop = control.should_training_stop or state.global_step == self.stop
        control.should_save = control.should_save or state.global_step == self.save


def test_callbacks_log_history_evaluations_saves_and_a_stop(checkpoints: Checkpoints, tmp_path: Path) -> None:
    watch = Watch(stop=3, save=1)
    args = {"max_steps": 8, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "no", "logging_steps": 2, "num_generations_eval": 2,
            "metric_for_best_model": "eval_reward"}  # fmt: skip
    ours = trainer(checkpoints("qwen2"), tmp_path, [spread, never], args=args, eval_dataset=ROWS.select(range(3)), callbacks=[watch])
    out = ours.train()
    assert watch.seen == [
        "init_end", "train_begin", "epoch_begin", "step_begin", "step_end 1", "save", "step_begin", "step_end 2", "log", "log", "evaluate",
        "step_begin", "step_end 3", "epoch_end", "log", "train_end",
    ]  # fmt: skip
    assert out.global_step == 3 and ours.state.epoch == 1.0
    logs = [row for row in ours.state.log_history if "loss" in row]
    assert [row["step"] for row in logs] == [2, 3]
    assert {"loss", "reward", "reward_std", "rewards/spread/mean", "rewards/never/std", "completions/mean_length", "learning_rate",
            "epoch", "frac_reward_zero_std", "completions/clipped_ratio", "grad_norm"} <= logs[0].keys()  # fmt: skip
    [evaluation] = [row for row in ours.state.log_history if "eval_reward" in row]
    [event] = [row for row in lines(tmp_path / "dyme/events.jsonl") if row["kind"] == "evaluation"]
    assert event["step"] == 2 and event["metrics"]["eval_reward"] == evaluation["eval_reward"]
    assert evaluation["step"] == 2 and evaluation["eval_rewards/never/mean"] == 0 and ours.state.best_metric == evaluation["eval_reward"]
    assert [p.name for p in sorted((tmp_path / "dyme/checkpoints").iterdir())] == ["step-000001", "step-000003"]
    assert ours.evaluate()["eval_reward"] != evaluation["eval_reward"]


def test_a_run_goes_on_to_the_same_weights(checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trainer(checkpoints("qwen2"), tmp_path / "whole", args={"max_steps": 4})
    whole.train()
    half = trainer(checkpoints("qwen2"), tmp_path / "half", args={"max_steps": 4, "save_steps": 2})
    half.before_step = lambda position: position.step == 2 and os.kill(os.getpid(), signal.SIGINT)  # type: ignore[assignment, method-assign]
    said: list[str] = []
    half.display.note = said.append  # type: ignore[method-assign]
    assert half.train().global_step == 3 and not (tmp_path / "half/dyme/model").exists()
    assert said[-1] == "stopped after step 3; go on with: train(resume_from_checkpoint=True)" and "dyme train" not in "".join(said)
    with pytest.raises(RunError, match=r"holds a run already; give another output_dir, or train\(resume_from_checkpoint=True\)"):
        trainer(checkpoints("qwen2"), tmp_path / "half", args={"max_steps": 4, "save_steps": 2}).train()
    with pytest.raises(RunError, match="is not of this run"):
        half.train(resume_from_checkpoint=str(tmp_path / "whole"))
    on = trainer(checkpoints("qwen2"), tmp_path / "half", args={"max_steps": 4, "save_steps": 2})
    with monkeypatch.context() as full, pytest.raises(RunError, match=r"No space left.*go on with: train\(resume_from_checkpoint=True\)$"):
        full.setattr(on, "before_step", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
        on.train(resume_from_checkpoint=True)
    assert on.train(resume_from_checkpoint=str(tmp_path / "half")).global_step == 4
    one, other = (load_file(tmp_path / name / "dyme/model/model.safetensors") for name in ("whole", "half"))
    assert all(torch.equal(one[name], other[name]) for name in one)


# Models


def test_a_model_that_is_given_is_trained_itself(checkpoints: Checkpoints, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(checkpoints("llama"), dtype=torch.bfloat16)
    before = copy.deepcopy(model.state_dict())
    ours = trainer(model, tmp_path, processing_class=AutoTokenizer.from_pretrained(checkpoints("llama")))
    ours.train()
    assert ours.model is model and any(not torch.equal(before[n], t.to(torch.bfloat16)) for n, t in model.state_dict().items())


@pytest.mark.parametrize("loaded", [False, True])
def test_an_adapter_is_peft_config_s(loaded: bool, checkpoints: Checkpoints, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = checkpoints("llama")
    lora = LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM")
    given = get_peft_model(AutoModelForCausalLM.from_pretrained(base), lora) if loaded else base
    more = {"processing_class": AutoTokenizer.from_pretrained(base)} if loaded else {"peft_config": lora}
    ours = trainer(given, tmp_path, args={"bf16": True}, **more)
    ours.train()
    ours.save_model(str(tmp_path / "saved"))
    kept = json.loads((tmp_path / "saved/adapter_config.json").read_text())
    assert (kept["r"], kept["lora_alpha"], kept["use_rslora"], sorted(kept["target_modules"])) == (4, 6, True, ["q_proj", "up_proj"])
    weights = load_file(tmp_path / "saved/adapter_model.safetensors")
    assert any(tensor.any() for name, tensor in weights.items() if "lora_B" in name)
    trained = {name for name, weight in ours.model.named_parameters() if weight.requires_grad}
    assert trained and all("lora_" in name for name in trained)


def test_adapters_and_models_that_cannot_be_trained_are_named(checkpoints: Checkpoints, tmp_path: Path) -> None:
    from peft import IA3Config, LoraConfig

    for peft, said in (
        (IA3Config(), "peft_config: IA3Config cannot be honoured"),
        (LoraConfig(modules_to_save=["lm_head"]), "peft_config: modules_to_save="),
        (LoraConfig(bias="all"), "peft_config: bias='all' cannot be honoured"),
        (LoraConfig(init_lora_weights="pissa_niter_4"), "peft_config: init_lora_weights="),
    ):
        with pytest.raises(ConfigError, match=said):
            trainer(checkpoints("llama"), tmp_path, peft_config=peft)
    with pytest.raises(ConfigError, match="model_init_kwargs: device_map cannot be honoured"):
        trainer(checkpoints("llama"), tmp_path, args={"model_init_kwargs": {"device_map": "auto"}})
    with pytest.raises(ModelError, match="model: NoneType is no model"):
        trainer(None, tmp_path)
    with pytest.raises(ConfigError, match="args is TrainingArguments, and TRL's GRPOConfig is needed"):
        DyMETrainer("m", spread, TrainingArguments("out", use_cpu=True), ROWS)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="no such folder"):
        trainer(tmp_path / "nowhere", tmp_path / "out").train()
    for name, value in (("tools", [len]), ("rollout_func", len), ("environment_factory", dict), ("quantization_config", object())):
        with pytest.raises(ConfigError, match=f"{name} cannot be honoured"):
            trainer(checkpoints("llama"), tmp_path, **{name: value})
    assert not list(tmp_path.iterdir())


def test_options_of_the_template_dropout_and_processors(checkpoints: Checkpoints, tmp_path: Path) -> None:
    own = AutoTokenizer.from_pretrained(checkpoints("qwen2"))
    own.chat_template = "{{ mood }}:{% for m in messages %}{{ m['content'] }}|{% endfor %}"
    ours = trainer(checkpoints("qwen2"), tmp_path, processing_class=own, args={
        "chat_template_kwargs": {"mood": "glad"}, "disable_dropout": True,
        "model_init_kwargs": {"dtype": "bfloat16", "attn_implementation": "sdpa"},
    })  # fmt: skip
    policy = ours.policy(ours.config)
    assert policy.tokenizer.decode(policy.encode(ours.rows.samples[2], "Think.").token_ids) == "glad:You count.|How many are 2 pears?|"
    assert policy.model.dtype == torch.float32 and all(m.p == 0 for m in policy.model.modules() if isinstance(m, torch.nn.Dropout))


# Rewards and rows


def test_rewards_get_what_trl_gives_them(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """Columns, conversations, tokens, the state; numbers of NumPy and torch, None and nan; two async ones; one that decides alone."""
    got: dict[str, Any] = {}

    def first(prompts: Any, completions: Any, completion_ids: Any, answer: Any, trainer_state: Any, log_metric: Any, log_extra: Any,
              solution: Any) -> Any:  # fmt: skip
        got.update(prompts=prompts, completions=completions, answer=answer, step=trainer_state.global_step)
        log_metric("mine", len(completions))
        log_extra("seen", answer)
        return np.array([len(ids) for ids in completion_ids], dtype=np.float32)

    async def second(completions: Any, **kwargs: Any) -> Any:
        return [torch.tensor(0.5) if k % 2 else None for k in range(len(completions))]

    async def third(completions: Any, **kwargs: Any) -> Any:
        return [math.nan] * len(completions)

    def decides(completions: Any, **kwargs: Any) -> list[bool]:
        return [k % 4 == 0 for k in range(len(completions))]

    ours = trainer(checkpoints("qwen2"), tmp_path, [first, second, third], correct=decides, trace="solution",
                   args={"reward_weights": [1.0, 2.0, 3.0], "max_steps": 1, "shuffle_dataset": False})  # fmt: skip
    ours.train()
    assert got["prompts"] == [TALK[k // 4] for k in range(8)] and got["answer"] == [k // 4 for k in range(8)] and got["step"] == 0
    assert all(c[0]["role"] == "assistant" for c in got["completions"])
    rows = lines(tmp_path / "dyme/rollouts.jsonl")
    for row in rows:
        for k, completion in enumerate(row["completions"]):
            known = {"first": completion["tokens"]} | ({"second": 0.5} if k % 2 else {})
            assert completion["rewards"] == known and completion["correct"] is (k == 0)
            assert completion["reward"] == completion["tokens"] + (1.0 if k % 2 else 0.0)
    assert ours.state.log_history[0]["mine"] == 8 and ours.state.log_history[0]["rewards/second/mean"] == 0.5
    assert "rewards/third/mean" not in ours.state.log_history[0]


def test_what_all_rewards_leave_out_moves_nothing(checkpoints: Checkpoints, tmp_path: Path) -> None:
    def half(completions: Any, completion_ids: Any, **kwargs: Any) -> Any:
        return [None if k % 4 == 3 else float(ids[0]) for k, ids in enumerate(completion_ids)]

    ours = trainer(checkpoints("qwen2"), tmp_path, half, args={"max_steps": 1})
    ours.train()
    for row in lines(tmp_path / "dyme/rollouts.jsonl"):
        assert row["completions"][3]["reward"] is None and row["completions"][3]["advantage"] == 0


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda completions, **_: [1.0], r"reward <lambda> returned 1 values for 8 completions"),
        (lambda completions, **_: 1.0, "reward <lambda> returned 1.0; it must return"),
        (lambda completions, **_: ["good"] * 8, "reward <lambda> returned 'good' for a completion; give a number or None"),
        (lambda completions, **_: [math.inf] * 8, "reward <lambda> returned inf"),
        (lambda completions, **_: 1 / 0, r"reward <lambda> failed: test_trl_trainer.py, line \d+: ZeroDivisionError"),
        (lambda completions: [], r"reward <lambda> failed: .*unexpected keyword"),
    ],
)
def test_rewards_that_cannot_be_used_are_one_line(function: Any, said: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        trainer(checkpoints("qwen2"), tmp_path, function).train()


def test_what_decides_is_told_and_can_be_chosen(checkpoints: Checkpoints, tmp_path: Path) -> None:
    def notes(**given: Any) -> str:
        return trainer(checkpoints("qwen2"), tmp_path, [never, spread], **given).notes[-1]

    assert notes() == (
        "no trace= column, so nothing can be memorized: this run is plain GRPO; a completion is correct if never gives it 1 or more "
        "(correct=, threshold=), which is only recorded"
    )
    assert notes(trace="solution", correct="spread", threshold=0.5) == (
        "a completion is correct if spread gives it 0.5 or more (correct=, threshold=); where none is, column 'solution' is memorized"
    )
    assert "if spread gives" in notes(correct=1) and "if spread gives" in notes(correct=spread) and "if len gives" in notes(correct=len)
    for wrong in ("nobody", 2, True, 1.5):
        with pytest.raises(ConfigError, match="correct: "):
            notes(correct=wrong)
    with pytest.raises(ConfigError, match="method sft memorizes; name the column"):
        notes(dyme={"method.name": "sft"})
    with pytest.raises(ConfigError, match="unknown key 'learning_rat'; did you mean 'learning_rate'"):
        notes(dyme={"train.learning_rat": 1})
    with pytest.raises(ConfigError, match=r"reward_weights has 1 numbers for 2"):
        trainer(checkpoints("qwen2"), tmp_path, [never, spread], args={"reward_weights": [1.0]})
    with pytest.raises(ModelError, match="reward_funcs: some/reward-model cannot be loaded"):
        trainer(checkpoints("qwen2"), tmp_path, "some/reward-model")


def test_rows_of_all_kinds(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """A row without a picture, pictures in the messages, in a list; and those that cannot be used, each by its row."""
    square = Image.new("RGB", (20, 20), "red")
    ask = [{"role": "user", "content": "Which?"}]
    data = Dataset.from_list([{"prompt": ask, "image": square}, {"prompt": ask, "image": None}])
    ours = trainer(checkpoints("idefics3"), tmp_path / "one", spread, data, {"max_steps": 1})
    assert [len(sample.images) for sample in ours.rows.samples] == [1, 0]
    ours.train()
    placed = [{"role": "user", "content": [{"type": "text", "text": "Which?"}, {"type": "image", "image": square}]}]
    inside = trainer(checkpoints("idefics3"), tmp_path / "two", spread, Dataset.from_list([{"prompt": placed}] * 2))
    assert [len(sample.images) for sample in inside.rows.samples] == [1, 1]

    def wrong(data: Any, **given: Any) -> str:
        with pytest.raises(DataError) as caught:
            trainer(checkpoints("qwen2"), tmp_path / "three", spread, data, **given)
        return str(caught.value)

    assert "IterableDataset" in wrong(IterableDataset.from_generator(lambda: iter([{"prompt": "a"}])))
    assert "NoneType" in wrong(None)
    assert "has no rows" in wrong(Dataset.from_dict({"prompt": []}))
    assert "has no column 'prompt'; it has question" in wrong(Dataset.from_dict({"question": ["a"]}))
    assert "has no column 'solution'" in wrong(Dataset.from_dict({"prompt": ["a"]}), trace="solution")
    assert "train_dataset:1: column 'solution' holds no text" in wrong(
        Dataset.from_dict({"prompt": ["a", "b"], "solution": ["c", None]}), trace="solution"
    )
    assert "tools" in wrong(Dataset.from_dict({"prompt": ["a"], "tools": ["b"]}))
    assert "a prompt of plain text" in wrong(Dataset.from_list([{"prompt": "a", "image": square}]))


def test_remove_unused_columns_and_plain_precision(checkpoints: Checkpoints, tmp_path: Path) -> None:
    got: set[str] = set()

    def sees(completions: Any, **kwargs: Any) -> list[float]:
        got.update(kwargs)
        return [float(k) for k in range(len(completions))]

    trainer(checkpoints("qwen2"), tmp_path, sees, args={"remove_unused_columns": True, "bf16": True, "max_steps": 1}).train()
    assert got == {"prompts", "completion_ids", "trainer_state", "log_extra", "log_metric"}
    assert json.loads((tmp_path / "dyme/config.json").read_text())["train"]["precision"] == "bf16"


def test_where_the_deciding_reward_says_nothing_the_prompt_is_skipped(checkpoints: Checkpoints, tmp_path: Path) -> None:
    def unsure(completions: Any, answer: Any, **kwargs: Any) -> Any:
        return [None if number == 0 else 0.0 for number in answer]

    ours = trainer(checkpoints("qwen2"), tmp_path, [spread, unsure], correct=unsure, trace="solution",
                   args={"max_steps": 1, "shuffle_dataset": False})  # fmt: skip
    ours.train()
    assert [row["mode"] for row in lines(tmp_path / "dyme/rollouts.jsonl")] == ["skip", "memorize"]
    assert lines(tmp_path / "dyme/metrics.jsonl")[0]["metrics"]["verifier_failures"] == 4


def test_a_base_model_without_a_template_takes_plain_text(checkpoints: Checkpoints, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(checkpoints("llama"), base)
    (base / "chat_template.jinja").unlink()
    plain = Dataset.from_dict({"prompt": ["Once", "Twice"]})
    ours = trainer(base, tmp_path / "out", spread, plain, {"max_steps": 1})
    ours.train()
    assert ours._loaded().encode(ours.rows.samples[0], "").token_ids == tuple(ours.processing_class("Once")["input_ids"])
    with pytest.raises(ModelError, match="has no chat template"):
        trainer(base, tmp_path / "talk", spread, ROWS, {"max_steps": 1}).train()


def test_evaluations_and_saves_without_training(checkpoints: Checkpoints, tmp_path: Path) -> None:
    sets = {"easy": ROWS.select([0]), "hard": ROWS.select([1, 2])}
    ours = trainer(checkpoints("qwen2"), tmp_path, [spread, never], eval_dataset=sets)
    found = ours.evaluate()
    assert {"eval_easy_reward", "eval_hard_rewards/never/mean", "eval_hard_completions/mean_length"} <= found.keys()
    assert ours.evaluate(ROWS.select([0]), metric_key_prefix="test")["test_reward"] == found["eval_easy_reward"]
    ours.save_model(str(tmp_path / "plain"))
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "plain")
    with pytest.raises(RunError, match="there is no final model yet"):
        ours.push_to_hub()
    with pytest.raises(ConfigError, match="there is no eval_dataset"):
        trainer(checkpoints("qwen2"), tmp_path).evaluate()
    with pytest.raises(ConfigError, match=r"GRPOConfig\.eval_strategy and eval_on_start need an eval_dataset"):
        trainer(checkpoints("qwen2"), tmp_path, args={"eval_strategy": "epoch"})


def test_what_scripts_do_after_training(checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics, state and hub; in a folder of one's own, by relative paths."""
    pushed: list[Any] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainer_module.hub, "push", lambda *given: pushed.append(given) or "https://hub/me/mine")
    ours = trainer(checkpoints("qwen2"), Path("out/mine"), args={"push_to_hub": True, "hub_private_repo": True, "max_steps": 1})
    metrics = ours.train().metrics
    assert metrics.keys() == {"train_runtime", "train_loss", "epoch"}
    ours.log_metrics("train", metrics)
    ours.save_metrics("train", metrics)
    ours.save_state()
    ours.create_model_card(tags=["mine"])
    assert json.loads(Path("out/mine/trainer_state.json").read_text())["global_step"] == 1
    assert json.loads(Path("out/mine/train_results.json").read_text())["epoch"] == metrics["epoch"]
    assert pushed == [(Path("out/mine/dyme/model"), "mine", True)] and ours.accelerator.is_main_process


def test_without_trl_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "trl" else found(name, *more))
    with pytest.raises(ConfigError, match=r"takes another package: pip install 'dyme\[trl\]'"):
        importlib.reload(importlib.import_module("dyme.integrations.trl"))


def test_somebody_elses_script(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """Two dozen settings, as they stand in scripts on the web."""
    args = GRPOConfig(
        output_dir=str(tmp_path), run_name="run-7", learning_rate=5e-6, adam_beta1=0.9, adam_beta2=0.99, weight_decay=0.1, warmup_steps=0.1,
        lr_scheduler_type="cosine", logging_steps=1, bf16=True, use_cpu=True, per_device_train_batch_size=2, gradient_accumulation_steps=4,
        num_generations=4, max_completion_length=8, num_train_epochs=1, save_steps=100, max_grad_norm=0.1, log_completions=True, beta=0.04,
        num_iterations=2, scale_rewards=False, loss_type="dr_grpo", mask_truncated_completions=False, temperature=0.9, top_p=0.95, seed=42,
        report_to="none", gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": False}, dataloader_num_workers=2,
        remove_unused_columns=False, do_eval=False, epsilon_high=0.28, disable_tqdm=True,
    )  # fmt: skip
    ours = DyMETrainer(str(checkpoints("qwen2")), [spread, never], args, ROWS)
    told = {line.split()[0].removeprefix("GRPOConfig.") for line in ours.notes[:-1]}
    assert told == {"dataloader_num_workers", "log_completions", "gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"}
    out = ours.train()
    assert out.global_step == 6 and len(lines(tmp_path / "dyme/metrics.jsonl")) == 3
    assert all(math.isfinite(row["kl"]) for row in ours.state.log_history if "loss" in row)


@pytest.mark.parametrize("plain", [False, True])
def test_reward_models_say_what_they_say_in_trl(plain: bool, checkpoints: Checkpoints, tmp_path: Path) -> None:
    torch.manual_seed(0)
    judge = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(checkpoints("llama"), num_labels=1))
    judge.save_pretrained(tmp_path / "judge")
    AutoTokenizer.from_pretrained(checkpoints("llama")).save_pretrained(tmp_path / "judge")
    data = Dataset.from_dict({"prompt": ["Once", "Twice"] if plain else TALK[:2]})
    given = ([str(tmp_path / "judge"), spread], settings(tmp_path / "out", max_steps=1), data)
    ours = DyMETrainer(str(checkpoints("llama")), *given)
    theirs = GRPOTrainer(str(checkpoints("llama")), *given)
    said = ["a b", "c", "It is 7.", ""]
    prompts = [data[k % 2]["prompt"] for k in range(4)]
    completions = said if plain else [[{"role": "assistant", "content": text}] for text in said]
    columns = theirs._calculate_rewards([{"prompt": p} for p in prompts], prompts, completions, [[1]] * 4)
    assert ours.reward.functions[0](prompts, completions) == pytest.approx(columns[:, 0].tolist(), abs=1e-5)
    assert ours.reward.names == ["judge", "spread"] == theirs.reward_func_names
    ours.train()
    assert "rewards/judge/mean" in ours.state.log_history[0]
    with pytest.raises(ConfigError, match="reward_processing_classes has 1 for 2"):
        trainer(checkpoints("llama"), tmp_path, [spread, never], data, reward_processing_classes=[None])


def test_reports_go_to_dymes_trackers(checkpoints: Checkpoints, tmp_path: Path) -> None:
    ours = trainer(checkpoints("qwen2"), tmp_path, args={"report_to": "tensorboard", "run_name": "mine", "max_steps": 1})
    assert (ours.config.run.report_to, ours.config.run.run_name, ours.config.run.project) == (("tensorboard",), "mine", "")
    with pytest.raises(ConfigError, match="run.report_to: 'neptune' is not known"):
        trainer(checkpoints("qwen2"), tmp_path, args={"report_to": "neptune"}).train()
    with pytest.raises(ConfigError, match="run.eval_every asks dyme's own verifier; set eval_strategy"):
        trainer(checkpoints("qwen2"), tmp_path, dyme={"run.eval_every": 2})
