"""LoRA: only adapters train, what is saved reloads to the same bits here and in peft, and merges into a plain checkpoint."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from families import FAMILIES, MERGED, SEEING, TREES
from peft import PeftModel
from tiny import explore_all, groups, inputs, prompts, step
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from dyme.config import Config, ModelConfig, ObjectiveConfig, TrainConfig
from dyme.errors import ConfigError, ModelError
from dyme.model import adapters, merging
from dyme.model.policy import Policy
from dyme.model.vision import TOWERS
from dyme.rollout import hf
from dyme.training.memory import saved_bytes
from dyme.training.update import Updater

REWARDS = [[0.9, 0.0, 0.3], [1.5, 0.0, 0.2], [0.1, 0.3, 0.8]]
Checkpoints = Callable[[str], Path]


def adapted(checkpoints: Checkpoints, family: str, dtype: torch.dtype = torch.float32, **settings: Any) -> Policy:
    torch.manual_seed(0)
    return Policy.load(ModelConfig(path=str(checkpoints(family)), lora_rank=4, **settings), dtype)


def trained(policy: Policy, config: Config | None = None, lr: float = 1e-1) -> Policy:
    """The policy after one step in which every completion is explored."""
    config = config or Config()
    answered = groups(policy, REWARDS)
    step(Updater(policy, config, Accelerator(cpu=True)), prompts(policy, 3), answered, explore_all(answered, config), lr=lr)
    return policy.eval()


def snapshot(policy: Policy) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in policy.named_parameters()}


def logits(model: Any, policy: Policy) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = model(**inputs(policy.model, prompts(policy, 1)[0], policy.target("It is 7."))).logits
    return out


def base_model(checkpoints: Checkpoints, family: str) -> Any:
    loader = AutoModelForImageTextToText if family in SEEING else AutoModelForCausalLM
    return loader.from_pretrained(checkpoints(family))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_moves_the_adapter_and_nothing_else(family: str, checkpoints: Checkpoints) -> None:
    policy = adapted(checkpoints, family)
    before = snapshot(policy)
    trained(policy)
    moved = {name for name, weight in policy.named_parameters() if not torch.equal(weight, before[name])}
    assert moved and all("lora_" in name for name in moved)
    assert moved >= {name for name in before if "lora_B" in name}, "all layers take part"
    assert not any(part in name for name in moved for part in (*TOWERS, "connector", "projector"))
    assert policy.tower.module is None or policy.tower.frozen


@pytest.mark.parametrize("family", FAMILIES)
def test_a_new_adapter_changes_nothing(family: str, checkpoints: Checkpoints, policies: Callable[[str], Policy]) -> None:
    plain = policies(family).eval()
    assert torch.equal(logits(adapted(checkpoints, family).eval().model, plain), logits(plain.model, plain))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_adapter_reloads_to_the_same_bits_here_and_in_peft(family: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    policy = trained(adapted(checkpoints, family))
    expected = logits(policy.model, policy)
    policy.save(tmp_path, {name: value.clone() for name, value in policy.state_dict().items()})
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {file.name for file in tmp_path.iterdir()}
    assert not (tmp_path / "model.safetensors").exists()
    again = Policy.load(ModelConfig(path=str(tmp_path))).eval()
    assert torch.equal(logits(again.model, again), expected)
    assert [p.token_ids for p in prompts(again, 3)] == [p.token_ids for p in prompts(policy, 3)]
    assert {n for n, w in again.named_parameters() if w.requires_grad} == {n for n, w in policy.named_parameters() if w.requires_grad}
    theirs = PeftModel.from_pretrained(base_model(checkpoints, family), tmp_path).eval()
    assert torch.equal(logits(theirs, policy), expected)
    assert not torch.allclose(logits(base_model(checkpoints, family).eval(), policy), expected), "the comparison must be able to fail"


@pytest.mark.parametrize("family", ["idefics3", "qwen2_5_vl", "llama"])
def test_merged_it_is_a_plain_checkpoint(family: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    policy = trained(adapted(checkpoints, family))
    expected = logits(policy.model, policy)
    names = set(base_model(checkpoints, family).state_dict())
    merging.merge(policy.model)
    policy.save(tmp_path)
    assert set(policy.model.state_dict()) == names and not adapters.attached(policy.model)
    loader = AutoModelForImageTextToText if family in SEEING else AutoModelForCausalLM
    assert torch.allclose(logits(loader.from_pretrained(tmp_path).eval(), policy), expected, atol=1e-4)
    assert not (tmp_path / "adapter_config.json").exists()


@pytest.mark.parametrize("family", SEEING)
def test_with_the_tower_not_frozen_it_gets_adapters_too(family: str, checkpoints: Checkpoints) -> None:
    policy = adapted(checkpoints, family, freeze_vision=False)
    trained(policy)
    names = {name for name, weight in policy.named_parameters() if weight.requires_grad}
    assert all("lora_" in name for name in names) and not any("lm_head" in name for name in names)
    assert any(part in name for name in names for part in TOWERS)
    assert any(part in name for name in names for part in ("connector", "projector", "embed_vision")) or family in (*MERGED, "gemma3")
    assert not policy.tower.frozen


@pytest.mark.parametrize("family", TREES)
def test_the_packed_tree_serves_an_adapted_model(family: str, checkpoints: Checkpoints) -> None:
    policy = trained(adapted(checkpoints, family))
    config, answered, notes = Config(), groups(policy, REWARDS), list[str]()
    updater = Updater(policy, config, Accelerator(cpu=True), notes.append)
    step(updater, prompts(policy, 3), answered, explore_all(answered, config))
    assert updater.layout is not None and updater.layout.layout == "tree", notes


def test_rows_and_tree_give_an_adapter_the_same_gradients(checkpoints: Checkpoints) -> None:
    policy = trained(adapted(checkpoints, "idefics3"))
    found = []
    for layout in ("tree", "rows"):
        config = Config(model=ModelConfig(layout=layout))  # type: ignore[arg-type]
        answered = groups(policy, REWARDS)
        updater = Updater(policy, config, Accelerator(cpu=True))
        found.append(step(updater, prompts(policy, 3), answered, explore_all(answered, config)).gradients)
    assert found[0].keys() == found[1].keys() and all("lora_" in name for name in found[0])
    for name, gradient in found[0].items():
        assert torch.allclose(gradient, found[1][name], rtol=1e-3, atol=1e-5), name


def test_rollouts_come_from_the_adapted_model(checkpoints: Checkpoints, policies: Callable[[str], Policy]) -> None:
    config = Config().rollout
    policy, plain = adapted(checkpoints, "idefics3"), policies("idefics3")
    asked = prompts(policy, 2)

    def drawn(of: Policy) -> list[tuple[int, ...]]:
        return [c.token_ids for own in hf.sample(of, asked, [1, 2], config) for c in own]

    before = drawn(policy)
    assert before == drawn(plain)
    trained(policy)
    assert drawn(policy) != before


def test_the_reference_of_a_new_adapter_is_the_base(checkpoints: Checkpoints, policies: Callable[[str], Policy]) -> None:
    policy = adapted(checkpoints, "llama")
    config = Config(objective=ObjectiveConfig(beta=0.1))
    updater = Updater(policy, config, Accelerator(cpu=True))
    updater.begin_stage(rolls_out=True)
    answered = groups(policy, REWARDS)
    step(updater, prompts(policy, 3), answered, explore_all(answered, config), lr=1e-1)
    assert updater.reference is not None and set(updater.reference.weights) == {n for n, w in policy.named_parameters() if w.requires_grad}
    batch = updater._collate([updater._idle(prompts(policy, 1)[0])], "tree")
    with torch.no_grad():
        assert torch.equal(updater.reference(batch), policies("llama").eval()(batch))
        assert not torch.equal(policy.eval()(batch), updater.reference(batch))


@pytest.mark.parametrize("beta", [0.0, 0.2])
def test_saved_and_loaded_it_goes_on_bit_for_bit(beta: float, checkpoints: Checkpoints, tmp_path: Path) -> None:
    config = Config(objective=ObjectiveConfig(beta=beta), model=ModelConfig(lora_rank=4))
    first = Updater(adapted(checkpoints, "idefics3"), config, Accelerator(cpu=True))
    first.begin_stage(rolls_out=True)
    asked, answered = prompts(first.policy, 3), groups(first.policy, REWARDS)
    routes = explore_all(answered, config)
    step(first, asked, answered, routes, lr=1e-2)
    first.save(tmp_path / "state", tmp_path / "model")
    size = sum(file.stat().st_size for file in (tmp_path / "state").rglob("*.safetensors"))
    assert size < 0.5 * (checkpoints("idefics3") / "model.safetensors").stat().st_size, "the base is not written again"
    second = Updater(adapted(checkpoints, "idefics3"), config, Accelerator(cpu=True))
    second.load(tmp_path / "state")
    done = [step(one, asked, answered, routes, lr=1e-2) for one in (first, second)]
    assert done[0].metrics == done[1].metrics
    assert all(torch.equal(weight, snapshot(first.policy)[name]) for name, weight in snapshot(second.policy).items())


def test_dropout_is_for_the_update_alone(checkpoints: Checkpoints) -> None:
    policy = trained(adapted(checkpoints, "llama", lora_dropout=0.5))
    assert torch.equal(logits(policy.model, policy), logits(policy.model, policy))
    policy.train()
    assert not torch.equal(logits(policy.model, policy), logits(policy.model, policy))


def test_adapter_weights_are_float32_whatever_the_base(checkpoints: Checkpoints, tmp_path: Path) -> None:
    bf16 = Config(train=TrainConfig(precision="bf16"))
    policy = trained(adapted(checkpoints, "idefics3", dtype=torch.bfloat16), bf16)
    kinds = {(("lora_" in name), weight.dtype) for name, weight in policy.named_parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    policy.save(tmp_path)
    again = Policy.load(ModelConfig(path=str(tmp_path)), torch.bfloat16).eval()
    assert torch.equal(logits(again.model, again), logits(policy.model, policy))


# settings and names


def test_scale_and_targets(checkpoints: Checkpoints) -> None:
    policy = adapted(checkpoints, "llama")
    settings = policy.model.peft_config["default"]
    assert (settings.r, settings.lora_alpha, settings.task_type) == (4, 8, "CAUSAL_LM")
    layers = {name.rpartition(".lora_A")[0].rpartition(".")[2] for name, _ in policy.named_parameters() if "lora_A" in name}
    assert layers == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    few = adapted(checkpoints, "llama", lora_targets="q_proj, v_proj", lora_alpha=4)
    assert {name.rpartition(".lora_A")[0].rpartition(".")[2] for name, _ in few.named_parameters() if "lora_A" in name} == {
        "q_proj",
        "v_proj",
    }
    assert few.model.peft_config["default"].lora_alpha == 4
    with pytest.raises(ConfigError, match=r"model.lora_targets: there is no 'query'; choose from all-linear, down_proj, gate_proj, k_proj"):
        adapted(checkpoints, "llama", lora_targets="q_proj,query")


def test_the_base_is_named_so_that_it_is_found_again(checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkpoints("llama").parent)
    policy = Policy.load(ModelConfig(path=checkpoints("llama").name, lora_rank=2))
    policy.save(tmp_path / "a")
    monkeypatch.chdir(tmp_path)
    assert adapters.base_of(tmp_path / "a") == str(checkpoints("llama"))
    Policy.load(ModelConfig(path="a"))
    Policy.load(ModelConfig(lora_rank=2)).save(tmp_path / "b")
    assert adapters.base_of(tmp_path / "b") == "embedded"
    assert adapters.rank(Policy.load(ModelConfig(path="b")).model) == 2


def test_adapters_that_cannot_be_used(checkpoints: Checkpoints, tmp_path: Path) -> None:
    adapted(checkpoints, "llama").save(tmp_path)
    settings, weights = tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"
    whole = json.loads(settings.read_text())

    def refused(match: str, **changed: Any) -> None:
        settings.write_text(json.dumps(whole | changed))
        with pytest.raises(ModelError, match=match) as caught:
            Policy.load(ModelConfig(path=str(tmp_path)))
        assert "\n" not in str(caught.value)

    refused("does not say which model it belongs to; fill in base_model_name_or_path", base_model_name_or_path=None)
    refused("no such folder", base_model_name_or_path="/no/such/base")
    refused("the adapter does not fit its base", r=8)
    refused("the adapter does not fit its base", target_modules=["q_proj"])
    refused("the adapter does not fit its base", target_modules=["nothing"])
    refused("has settings that peft .* does not know", peft_type="IA3")
    weights.unlink()
    refused("has adapter_config.json but no adapter_model.safetensors")
    settings.write_text("{")
    with pytest.raises(ModelError, match="not valid|no adapter_model"):
        Policy.load(ModelConfig(path=str(tmp_path)))


def test_without_peft(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    find = adapters.importlib.util.find_spec
    monkeypatch.setattr(adapters.importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    with pytest.raises(ConfigError, match=r"LoRA takes another package: pip install 'dyme\[lora\]'; or set model.lora_rank = 0"):
        adapted(checkpoints, "llama")
    Policy.load(ModelConfig(path=str(checkpoints("llama"))))


def test_a_copy_trains_apart(checkpoints: Checkpoints) -> None:
    policy = adapted(checkpoints, "llama")
    other = copy.deepcopy(policy)
    before = snapshot(policy)
    trained(other, replace(Config(), train=TrainConfig(max_tokens_per_batch=512)))
    assert all(torch.equal(weight, before[name]) for name, weight in policy.named_parameters())


def test_a_frozen_base_is_no_activation(checkpoints: Checkpoints) -> None:
    """Its weights are kept for the backward pass, transposed, but they are there anyway."""
    policy = adapted(checkpoints, "llama").train()
    updater = Updater(policy, Config(), Accelerator(cpu=True))
    batch = updater._collate([updater._idle(prompts(policy, 1)[0])], "rows")
    base = sum(w.nbytes for n, w in policy.named_parameters() if "layers" in n and "lora_" not in n and w.ndim == 2)
    with_weights, without = saved_bytes(lambda: policy(batch)), saved_bytes(lambda: policy(batch), policy.parameters())
    assert 0 < without <= with_weights - base
