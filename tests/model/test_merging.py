"""Adapters of every kind that peft writes: exported, they answer as they did beside their base, or they are refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from families import SEEING
from packaging.version import Version
from peft import get_peft_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from dyme.config import ModelConfig
from dyme.errors import ModelError
from dyme.model import adapters
from dyme.model.policy import Policy
from dyme.publishing.export import logits, write

Checkpoints = Callable[[str], Path]
PLAIN, EMBEDDED = ["q_proj", "v_proj", "down_proj"], ["q_proj", "embed_tokens"]

LORA: dict[str, dict[str, Any]] = {
    "plain": {},
    "rank-stabilised": {"use_rslora": True},
    "dora": {"use_dora": True},
    "all linear": {"target_modules": "all-linear"},
    "ranks by layer": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 32}},
    "one layer": {"layers_to_transform": [1]},
    "layers excluded": {"exclude_modules": ["v_proj"]},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "embeddings saved": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "one tied embedding saved": {"modules_to_save": ["embed_tokens"]},
    "head saved": {"modules_to_save": ["lm_head"]},
    "norms saved": {"modules_to_save": ["norm", "post_attention_layernorm"]},
    "tokens": {"trainable_token_indices": [1, 2, 30]},
    "beside the tied embedding": {"target_modules": EMBEDDED},
    "beside the tied head": {"target_modules": ["q_proj", "lm_head"]},
    "beside both": {"target_modules": [*EMBEDDED, "lm_head"]},
    "biases": {"bias": "all"},
    "own biases": {"lora_bias": True, "target_modules": ["q_proj", "k_proj"]},
    "transposed by mistake": {"fan_in_fan_out": True},
    "parameters": {"target_modules": [], "target_parameters": ["q_proj.weight"]},
    "pissa": {"init_lora_weights": "pissa"},
    "olora": {"init_lora_weights": "olora"},
}
"""Kinds of LoRA, by settings."""
OTHERS: dict[str, dict[str, Any]] = {
    "ADALORA": {"init_r": 4, "target_r": 2, "total_step": 10}, "LOHA": {"r": 4}, "LOKR": {"r": 4}, "OFT": {"oft_block_size": 4},
    "BOFT": {"boft_block_size": 4}, "IA3": {"target_modules": ["k_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    "VERA": {"r": 4, "target_modules": ["q_proj", "o_proj"]}, "FOURIERFT": {"n_frequency": 50}, "HRA": {"r": 4}, "MISS": {"r": 4},
    "LN_TUNING": {"target_modules": ["input_layernorm", "norm"]}, "TRAINABLE_TOKENS": {"token_indices": [1, 2], "target_modules": None},
    "C3A": {"block_size": 8}, "SHIRA": {"r": 2}, "ROAD": {"group_size": 8}, "VBLORA": {"vector_length": 8, "r": 2, "num_vectors": 16},
    "WAVEFT": {"n_frequency": 50}, "RANDLORA": {"r": 4}, "DELORA": {}, "GRALORA": {}, "OSF": {}, "HIRA": {"r": 4}, "BONE": {"r": 4},
    "PSOFT": {"r": 4}, "TINYLORA": {}, "UNILORA": {}, "PVERA": {}, "GLORA": {}, "FROD": {}, "DEFT": {}, "PEANUT": {}, "SUPERTUNING": {},
}  # fmt: skip
"""Other kinds that change weights."""
REFUSED: dict[str, dict[str, Any]] = {
    "PROMPT_TUNING": {"num_virtual_tokens": 4}, "PREFIX_TUNING": {"num_virtual_tokens": 4}, "CPT": {},
    "P_TUNING": {"num_virtual_tokens": 4, "encoder_hidden_size": 16}, "ADAPTION_PROMPT": {"adapter_len": 4, "adapter_layers": 1},
}  # fmt: skip
"""Kinds that change no weights."""


def lora(**settings: Any) -> Any:
    return peft.LoraConfig(**{"r": 4, "lora_alpha": 8, "target_modules": PLAIN} | settings)


def kind(name: str, **settings: Any) -> Any:
    """Settings of another kind; the test is left out where this peft does not know it."""
    known = {str(getattr(key, "value", key)): value for key, value in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    if name not in known:
        pytest.skip(f"peft {peft.__version__} does not know {name}")
    return known[name](**{"task_type": "CAUSAL_LM"} | settings)


def adapter(base: Path, folder: Path, shape: Any, rows: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Write an adapter with random weights as peft does; what its base says, and what it says beside it."""
    torch.manual_seed(0)
    policy = Policy.load(ModelConfig(path=str(base)))
    plain = logits(policy)
    if rows:
        policy.model.resize_token_embeddings(rows)
    beside = get_peft_model(policy.model, shape)
    with torch.no_grad():
        for weight in beside.parameters():
            if weight.requires_grad:
                weight.add_(0.1 * torch.randn_like(weight))
    beside.save_pretrained(str(folder))
    change(folder, base_model_name_or_path=str(base))
    return plain, logits(policy)


def change(folder: Path, **settings: Any) -> None:
    file = folder / adapters.SETTINGS
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def exported(folder: Path, out: Path) -> torch.Tensor:
    """What plain transformers says of the exported adapter."""
    assert write(ModelConfig(path=str(folder)), out, torch.float32)
    assert not (out / adapters.SETTINGS).exists()
    policy = Policy.load(ModelConfig(path=str(out)))
    loader = AutoModelForImageTextToText if policy.takes_images else AutoModelForCausalLM
    policy.model = loader.from_pretrained(out, dtype="float32")
    return logits(policy)


def same(found: torch.Tensor, expected: torch.Tensor, plain: torch.Tensor) -> None:
    assert not torch.allclose(plain, expected[..., : plain.shape[-1]], atol=1e-2), "the adapter must matter"
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("name", LORA)
def test_kinds_of_lora(name: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    base = checkpoints("qwen2" if "biases" in name else "llama")
    plain, expected = adapter(base, tmp_path / "a", lora(**LORA[name]))
    same(exported(tmp_path / "a", tmp_path / "out"), expected, plain)


@pytest.mark.parametrize("name", OTHERS)
def test_other_kinds(name: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    plain, expected = adapter(checkpoints("llama"), tmp_path / "a", kind(name, **{"target_modules": PLAIN} | OTHERS[name]))
    if name.endswith("VERA") and Version(peft.__version__) < Version("0.21"):  # which itself passes over what it wrote
        refused(tmp_path, r"names differ \(base_model\.p?vera_A.*peft before 0.21 passes over")
        return
    same(exported(tmp_path / "a", tmp_path / "out"), expected, plain)


def test_vera_whose_names_differ_says_which_peft_reads_it(checkpoints: Checkpoints, tmp_path: Path) -> None:
    adapter(checkpoints("llama"), tmp_path / "a", kind("VERA", **{"target_modules": PLAIN} | OTHERS["VERA"]))
    file = tmp_path / "a" / adapters.WEIGHTS
    save_file({f"{name}_of_old" if "lambda" in name else name: value for name, value in load_file(file).items()}, file)
    refused(tmp_path, "names differ .*; peft before 0.21 passes over a part of what VeRA saves, and this is peft")


@pytest.mark.parametrize("name", REFUSED)
def test_kinds_that_change_no_weights(name: str, checkpoints: Checkpoints, tmp_path: Path) -> None:
    adapter(checkpoints("llama"), tmp_path / "a", kind(name, **REFUSED[name]))
    refused(tmp_path, rf"holds an adapter of type {name}, which is no change of weights and cannot be merged")


def refused(folder: Path, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        write(ModelConfig(path=str(folder / "a")), folder / "out", torch.float32)
    assert "\n" not in str(caught.value)
    assert not (folder / "out").exists() and not list(folder.glob(".*")), "nothing is left"


@pytest.mark.parametrize(("family", "settings"), [
    ("idefics3", {"modules_to_save": ["embed_tokens", "lm_head", "connector"]}), ("qwen2_5_vl", {"modules_to_save": ["merger"]}),
    ("llava", {"modules_to_save": ["multi_modal_projector"]}), ("idefics3", {"target_modules": [*EMBEDDED, "lm_head"]}),
])  # fmt: skip
def test_models_that_see(family: str, settings: dict[str, Any], checkpoints: Checkpoints, tmp_path: Path) -> None:
    plain, expected = adapter(checkpoints(family), tmp_path / "a", lora(**settings))
    assert family in SEEING
    same(exported(tmp_path / "a", tmp_path / "out"), expected, plain)


def test_embeddings_with_more_rows(checkpoints: Checkpoints, tmp_path: Path) -> None:
    rows = AutoModelForCausalLM.from_pretrained(checkpoints("llama")).vocab_size + 5
    plain, expected = adapter(checkpoints("llama"), tmp_path / "a", lora(modules_to_save=["embed_tokens", "lm_head"]), rows)
    same(exported(tmp_path / "a", tmp_path / "out"), expected, plain)
    assert expected.shape[-1] == rows


def test_names_of_earlier_transformers(checkpoints: Checkpoints, tmp_path: Path) -> None:
    plain, expected = adapter(checkpoints("qwen2_vl"), tmp_path / "a", lora(target_modules=["q_proj", "up_proj"]))
    file = tmp_path / "a" / adapters.WEIGHTS
    weights = {name.replace("model.language_model.layers", "model.layers"): value for name, value in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})
    same(exported(tmp_path / "a", tmp_path / "out"), expected, plain)


def test_an_adapter_upon_an_adapter(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """One of another kind below plain LoRA, which can be trained on; and the other way round."""
    adapter(checkpoints("llama"), tmp_path / "below", kind("IA3", **OTHERS["IA3"]))
    plain, expected = adapter(tmp_path / "below", tmp_path / "a", lora())
    policy = Policy.load(ModelConfig(path=str(tmp_path / "a")))
    assert adapters.rank(policy.model) == 4 and torch.allclose(logits(policy), expected, atol=1e-4)
    same(exported(tmp_path / "a", tmp_path / "out"), expected, plain)
    fresh = Policy.load(ModelConfig(path=str(tmp_path / "below"), lora_rank=2))
    fresh.save(tmp_path / "new")
    assert adapters.base_of(tmp_path / "new") == str(tmp_path / "below")
    assert torch.equal(logits(Policy.load(ModelConfig(path=str(tmp_path / "new")))), logits(fresh))


def test_what_cannot_be_merged_rightly_is_refused_by_name(checkpoints: Checkpoints, tmp_path: Path) -> None:
    adapter(checkpoints("llama"), tmp_path / "a", lora(modules_to_save=["norm"]))
    settings, weights = (tmp_path / "a" / name for name in (adapters.SETTINGS, adapters.WEIGHTS))
    whole, held = settings.read_text(), weights.read_bytes()
    for changed, match in [
        ({"init_lora_weights": "pissa_niter_4"}, "began as pissa_niter_4, which changed its base"),
        ({"init_lora_weights": "loftq"}, "began as loftq, which changed its base"),
        ({"init_lora_weights": "corda"}, "began as corda, which changed its base"),
        ({"layer_replication": [[0, 2], [1, 2]]}, r"repeats layers of its base \(layer_replication\)"),
        ({"alora_invocation_tokens": [5, 6]}, "of type LORA cannot be merged"),
        ({"peft_type": "NEWER"}, "holds an adapter of type NEWER, which peft .* does not know"),
        ({"use_something_new": True}, r"has settings that peft .* does not know \(use_something_new\); take a later one"),
        ({"modules_to_save": ["norm", "lm_head"]}, "does not fit its base"),
        ({"base_model_name_or_path": str(tmp_path / "a")}, "names its own folder as its base"),
        (
            {"base_model_name_or_path": "/gone"},
            "has no base: /gone: no such folder.*base_model_name_or_path in adapter_config.json names it",
        ),
    ]:
        settings.write_text(json.dumps(json.loads(whole) | changed))
        refused(tmp_path, match)
    settings.write_text("[1]")
    refused(tmp_path, "holds no settings")
    settings.write_text(whole)
    for damage in (held[:-9], b"no tensors", held[:8]):
        weights.write_bytes(damage)
        refused(tmp_path, "adapter_model.safetensors cannot be read")
    weights.write_bytes(held)
    save_file({name: torch.full_like(value, torch.nan) for name, value in load_file(weights).items()}, weights)
    refused(tmp_path, "cannot be merged: the logits then differ by nan")


def test_peft_saves_no_tokenizer(checkpoints: Checkpoints, tmp_path: Path) -> None:
    """The base's processor serves then, with a picture's half too where only a tokenizer was saved."""
    for family in ("llama", "idefics3"):
        adapter(checkpoints(family), tmp_path / family, lora())
        assert not list((tmp_path / family).glob("*token*"))
        policy = Policy.load(ModelConfig(path=str(tmp_path / family)))
        policy.tokenizer.save_pretrained(tmp_path / family)
        assert Policy.load(ModelConfig(path=str(tmp_path / family))).takes_images == (family == "idefics3")


def test_an_export_that_reads_back_otherwise_leaves_nothing(
    checkpoints: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter(checkpoints("llama"), tmp_path / "a", lora())
    save = Policy.save

    def wrong(policy: Policy, folder: Path) -> None:
        policy.model.lm_head.weight.data += 0.1
        save(policy, folder)

    monkeypatch.setattr(Policy, "save", wrong)
    refused(tmp_path, "cannot be written as a plain checkpoint: read back, its logits differ by")
