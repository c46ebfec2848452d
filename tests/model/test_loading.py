"""Checkpoints of other kinds: GGUF files, adapters, runs; what they load to and what cannot be opened."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from tiny import samples
from transformers import AutoModelForCausalLM, AutoTokenizer

from dyme.config import ModelConfig, RolloutConfig
from dyme.errors import ModelError
from dyme.model import adapters, loading
from dyme.model.policy import Policy
from dyme.rollout import hf

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def paired(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of queries or keys in the order of llama.cpp: the two halves of a rotary head interleaved."""
    split = weight.reshape(heads, 2, weight.shape[0] // heads // 2, weight.shape[1])
    return np.ascontiguousarray(split.swapaxes(1, 2).reshape(weight.shape))


def write_gguf(source: Path, file: Path) -> None:
    """A llama checkpoint as llama.cpp's converter writes it, in float32."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(source), AutoTokenizer.from_pretrained(source)
    c, out = model.config, gguf.GGUFWriter(str(file), "llama")
    out.add_block_count(c.num_hidden_layers)
    out.add_context_length(c.max_position_embeddings)
    out.add_embedding_length(c.hidden_size)
    out.add_feed_forward_length(c.intermediate_size)
    out.add_head_count(c.num_attention_heads)
    out.add_head_count_kv(c.num_key_value_heads)
    out.add_key_length(c.head_dim)
    out.add_value_length(c.head_dim)
    out.add_rope_dimension_count(c.head_dim)
    out.add_layer_norm_rms_eps(c.rms_norm_eps)
    out.add_rope_freq_base(c.rope_parameters["rope_theta"])
    out.add_vocab_size(c.vocab_size)
    tokens = [
        *sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get),
        *(f"<unused{k}>" for k in range(c.vocab_size - len(tokenizer))),
    ]
    special = {t.content for t in tokenizer.added_tokens_decoder.values()}
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("smollm")
    out.add_token_list(tokens)
    out.add_token_types([3 if token in special else 1 for token in tokens])
    out.add_token_merges([" ".join(pair) for pair in merges(tokenizer)])
    out.add_bos_token_id(tokenizer.bos_token_id)
    out.add_eos_token_id(tokenizer.eos_token_id)
    out.add_pad_token_id(tokenizer.pad_token_id)
    out.add_chat_template(tokenizer.chat_template)
    for name, tensor in model.state_dict().items():
        weight = tensor.numpy()
        if "q_proj" in name or "k_proj" in name:
            weight = paired(weight, c.num_attention_heads if "q_proj" in name else c.num_key_value_heads)
        if (place := gguf_name(name)) is not None:
            out.add_tensor(place, weight)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def merges(tokenizer: Any) -> list[tuple[str, str]]:
    return [tuple(pair) for pair in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]]


def gguf_name(name: str) -> str | None:
    """Of the tied head there is one copy."""
    outer = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight", "lm_head.weight": None}
    if name in outer:
        return outer[name]
    _, _, layer, *inner = name.split(".")
    return f"blk.{layer}.{NAMES['.'.join(inner[:-1])]}.weight"


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, checkpoints: Callable[[str], Path]) -> Path:
    """A folder with one GGUF file."""
    folder = tmp_path_factory.mktemp("gguf")
    write_gguf(checkpoints("llama"), folder / "tiny.gguf")
    return folder


def logits(policy: Policy, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = policy.eval().model(input_ids=torch.tensor([ids])).logits
    return out


@pytest.mark.parametrize("name", ["", "tiny.gguf"])
def test_a_gguf_file_is_the_model_it_was_made_of(name: str, packed: Path, policies: Callable[[str], Policy], tmp_path: Path) -> None:
    plain, policy = policies("llama"), Policy.load(ModelConfig(path=str(packed / name)))
    ids = list(plain.encode(samples(plain, 1)[0], "Think.").token_ids)
    assert torch.allclose(logits(policy, ids), logits(plain, ids), atol=1e-5)
    assert policy.tokenizer.convert_ids_to_tokens(policy.eos) == "<|eot_id|>" and policy.chat.lead == ""
    prompt = policy.encode(samples(plain, 1)[0], "Think.")
    assert policy.tokenizer.decode(prompt.token_ids) == plain.tokenizer.decode(ids)
    policy.save(tmp_path)
    again = Policy.load(ModelConfig(path=str(tmp_path)))
    assert (tmp_path / "model.safetensors").exists() and torch.equal(logits(again, ids), logits(policy, ids))
    assert again.encode(samples(plain, 1)[0], "Think.") == prompt
    assert torch.equal(logits_of(tmp_path, ids), logits(policy, ids)), "in plain transformers"


def logits_of(folder: Path, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        out: torch.Tensor = AutoModelForCausalLM.from_pretrained(folder).eval()(input_ids=torch.tensor([ids])).logits
    return out


def test_a_gguf_file_trains_and_gets_adapters(packed: Path, tmp_path: Path) -> None:
    policy = Policy.load(ModelConfig(path=str(packed), lora_rank=2), torch.bfloat16)
    asked = [policy.encode(sample, "Think.") for sample in samples(policy, 2)]
    assert len(hf.sample(policy, asked, [0, 1], RolloutConfig(max_completion_length=3))) == 2
    policy.save(tmp_path)
    assert adapters.base_of(tmp_path) == str(packed / "tiny.gguf")
    again = Policy.load(ModelConfig(path=str(tmp_path)), torch.bfloat16)
    assert torch.equal(logits(again, list(asked[0].token_ids)), logits(policy, list(asked[0].token_ids)))


def test_files_that_cannot_be_opened(packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path, match: str) -> None:
        with pytest.raises(ModelError, match=match) as caught:
            Policy.load(ModelConfig(path=str(path)))
        assert "\n" not in str(caught.value)

    (tmp_path / "minicpm").mkdir()
    shutil.copy(packed / "tiny.gguf", tmp_path / "minicpm" / "model.safetensors")
    (tmp_path / "minicpm" / "config.json").write_text(json.dumps({"model_type": "minicpmv4_6"}))
    refused(tmp_path / "minicpm", "minicpm: MiniCPM-V packs all pictures of a batch into one tensor")
    for name in ("a.gguf", "b.gguf"):
        shutil.copy(packed / "tiny.gguf", tmp_path / name)
    refused(tmp_path, r"has 2 GGUF files; give the path of one, e\.g\. .*a\.gguf")
    (tmp_path / "notes.txt").write_text("x")
    refused(tmp_path / "notes.txt", r"is a file; give a folder, a \*\.gguf file, a hub id")
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    refused(tmp_path / "a.gguf", "cannot load the model")
    find = loading.importlib.util.find_spec
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None if name == "gguf" else find(name))
    refused(packed, r"reading GGUF takes another package: pip install 'dyme\[gguf\]'")
