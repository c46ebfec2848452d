"""Ways in which a checkpoint's folder can be damaged: a name, and what it does to the folder."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[Path], object]


def config(**changed: Any) -> Damage:
    """Other values in config.json; None takes the key out."""
    return in_json("config.json", **changed)


def in_json(name: str, **changed: Any) -> Damage:
    def damage(folder: Path) -> None:
        whole = json.loads((folder / name).read_text()) | changed
        (folder / name).write_text(json.dumps({key: value for key, value in whole.items() if value is not None}))

    return damage


def inside(part: str, **changed: Any) -> Damage:
    """Other values in a part of config.json."""

    def damage(folder: Path) -> None:
        whole = json.loads((folder / "config.json").read_text())
        whole[part] |= changed
        (folder / "config.json").write_text(json.dumps(whole))

    return damage


def whole(name: str, content: str | bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def gone(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def cut(name: str, share: float) -> Damage:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: int(share * len(content))])

    return damage


def header(change: Callable[[dict[str, Any]], None]) -> Damage:
    """Another header of the weights, of the right length."""

    def damage(folder: Path) -> None:
        file = folder / "model.safetensors"
        content = file.read_bytes()
        size = struct.unpack("<Q", content[:8])[0]
        told = json.loads(content[8 : 8 + size])
        change(told)
        new = json.dumps(told).encode()
        file.write_bytes(struct.pack("<Q", len(new)) + new + content[8 + size :])

    return damage


def of_first(**changed: Any) -> Damage:
    def change(told: dict[str, Any]) -> None:
        told[next(name for name in told if name != "__metadata__")] |= changed

    return header(change)


def pickled(value: object) -> Damage:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(value if isinstance(value, bytes) else pickle.dumps(value))

    return damage


def sharded(**index: Any) -> Damage:
    def damage(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    return damage


W = "model.safetensors"
DAMAGES: dict[str, Damage] = {
    "config is empty": whole("config.json", ""),
    "config is cut": cut("config.json", 0.5),
    "config is a list": whole("config.json", "[]"),
    "config is null": whole("config.json", "null"),
    "config is a number": whole("config.json", "3"),
    "config is no text": whole("config.json", b"\xff\xfe\x00"),
    "config is gone": gone("config.json"),
    "config is deep": whole("config.json", "[" * 9000),
    "config says nothing": whole("config.json", "{}"),
    "no model type": config(model_type=None),
    "another model type": config(model_type="bert"),
    "an unknown one": config(model_type="zzz"),
    "model type is a number": config(model_type=7),
    "model type is a list": config(model_type=["llama"]),
    "hidden size is a text": config(hidden_size="many"),
    "hidden size is zero": config(hidden_size=0),
    "hidden size is negative": config(hidden_size=-8),
    "hidden size is null": config(hidden_size=None, head_dim=None),
    "hidden size is a list": config(hidden_size=[32]),
    "hidden size is half": config(hidden_size=16),
    "hidden size is odd": config(hidden_size=33),
    "no heads": config(num_attention_heads=0),
    "heads are a text": config(num_attention_heads="4"),
    "three heads": config(num_attention_heads=3),
    "no key heads": config(num_key_value_heads=0),
    "three key heads": config(num_key_value_heads=3),
    "no head width": config(head_dim=0),
    "no layers": config(num_hidden_layers=0),
    "more layers": config(num_hidden_layers=9),
    "layers are null": config(num_hidden_layers=None),
    "layers are many": config(num_hidden_layers="two"),
    "vocabulary is zero": config(vocab_size=0),
    "vocabulary is small": config(vocab_size=9),
    "vocabulary is a text": config(vocab_size="x"),
    "vocabulary is huge": config(vocab_size=10**12),
    "no activation": config(hidden_act="zzz"),
    "activation is a number": config(hidden_act=1),
    "rope is a text": config(rope_parameters="x"),
    "rope is empty": config(rope_parameters={}),
    "rope is unknown": config(rope_parameters={"rope_type": "zzz", "rope_theta": 1e4}),
    "positions are zero": config(max_position_embeddings=0),
    "positions are a text": config(max_position_embeddings="x"),
    "dtype is unknown": config(dtype="float99"),
    "dtype is a number": config(dtype=4),
    "quantized by nobody": config(quantization_config={"x": 1}),
    "quantization is a text": config(quantization_config="x"),
    "architectures are a text": config(architectures="x"),
    "norm is a text": config(rms_norm_eps="x"),
    "pad is a text": config(pad_token_id="x"),
    "own code": config(auto_map={"AutoModel": "a.B"}),
    "weights are gone": gone(W),
    "weights are empty": whole(W, b""),
    "weights are text": whole(W, "not weights at all, only words"),
    "weights are zeros": whole(W, bytes(4096)),
    "weights are cut at half": cut(W, 0.5),
    "weights lack the last byte": cut(W, 0.99999),
    "weights end in the header": cut(W, 0.001),
    "header length is huge": whole(W, struct.pack("<Q", 2**63) + b"{}"),
    "header is a list": whole(W, struct.pack("<Q", 2) + b"[]"),
    "header is no text": whole(W, struct.pack("<Q", 4) + b"\xff\xff\xff\xff"),
    "header says nothing": header(lambda told: told.clear()),
    "shape lies": of_first(shape=[1, 1]),
    "shape is negative": of_first(shape=[-4, 4]),
    "shape is a text": of_first(shape="x"),
    "shape is huge": of_first(shape=[2**40, 2**40]),
    "offsets lie": of_first(data_offsets=[0, 2**50]),
    "offsets are turned round": of_first(data_offsets=[64, 0]),
    "kind is unknown": of_first(dtype="Q7"),
    "kind is another": of_first(dtype="I32"),
    "one weight is gone": header(lambda told: told.pop("model.norm.weight", None)),
    "pickle of a number": pickled(3),
    "pickle of nothing": pickled(None),
    "pickle of a list": pickled([1]),
    "pickle is cut": pickled(b"\x80\x04"),
    "pickle is text": pickled(b"not a pickle"),
    "pickle of a call": pickled(b"cos\nsystem\n(S'true'\ntR."),
    "pickle of texts": pickled({"a": "b"}),
    "index is empty": sharded(),
    "index maps nothing": sharded(weight_map={}, metadata={}),
    "index is a list": sharded(weight_map=[1]),
    "index names another file": sharded(weight_map={"lm_head.weight": "model-00002-of-00002.safetensors"}, metadata={}),
    "index points out": sharded(weight_map={"lm_head.weight": "../../x.safetensors"}, metadata={}),
    "tokenizer is cut": cut("tokenizer.json", 0.5),
    "tokenizer is empty": whole("tokenizer.json", ""),
    "tokenizer is {}": whole("tokenizer.json", "{}"),
    "tokenizer is null": whole("tokenizer.json", "null"),
    "tokenizer is gone": gone("tokenizer.json"),
    "tokenizer settings are a list": whole("tokenizer_config.json", "[]"),
    "tokenizer settings are cut": cut("tokenizer_config.json", 0.5),
    "tokenizer is of no class": in_json("tokenizer_config.json", tokenizer_class="Zzz"),
    "end is no token": in_json("tokenizer_config.json", eos_token="<nowhere>"),
    "end is a number": in_json("tokenizer_config.json", eos_token=3),
    "template is empty": whole("chat_template.jinja", ""),
    "template is open": whole("chat_template.jinja", "{% for m in"),
    "template is no text": whole("chat_template.jinja", b"\xff\xfe"),
    "template divides": whole("chat_template.jinja", "{{ 1 / 0 }}"),
    "template asks for more": whole("chat_template.jinja", "{{ messages[9].content.x }}"),
    "template adds": whole("chat_template.jinja", "{{ messages + 1 }}"),
    "generation settings are cut": cut("generation_config.json", 0.5),
    "generation settings are a list": whole("generation_config.json", "[]"),
    "end ids are a text": in_json("generation_config.json", eos_token_id="x"),
    "end id is beyond": in_json("generation_config.json", eos_token_id=10**9),
    "end id is negative": in_json("generation_config.json", eos_token_id=-5),
    "end ids are empty": in_json("generation_config.json", eos_token_id=[]),
}
"""Of a text model's checkpoint."""
SEEING: dict[str, Damage] = {
    "no text config": config(text_config=None),
    "text config is {}": config(text_config={}),
    "text config is a text": config(text_config="x"),
    "text config is a list": config(text_config=[]),
    "no vision config": config(vision_config=None),
    "vision config is {}": config(vision_config={}),
    "vision config is a number": config(vision_config=3),
    "text config is huge": inside("text_config", hidden_size=2**20),
    "no heads in the tower": inside("vision_config", num_attention_heads=0),
    "patches of nothing": inside("vision_config", patch_size=0),
    "scale of nothing": config(scale_factor=0),
    "picture token is a text": config(image_token_id="x"),
    "picture token is beyond": config(image_token_id=10**9),
    "processor is cut": cut("processor_config.json", 0.5),
    "processor is a list": whole("processor_config.json", "[]"),
    "processor is of no class": in_json("processor_config.json", processor_class="Zzz"),
    "processor is gone": gone("processor_config.json"),
    "processor says nothing": whole("processor_config.json", "{}"),
}
"""Of a checkpoint that sees."""
