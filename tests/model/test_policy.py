"""The policy: prompts with their pictures, a frozen tower, plain folders, clear refusals; test_chat.py has the templates."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import chat_templates as templates
import pytest
import torch
from accelerate import Accelerator
from families import FAMILIES, MERGED, PICTURE_NEEDED, SEEING, VIDEO
from routing import route
from safetensors.torch import load_file, save_file
from tiny import Picture, grads, group, inputs, prompts, row_logprobs, samples, step, words
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

from dyme.config import Config, ModelConfig
from dyme.errors import DataError, ModelError
from dyme.model.loading import resolve
from dyme.model.policy import Policy, Prompt
from dyme.model.vision import TOWERS
from dyme.training.update import Updater
from dyme.types import Sample

Load = Callable[[str], Policy]
PROJECTORS = ("connector", "multi_modal_projector", "embed_vision")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_prompt_holds_its_picture_and_question(family: str, policies: Load) -> None:
    policy = policies(family)
    sample = samples(policy, 1)[0]
    prompt = policy.encode(sample, "Think.")
    assert f"{sample.question} Think." in policy.decode(prompt.token_ids)
    assert bool(prompt.vision) == policy.takes_images
    placeholder = getattr(policy.model.config, "image_token_id", None)
    assert (prompt.token_ids.count(placeholder) >= 4) == policy.takes_images
    if family not in PICTURE_NEEDED:
        assert policy.encode(replace(sample, images=()), "Think.").vision == {}
    assert not {"attention_mask", "input_ids", "labels", "token_type_ids"} & prompt.vision.keys()
    assert policy.encode(sample, "").token_ids != prompt.token_ids


def test_a_text_model_refuses_pictures(policies: Load) -> None:
    sample = Sample(id="row 7", question="?", answer="1", images=(Picture(0),))
    with pytest.raises(DataError, match=r"row 7: has an image, but LlamaForCausalLM reads text only"):
        policies("llama").encode(sample, "Think.")


@pytest.mark.parametrize("family", PICTURE_NEEDED)
def test_a_model_that_needs_a_picture_says_so(family: str, policies: Load) -> None:
    with pytest.raises(DataError, match=r"row 7: PaliGemmaProcessor cannot read the prompt: .*images"):
        policies(family).encode(Sample(id="row 7", question="?", answer="1"), "Think.")


@pytest.mark.parametrize("family", SEEING)
def test_a_frozen_tower_gets_no_gradient_and_the_projector_does(family: str, checkpoints: Callable[[str], Path]) -> None:
    for freeze in (True, False):
        policy = Policy.load(ModelConfig(path=str(checkpoints(family)), freeze_vision=freeze))
        target = policy.target("It is 12. Answer: 7")
        row_logprobs(policy.model, prompts(policy, 1)[0], target).sum().backward()
        got = {name for name, gradient in grads(policy).items() if gradient.any()}
        tower = {name for name in got if any(part in name for part in TOWERS)}
        assert bool(tower) is not freeze
        assert any(part in name for name in got for part in PROJECTORS) or family in MERGED
        assert any("layers.1" in name and name not in tower for name in got)


@pytest.mark.parametrize("family", SEEING)
def test_a_step_moves_the_projector_and_not_the_tower(family: str, checkpoints: Callable[[str], Path]) -> None:
    policy = Policy.load(ModelConfig(path=str(checkpoints(family))))
    before = {name: weight.clone() for name, weight in policy.state_dict().items()}
    sample, config = samples(policy, 1)[0], Config()
    imitating = route(group(sample, [], []), config, "sft")
    step(Updater(policy, config, Accelerator(cpu=True)), prompts(policy, 1), [group(sample, [], [])], [imitating], lr=1e-2)
    moved = {name for name, weight in policy.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved and not any(part in name for name in moved for part in TOWERS)
    assert any(part in name for name in moved for part in PROJECTORS) or family in MERGED


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_folder_loads_with_plain_transformers(family: str, policies: Load, tmp_path: Path) -> None:
    policy = policies(family)
    policy.save(tmp_path, {k: v.clone() for k, v in policy.state_dict().items()})
    assert list(tmp_path.glob("*.safetensors")) and not list(tmp_path.glob("*.bin"))
    loader = AutoModelForImageTextToText if policy.takes_images else AutoModelForCausalLM
    model = loader.from_pretrained(tmp_path).eval()
    prompt = prompts(policy, 1)[0]
    own = inputs(model, prompt)
    with torch.no_grad():
        assert torch.equal(model(**own).logits, policy.eval().model(**own).logits)
    again = Policy.load(ModelConfig(path=str(tmp_path)))
    assert prompts(again, 3)[2].token_ids == prompts(policy, 3)[2].token_ids
    assert (again.eos, again.pad, again.chat.lead) == (policy.eos, policy.pad, policy.chat.lead)
    assert torch.equal(again.forbidden, policy.forbidden)
    if family in VIDEO:  # AutoProcessor itself needs torchvision here; its settings are kept for machines that have it
        assert VIDEO[family] in (tmp_path / "processor_config.json").read_text()
        return
    processor = AutoProcessor.from_pretrained(tmp_path, backend="pil") if policy.takes_images else AutoTokenizer.from_pretrained(tmp_path)
    assert processor.chat_template == policy.processor.chat_template


def test_a_models_own_end_token_wins_over_a_list(checkpoints: Callable[[str], Path]) -> None:
    """Published chat models list several; the one that template and tokenizer agree on ends a turn."""
    model = AutoModelForCausalLM.from_pretrained(checkpoints("llama"))
    tokenizer = AutoTokenizer.from_pretrained(checkpoints("llama"))
    own = tokenizer.eos_token_id
    for listed, expected in (([1, own], own), ([3, 1], own), (None, own), (own, own)):
        model.generation_config.eos_token_id = listed
        assert Policy(model, tokenizer).eos == expected
    model.generation_config.eos_token_id = tokenizer.eos_token = None
    with pytest.raises(ModelError, match="end token"):
        Policy(model, tokenizer)


def folder(tmp_path: Path, source: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "model"))


def test_resolve_takes_folders_runs_and_names(tiny_llama: Path, tmp_path: Path) -> None:
    assert resolve(ModelConfig(path=str(tiny_llama))) == str(tiny_llama)
    assert resolve(ModelConfig(path="HuggingFaceTB/SmolVLM-256M-Instruct")) == "HuggingFaceTB/SmolVLM-256M-Instruct"
    assert (Path(resolve(ModelConfig())) / "config.json").exists()
    run = tmp_path / "run"
    shutil.copytree(tiny_llama, run / "model")
    (run / "config.json").write_text("{}")  # a run folder has a config.json of its own
    assert resolve(ModelConfig(path=str(run))) == str(run / "model")
    (run / "config.json").unlink()
    assert resolve(ModelConfig(path=str(run))) == str(run / "model")


@pytest.mark.parametrize("path", ["/no/such/folder", "nosuchfolder", "./a/b", "a/b/c"])
def test_a_missing_folder(path: str) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        resolve(ModelConfig(path=path))


def without_config(path: Path) -> None:
    (path / "config.json").unlink()


def without_weights(path: Path) -> None:
    (path / "model.safetensors").unlink()


def zero_byte_weights(path: Path) -> None:
    (path / "model.safetensors").write_bytes(b"")


def own_code(path: Path) -> None:
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(settings | {"auto_map": {"AutoConfig": "evil.Config"}}))
    (path / "evil.py").write_text("raise SystemExit('ran')")


def truncated_weights(path: Path) -> None:
    whole = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def misshapen_weights(path: Path) -> None:
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(settings | {"intermediate_size": 48}))


def some_weights(path: Path) -> None:
    weights = load_file(path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


def broken_config(path: Path) -> None:
    (path / "config.json").write_text("{")


def without_template(path: Path) -> None:
    (path / "chat_template.jinja").unlink()


def without_tokenizer(path: Path) -> None:
    for file in path.glob("tokenizer*"):
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_config, "has no config.json"),
        (without_weights, "has no weights"),
        (zero_byte_weights, "has no weights"),
        (own_code, "trust_remote_code"),
        (truncated_weights, "cannot load the model"),
        (misshapen_weights, "cannot load the model"),
        (some_weights, r"lacks 1 of the model's weights \(model.layers.1.mlp.up_proj.weight"),
        (broken_config, "config.json is not valid JSON"),
        (without_template, "no chat template"),
        (without_tokenizer, "cannot load the model"),
    ],
)
def test_folders_that_cannot_be_used(spoil: Callable[[Path], None], message: str, tiny_llama: Path, tmp_path: Path) -> None:
    path = folder(tmp_path, tiny_llama)
    spoil(path)
    with pytest.raises(ModelError, match=message) as caught:
        Policy.load(ModelConfig(path=str(path)))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def older(path: Path, video: bool) -> None:
    """Lay a folder's processor out as before transformers 5: a file for each half, the template as JSON, the class named Fast."""
    nested = json.loads((path / "processor_config.json").read_text())
    halves = {"preprocessor_config.json": nested.pop("image_processor"), "video_preprocessor_config.json": nested.pop("video_processor")}
    halves["preprocessor_config.json"] |= {"processor_class": nested["processor_class"]}
    halves["preprocessor_config.json"]["image_processor_type"] = halves["preprocessor_config.json"]["image_processor_type"] + "Fast"
    if not video:
        del halves["video_preprocessor_config.json"]
    for name, settings in halves.items():
        (path / name).write_text(json.dumps(settings))
    template = path / "chat_template.jinja"
    (path / "chat_template.json").write_text(json.dumps({"chat_template": template.read_text()}))
    template.unlink()
    file = path / "processor_config.json"
    if video:
        file.write_text(json.dumps(nested))
    else:
        file.unlink()  # Qwen2-VL has none


@pytest.mark.parametrize(("family", "video"), [("internvl", True), ("qwen3_vl", True), ("qwen2_vl", False), ("qwen2_5_vl", False)])
def test_folders_from_before_transformers_5(
    family: str, video: bool, policies: Load, checkpoints: Callable[[str], Path], tmp_path: Path
) -> None:
    path = folder(tmp_path, checkpoints(family))
    older(path, video)
    policy = Policy.load(ModelConfig(path=str(path)))
    for one, other in zip(prompts(policy, 3), prompts(policies(family), 3), strict=True):
        assert (one.token_ids, one.images) == (other.token_ids, other.images)
    policy.save(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "processor_config.json").read_text())["video_processor"]
    kind = saved.get("video_processor_type") or saved["image_processor_type"].replace("Image", "Video")
    assert kind.removesuffix("Fast") == VIDEO[family], "a machine with torchvision finds its video half"
    assert prompts(Policy.load(ModelConfig(path=str(tmp_path / "again"))), 1)[0].images == prompts(policy, 1)[0].images


def test_a_processor_without_its_picture_half(tiny_llava: Path, tmp_path: Path) -> None:
    path = folder(tmp_path, tiny_llava)
    (path / "processor_config.json").unlink()
    with pytest.raises(ModelError, match="cannot load the model"):
        Policy.load(ModelConfig(path=str(path)))


def test_the_template_decides_the_context(tiny_llava: Path, tmp_path: Path) -> None:
    """A folder's own chat template is used as it is, and nothing is added to it."""
    path = folder(tmp_path, tiny_llava)
    (path / "chat_template.jinja").write_text(templates.LLAVA.replace("ASSISTANT:", "REPLY:"))
    policy = Policy.load(ModelConfig(path=str(path)))
    text = policy.tokenizer.decode(prompts(policy, 1)[0].token_ids)
    assert text.endswith("Think. REPLY:") and text.startswith("<s>USER: <image>")


def test_words_are_drawn_from_what_may_be_sampled(policies: Load) -> None:
    policy = policies("idefics3")
    drawn = words(policy, 50, random.Random(0))
    assert drawn[-1] == policy.eos and not policy.forbidden[list(drawn)].any()
    assert isinstance(Prompt(token_ids=drawn, vision={}).token_ids, tuple)
