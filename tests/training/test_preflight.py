"""What cannot work is told before a run folder is made: pictures, context, memory, adapters."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from tiny import Picture, samples

from dyme.checks import check_training
from dyme.config import Config, MethodConfig, ModelConfig, RolloutConfig, TaskConfig, TrainConfig
from dyme.errors import ConfigError, DataError
from dyme.model import checks
from dyme.model.policy import Policy
from dyme.recipe import build
from dyme.targets import target_text
from dyme.training import memory
from dyme.training import preflight as capacity
from dyme.training.loop import train
from dyme.types import Fact, Sample

Load = Callable[[str], Policy]
CONFIG = Config(
    task=TaskConfig(think_prompt="Think."),
    rollout=RolloutConfig(num_generations=4, max_completion_length=32),
    train=TrainConfig(precision="fp32"),
)


def sizes_of(policy: Policy, config: Config, asked: list[Sample] | None = None) -> capacity.Sizes:
    return capacity.check_model(policy, asked or samples(policy, 12), config, Accelerator(cpu=True))


def step(policy: Policy, config: Config) -> str | None:
    return capacity.check_step(policy, sizes_of(policy, config), config, Accelerator(cpu=True), check_training(config).plan(config))


def free(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: int(size))


def state_of(policy: Policy) -> int:
    """Gradients and two moments."""
    return 3 * sum(p.nbytes for p in policy.parameters() if p.requires_grad)


# pictures, context, adapters


def test_all_samples_are_looked_at_for_pictures(policies: Load) -> None:
    asked = [Sample(id=f"row {k}", question="?", answer="1", images=(Picture(k),) if k >= 40 else ()) for k in range(43)]
    with pytest.raises(DataError, match=r"row 40: has an image, but LlamaForCausalLM reads text only \(3 of 43 samples have one\); use a"):
        sizes_of(policies("llama"), CONFIG, asked)
    with pytest.raises(DataError, match=r"row 42: has an image, but LlamaForCausalLM reads text only; use a"):
        sizes_of(policies("llama"), CONFIG, [*asked[:40], asked[42]])
    sizes_of(policies("idefics3"), CONFIG, asked)


@pytest.mark.parametrize(
    ("family", "token"),
    [
        ("idefics3", "<image>"), ("llava", "<image>"), ("internvl", "<IMG_CONTEXT>"), ("qwen2_vl", "<|image_pad|>"),
        ("qwen2_vl", "<|video_pad|>"), ("gemma3", "<image_soft_token>"), ("gemma3", "<start_of_image>"), ("paligemma", "<image>"),
    ],
)  # fmt: skip
def test_texts_that_a_model_takes_for_pictures(family: str, token: str, policies: Load) -> None:
    """In the middle of a run such a row would end it: none of these is among the samples that are probed."""
    policy = policies(family)
    plain = samples(policy, 40)
    changes: dict[str, dict[str, Any]] = {
        "question": {"question": f"Is {token} it?"}, "rationale": {"rationale": f"As {token}."}, "answer": {"answer": token},
        "list of facts": {"facts": (Fact("bar", token),)},
    }  # fmt: skip
    for field, change in changes.items():
        asked = [*plain[:30], replace(plain[30], **change), *plain[31:]]
        with pytest.raises(DataError, match=rf"s30: the {field} holds '{re.escape(token)}', which \w+ takes for a picture.*; take it out"):
            sizes_of(policy, CONFIG, asked)
    with pytest.raises(DataError, match=r"s3: .* \(2 of 40 samples hold such a text\)"):
        sizes_of(policy, CONFIG, [replace(row, answer=token) if k in (3, 5) else row for k, row in enumerate(plain)])
    assert sizes_of(policy, CONFIG, plain)


def test_text_models_read_any_text(policies: Load) -> None:
    policy = policies("llama")
    assert checks.placeholders(policy) == []
    sizes_of(policy, CONFIG, [replace(samples(policy, 1)[0], question="What is <image>?")])


def test_the_sizes_are_those_of_the_longest(policies: Load) -> None:
    policy = policies("idefics3")
    asked = samples(policy, 30)
    asked[17] = replace(asked[17], question="What is " + "the height of " * 50 + "it?")
    asked[23] = replace(asked[23], rationale="It is " + "tall " * 60)
    asked[25] = replace(asked[25], images=asked[25].images * 3)
    found = sizes_of(policy, CONFIG, asked)
    lengths = [len(policy.encode(sample, "Think.").token_ids) for sample in asked]
    assert found.prompt == max(lengths)
    assert found.target == len(policy.target(f"{(asked[23].rationale or '').strip()} Answer: 23")) > 60


def test_a_context_that_is_too_short(policies: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policies("llama")
    asked = [samples(policy, 1)[0]]
    prompt = len(policy.encode(asked[0], "Think.").token_ids)

    def limited(limit: int) -> capacity.Sizes:
        monkeypatch.setattr(policy.model.config.get_text_config(), "max_position_embeddings", limit)
        return sizes_of(policy, CONFIG, asked)

    assert limited(prompt + 32).prompt == prompt
    with pytest.raises(ConfigError, match=rf"is 32, but the model's context of {prompt + 31} tokens leaves 31 after the prompt of s0"):
        limited(prompt + 31)
    with pytest.raises(DataError, match=rf"a prompt of {prompt} tokens and a target of \d+, and the model's context is {prompt + 2}"):
        limited(prompt + 2)
    with pytest.raises(DataError, match=rf"s0: has a prompt of {prompt} tokens, and the model's context is 9; shorten or drop such rows"):
        limited(9)


@pytest.mark.parametrize(
    ("family", "names"),
    [("idefics3", r"model\.image_longest_edge, model\.image_splitting"), ("qwen2_vl", r"model\.image_min_pixels, model\.image_max_pixels")],
)
def test_pictures_that_fill_the_context(family: str, names: str, policies: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policies(family)
    monkeypatch.setattr(policy.model.config.get_text_config(), "max_position_embeddings", 10)
    with pytest.raises(DataError, match=rf"the model's context is 10; make pictures smaller \({names}\)"):
        sizes_of(policy, CONFIG)


def test_targets_that_no_answer_can_reach(policies: Load) -> None:
    policy, accelerator = policies("llama"), Accelerator(cpu=True)
    asked = [replace(sample, rationale="It is tall. " * k) for k, sample in enumerate(samples(policy, 20))]
    lengths = sorted(len(policy.target(target_text(sample, "Answer:"))) for sample in asked)

    def told(limit: int, method: str = "dyme") -> str | None:
        config = replace(CONFIG, rollout=RolloutConfig(max_completion_length=limit), method=MethodConfig(name=method))
        sizes = capacity.check_model(policy, asked, config, accelerator)
        return capacity.long_targets(policy, asked, sizes, config, check_training(config).plan(config))

    assert told(lengths[-1]) is None and told(lengths[9], "grpo") is None
    for method in ("dyme", "sft", "two_stage"):
        line = told(lengths[14], method)
        assert line and line.startswith(f"5 of 20 targets (25%) are longer than rollout.max_completion_length, {lengths[14]} tokens")
        assert line.endswith(f"set it to {lengths[-1]} for all of them, {lengths[19]} for 95 % of them")
    line = told(2)
    assert line and line.startswith("20 of 20 targets (100%)")


def test_an_adapter_of_another_rank(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    Policy.load(ModelConfig(path=str(checkpoints("llama")), lora_rank=4)).save(tmp_path)
    for rank in (0, 8):
        config = replace(CONFIG, model=ModelConfig(path=str(tmp_path), lora_rank=rank))
        with pytest.raises(ConfigError, match=rf"is a LoRA adapter of rank 4, and model.lora_rank is {rank}; set it to 4 to go on"):
            sizes_of(Policy.load(config.model), config)
    config = replace(CONFIG, model=ModelConfig(path=str(tmp_path), lora_rank=4))
    sizes_of(Policy.load(config.model), config)


# memory


def test_weights_that_do_not_fit(policies: Load, checkpoints: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policies("llama")
    state = state_of(policy)
    free(monkeypatch, state)
    sizes_of(policy, CONFIG)
    free(monkeypatch, state - 1)
    with pytest.raises(ConfigError, match=r"GiB, and cpu has .* GiB free; what helps: model.lora_rank = 16 \(little more than 0.0 GiB\)$"):
        sizes_of(policy, CONFIG)
    adapted = replace(CONFIG, model=ModelConfig(path=str(checkpoints("llama")), lora_rank=2))
    sizes_of(Policy.load(adapted.model), adapted)
    free(monkeypatch, 0)
    with pytest.raises(ConfigError, match="take a smaller model or a larger device"):
        sizes_of(Policy.load(adapted.model), adapted)


def test_one_prompt_that_does_not_fit(policies: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policies("llama")
    found = sizes_of(policy, CONFIG)
    fixed, per_token = capacity.activation_bytes(policy, found.shortest, torch.device("cpu"))
    state = state_of(policy) + fixed
    whole = found.prompt + 4 * 32
    free(monkeypatch, state + per_token * (whole + 1))
    step(policy, CONFIG)
    free(monkeypatch, state + per_token * (found.prompt + 2 * 32 + 5))
    with pytest.raises(ConfigError, match=rf"one prompt of {found.prompt} tokens with 4 answers of 32 takes about ") as caught:
        step(policy, CONFIG)
    helps = str(caught.value).partition("what helps: ")[2].split("; ")
    assert helps == [
        "rollout.num_generations = 2", "rollout.max_completion_length = 17", "train.gradient_checkpointing = true", "model.lora_rank = 16",
        'train.precision = "bf16"',
    ]  # fmt: skip
    for words in (["--rollout.num_generations", "2"], ["--rollout.max_completion_length", "17"]):
        advised = build({"rollout": {"num_generations": 4, "max_completion_length": 32}, "task": {"think_prompt": "Think."}}, words)
        step(policy, advised)
    with pytest.raises(ConfigError, match="what helps: rollout.max_completion_length"):
        step(policy, replace(CONFIG, rollout=RolloutConfig(num_generations=2, max_completion_length=200)))
    with pytest.raises(ConfigError, match=r"with 4 answers of 32 takes about"):
        step(policy, replace(CONFIG, model=ModelConfig(layout="rows")))


def test_sft_needs_room_for_one_target(policies: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policies("llama")
    sft = replace(CONFIG, method=replace(CONFIG.method, name="sft"))
    found = sizes_of(policy, sft)
    fixed, per_token = capacity.activation_bytes(policy, found.shortest, torch.device("cpu"))
    free(monkeypatch, state_of(policy) + fixed + per_token * (found.prompt + found.target + 1))
    assert step(policy, sft) is None
    with pytest.raises(ConfigError, match="with 4 answers"):
        step(policy, CONFIG)


@pytest.mark.parametrize("family", ["llama", "idefics3", "qwen2_5_vl", "internvl"])
def test_the_estimate_is_what_an_update_keeps(family: str, policies: Load) -> None:
    """Measured on a short sequence, right for a long one."""
    policy = policies(family)
    asked = samples(policy, 12)
    asked[5] = replace(asked[5], question="What is " + "the height of " * 60 + "it?")
    short, long = (policy.encode(asked[k], "Think.") for k in (0, 5))
    fixed, per_token = capacity.activation_bytes(policy, short, torch.device("cpu"))
    assert len(long.token_ids) > 3 * len(short.token_ids) and per_token > 1000
    assert fixed + per_token * len(long.token_ids) == pytest.approx(capacity._kept(policy, long, torch.device("cpu")), rel=0.05)


def test_a_rollout_that_may_not_fit_is_a_warning(policies: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = policies("llama")
    wide = replace(CONFIG, train=TrainConfig(prompts_per_step=64, precision="fp32"))
    found = sizes_of(policy, wide)
    once, each = capacity.sampling_bytes(policy, found.prompt, 32, 4)
    rollout = 64 * (once + 4 * each)
    state = state_of(policy)
    free(monkeypatch, state + rollout)
    assert step(policy, wide) is None
    free(monkeypatch, state + 0.6 * rollout)
    line = step(policy, wide)
    assert (
        line is not None
        and line.startswith("256 completions at a time may not fit: about ")
        and "set train.prompts_per_step to 38 or" in line
    )


def test_the_cache_of_a_rollout(policies: Load) -> None:
    """Two layers, two heads of keys and values, eight numbers each, float32; scores several times; a prompt once if all can read it."""
    for family, copies in (("llama", 1), ("gemma3", 5)):
        policy = policies(family)
        text = policy.model.config.get_text_config()
        token = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * 4
        assert capacity.sampling_bytes(policy, 100, 30, 5) == (copies * 100 * token, 30 * token + 16 * text.vocab_size)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"answer": ""}, "row a: "), ({"answer": "3 Answer: 4"}, "cannot be given"), ({"answer_kind": "choice"}, "row a: "),
        ({"rationale": "One. Answer: 1"}, "the rationale contains"),
    ],
)  # fmt: skip
def test_samples_of_ones_own_are_held_to_what_rows_are_held_to(given: dict[str, Any], match: str, tmp_path: Path,
                                                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Before a model is loaded."""
    monkeypatch.setattr(Policy, "load", None)
    with pytest.raises(DataError, match=match):
        train(build({"run": {"output": str(tmp_path / "run")}}, []), samples=[replace(Sample(id="a", question="?", answer="1"), **given)])


def test_free_memory_is_what_is_available() -> None:
    size = memory.free_bytes(torch.device("cpu"))
    assert 2**27 < size < 2**45


def test_no_run_folder_is_made(policies: Load, checkpoints: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(error: type[Exception], match: str, model: str, *words: str) -> None:
        path = {"run": {"output": str(tmp_path / "run")}, "model": {"path": str(checkpoints(model))}, "task": {"train_size": 8}}
        with pytest.raises(error, match=match):
            train(build(path, words))
        assert not (tmp_path / "run").exists()

    refused(DataError, "reads text only", "llama")
    refused(ConfigError, "max_completion_length is 3,000", "idefics3", "--rollout.max_completion_length", "3000")
    free(monkeypatch, 3 * sum(p.nbytes for p in policies("idefics3").parameters() if p.requires_grad) + 2**18)
    refused(ConfigError, "one prompt of", "idefics3", "--rollout.max_completion_length", "1500")
    settings: dict[str, Any] = {"model": {"path": str(checkpoints("idefics3"))}}
    assert build(settings, []).model.path
