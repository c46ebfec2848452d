"""One prompt for every purpose, in every family: what SFT, rollouts and evaluation see is what plain transformers makes of it."""

from __future__ import annotations

import copy
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import chat_templates as templates
import pytest
import torch
from accelerate import Accelerator
from families import FAMILIES, TREES
from family_parts import tokenizer_with
from routing import route
from tiny import group, samples, step
from transformers import AutoTokenizer

from dyme.config import Config, ModelConfig, RolloutConfig, TaskConfig
from dyme.errors import ConfigError, DataError, ModelError
from dyme.evaluation import run as evaluate
from dyme.model.chat import Chat
from dyme.model.policy import Policy
from dyme.recipe import build
from dyme.rollout import hf
from dyme.training.update import Updater
from dyme.types import Completion, Sample

Load = Callable[[str], Policy]
DATE = "26 Jul 2024"
THINK, DIRECT = "Think step by step, then write Answer:", "Answer briefly."
CONFIG = Config(task=TaskConfig(think_prompt=THINK, direct_prompt=DIRECT), rollout=RolloutConfig(max_completion_length=2))
TEXTS = ["It is 12. Answer: 7", "7", "So, 1/2!"]


class Seen:
    """The token rows and the pixels that reach the model while this is open; none are thinned out after the tower has seen them."""

    def __init__(self, policy: Policy) -> None:
        self.policy, self.rows, self.vision = policy, list[list[int]](), list[dict[str, torch.Tensor]]()

    def __enter__(self) -> Seen:
        self.handle = self.policy.model.base_model.register_forward_pre_hook(self._look, with_kwargs=True)
        self.policy.tower.thin = list  # type: ignore[method-assign]
        return self

    def __exit__(self, *error: object) -> None:
        self.handle.remove()
        del self.policy.tower.thin

    def _look(self, module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self.rows.append(kwargs["input_ids"][0].tolist())
        self.vision.append({k: v for k, v in kwargs.items() if k.startswith(("pixel", "image")) and v is not None})


def plain(policy: Policy, sample: Sample, instruction: str, answer: str | None = None) -> list[int]:
    """Token ids by transformers alone: `apply_chat_template` on the messages, pictures included."""
    said: Any = f"{sample.question} {instruction}"
    pictures = [{"type": "image", "image": image.load()} for image in sample.images]
    told: list[Any] = [{"role": "user", "content": [*pictures, {"type": "text", "text": said}] if policy.takes_images else said}]
    if answer is not None:
        told.append({"role": "assistant", "content": [{"type": "text", "text": answer}] if policy.takes_images else answer})
    options = {"enable_thinking": False, "date_string": DATE}
    options = {k: v for k, v in options.items() if k in policy.processor.chat_template}
    out = policy.processor.apply_chat_template(told, tokenize=True, add_generation_prompt=answer is None, return_dict=True, **options)
    ids = out["input_ids"]
    return list(ids[0] if isinstance(ids[0], list) else ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_sft_rollout_and_evaluation_see_what_plain_transformers_makes(family: str, policies: Load) -> None:
    """Tokens and pixels of one sample as they reach the model; the reference code shows SFT another context."""
    policy = policies(family)
    sample = samples(policy, 1)[0]
    prompt = policy.encode(sample, THINK)
    with Seen(policy) as rollout:
        hf.sample(policy, [prompt], [0], CONFIG.rollout)
    with Seen(policy) as thinking:
        evaluate.answer(policy, [sample], CONFIG, CONFIG.task.think_prompt)
    with Seen(policy) as direct:
        evaluate.answer(policy, [sample], CONFIG, CONFIG.task.direct_prompt)
    with Seen(policy) as sft:
        imitating = route(group(sample, [], []), CONFIG, "sft")
        step(Updater(policy, CONFIG, Accelerator(cpu=True)), [prompt], [group(sample, [], [])], [imitating])
    assert rollout.rows[0] == thinking.rows[0] == list(prompt.token_ids) == plain(policy, sample, THINK)
    assert direct.rows[0] == list(policy.encode(sample, DIRECT).token_ids) == plain(policy, sample, DIRECT)
    last = -1 if family in TREES else -2  # behind a cached trunk, the target is the pass after it
    assert sum(sft.rows[last:], []) == [*prompt.token_ids, *policy.target("It is . Answer: 0")[:-1]], "after the first batch's check"
    for name, pixels in prompt.vision.items():
        for seen in (rollout.vision[0], thinking.vision[0], direct.vision[0], sft.vision[last]):
            assert name not in seen or torch.equal(seen[name], pixels), name


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("text", TEXTS)
def test_a_target_is_what_a_whole_conversation_has_after_the_prompt(family: str, text: str, policies: Load) -> None:
    policy = policies(family)
    sample = samples(policy, 1)[0]
    prompt, target = policy.encode(sample, THINK), policy.target(text)
    if family == "paligemma":  # its processor, not its template, knows what follows a prompt
        told = policy.chat.prompt(f"{sample.question} {THINK}", 1)
        pictures = [image.load() for image in sample.images]
        whole = policy.processor(text=[told], images=[pictures], suffix=[text], return_tensors="pt")["input_ids"][0].tolist()
    else:
        whole = plain(policy, sample, THINK, text)
    both = [*prompt.token_ids, *target]
    if family == "llava_onevision":  # its template has a blank before an answer's line that its generation prompt lacks
        blank = policy.tokenizer(" ", add_special_tokens=False)["input_ids"]
        at = len(prompt.token_ids) - 1  # before the line end
        assert whole[at : at + 1] == blank
        whole = whole[:at] + whole[at + 1 :]
    assert whole[: len(both)] == both, "end token included"
    assert not policy.tokenizer.decode(whole[len(both) :]).strip(), "nothing but a line end follows"
    assert target[-1] == policy.eos == policy.tokenizer.eos_token_id
    assert policy.decode(target).strip() == text


ENDS = {
    "idefics3": "<end_of_utterance>", "smolvlm": "<end_of_utterance>", "llava": "<eos>", "llava_onevision": "<|im_end|>",
    "internvl": "<|im_end|>", "qwen2_vl": "<|im_end|>", "qwen2_5_vl": "<|im_end|>", "qwen3_vl": "<|im_end|>", "paligemma": "<eos>",
    "gemma3": "<end_of_turn>", "lfm2_vl": "<|im_end|>", "llama": "<|eot_id|>", "qwen2": "<|im_end|>", "qwen3": "<|im_end|>",
    "qwen3_5": "<|im_end|>", "lfm3_vl": "<|im_end|>", "gemma4": "<turn|>", "granite_docling": "<|end_of_text|>",
}  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_ends_its_turn_with_its_own_token(family: str, policies: Load) -> None:
    policy = policies(family)
    assert policy.tokenizer.convert_ids_to_tokens(policy.eos) == ENDS[family]
    assert not policy.forbidden[policy.eos], "or no completion could end"


def test_the_template_says_which_of_several_ends_is_a_turns() -> None:
    """Where the tokenizer's end is that of a text, and the template closes a turn with another, as Phi's and Granite's do."""
    tokenizer = tokenizer_with("<|im_start|>", "<|im_end|>", eos="<eos>")
    tokenizer.chat_template = templates.QWEN2
    text, turn = tokenizer.convert_tokens_to_ids(["<eos>", "<|im_end|>"])
    chat = Chat(tokenizer)
    assert chat.closing == "<|im_end|>"
    named = ([text, turn], [turn, text], [text], [], [3, 4])
    assert [chat.ends(ends) for ends in named] == [(turn, text), (turn, text), (text,), (text,), (3, 4)]
    tokenizer.eos_token = "<|im_end|>"
    assert [chat.ends(ends) for ends in named] == [(turn, text), (turn, text), (turn, text), (turn,), (turn, 3, 4)]


def test_an_end_that_template_and_tokenizer_agree_on_is_believed(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    """A base that was fine-tuned with ChatML, whose generation config still names the end of a text alone."""
    folder = shutil.copytree(checkpoints("qwen2"), tmp_path / "chatml")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<|endoftext|>"], special_tokens=True)
    tokenizer.save_pretrained(folder)
    text, turn = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": text}))
    policy = Policy.load(ModelConfig(path=str(folder)))
    assert policy.notes == [
        "answers end with <|im_end|>, as chat template and tokenizer have it; the generation config names <|endoftext|> alone, "
        "which ends an answer too"
    ]
    assert policy.ends == (turn, text) and policy.target("7")[-1] == turn and not policy.forbidden[[turn, text]].any()
    prompt = policy.encode(samples(policy, 1)[0], THINK)

    def said(token: int) -> Completion:
        def force(module: Any, args: Any, out: Any) -> Any:
            out.logits[..., token] = 99.0
            return out

        handle = policy.model.register_forward_hook(force)
        [[completion]] = hf.sample(policy, [prompt], [0], RolloutConfig(max_completion_length=4), greedy=True)
        handle.remove()
        return completion

    assert [(said(end).token_ids, said(end).finished) for end in (turn, text)] == [((turn,), True), ((text,), True)]
    policy.save(tmp_path / "out")
    again = Policy.load(ModelConfig(path=str(tmp_path / "out")))
    assert again.model.generation_config.eos_token_id == [turn, text] and again.ends == policy.ends and not again.notes


def test_the_lead_is_what_the_template_writes_before_an_answer(policies: Load) -> None:
    assert [family for family in FAMILIES if policies(family).chat.lead == " "] == ["idefics3", "smolvlm", "llava"]
    assert all(policies(family).chat.lead in ("", " ") for family in FAMILIES)


# thinking of a model's own, dates, system prompts


def test_qwen3s_own_thinking_is_closed_unless_it_is_asked_for(checkpoints: Callable[[str], Path]) -> None:
    closed, opened = (Policy.load(ModelConfig(path=str(checkpoints("qwen3")), enable_thinking=on)) for on in (False, True))
    sample = samples(closed, 1)[0]
    texts = [policy.tokenizer.decode(policy.encode(sample, THINK).token_ids) for policy in (closed, opened)]
    assert texts[0].endswith("assistant\n<think>\n\n</think>\n\n") and texts[1].endswith("<|im_start|>assistant\n")
    for policy, target in ((closed, "7"), (opened, "<think>\n\n</think>\n\n7")):
        assert policy.tokenizer.decode(policy.target("7")) == target + "<|im_end|>"
    whole = [list(policy.encode(sample, THINK).token_ids) + list(policy.target("7")) for policy in (closed, opened)]
    assert whole[0] == whole[1] == plain(closed, sample, THINK, "7")[: len(whole[0])]


def test_a_template_that_reads_the_clock_gets_one_date(policies: Load) -> None:
    policy = policies("llama")
    assert f"Today Date: {DATE}" in policy.tokenizer.decode(policy.encode(samples(policy, 1)[0], THINK).token_ids)
    assert re.search(r"Today Date: \d\d \w+ 20", policy.tokenizer.apply_chat_template([{"role": "user", "content": "q"}], tokenize=False))


@pytest.mark.parametrize("family", ["qwen2", "idefics3"])
def test_strftime_now_gets_the_date_of_the_recipe(family: str, checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    """As SmolLM3's and Granite's templates ask for it."""
    folder = shutil.copytree(checkpoints(family), tmp_path / family)
    file = folder / "chat_template.jinja"
    file.write_text("Today is {{ strftime_now('%d %B %Y') }}.\n" + file.read_text())
    for settings, day in (({}, "26 July 2024"), ({"date": "2025-02-03"}, "03 February 2025")):
        policy = Policy.load(ModelConfig(path=str(folder), **settings))
        prompt = policy.tokenizer.decode(policy.encode(samples(policy, 1)[0], THINK).token_ids)
        assert prompt.startswith(f"Today is {day}.")
        [told] = policy.notes
        assert told == f"the chat template writes today's date; it gets {settings.get('date', '2024-07-26')} (model.date) on all days"
    assert not Policy.load(ModelConfig(path=str(checkpoints(family)))).notes
    for wrong in ("today", "2024-7-26", "20240726", ""):
        with pytest.raises(ConfigError, match="model.date must be a day such as 2024-07-26"):
            build({}, ["--model.date", wrong])


@pytest.mark.parametrize("family", ["qwen2", "qwen2_vl"])
def test_a_templates_own_system_prompt_stays_and_gives_way_to_yours(family: str, checkpoints: Callable[[str], Path]) -> None:
    path = str(checkpoints(family))
    own, yours = Policy.load(ModelConfig(path=path)), Policy.load(ModelConfig(path=path, system_prompt="You read bars."))
    texts = [policy.tokenizer.decode(policy.encode(samples(policy, 1)[0], THINK).token_ids) for policy in (own, yours)]
    assert texts[0].startswith("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n")
    assert texts[1].startswith("<|im_start|>system\nYou read bars.<|im_end|>\n<|im_start|>user\n")
    assert texts[0].partition("user\n")[2] == texts[1].partition("user\n")[2]
    assert own.target("7") == yours.target("7")


def test_smollm2s_template() -> None:
    tokenizer = tokenizer_with("<|im_start|>", "<|im_end|>", eos="<|im_end|>")
    tokenizer.chat_template = templates.SMOLLM2
    assert Chat(tokenizer).prompt("How many?") == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM.<|im_end|>\n<|im_start|>user\nHow many?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_a_template_that_refuses_a_system_prompt(checkpoints: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="System role not supported"):
        Policy.load(ModelConfig(path=str(checkpoints("gemma3")), system_prompt="You read bars."))


def test_a_template_that_drops_a_system_prompt(checkpoints: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match=r"drops model\.system_prompt; put the text into task\.think_prompt"):
        Chat(dropping(), "You read bars.")


def dropping() -> Any:
    tokenizer = tokenizer_with("<|im_end|>")
    tokenizer.chat_template = "{% for m in messages if m['role'] != 'system' %}{{ m['content'] }}<|im_end|>{% endfor %}"
    return tokenizer


@pytest.mark.parametrize("family", ["llama", "llava"])
def test_a_begin_token_is_there_once(family: str, policies: Load) -> None:
    """Llama 3's template writes it, LLaVA's leaves it to the tokenizer."""
    policy = policies(family)
    ids = policy.encode(samples(policy, 1)[0], THINK).token_ids
    assert ids[0] == policy.tokenizer.bos_token_id and ids.count(ids[0]) == 1


def test_a_question_of_several_pictures_names_each(policies: Load) -> None:
    policy = policies("idefics3")
    sample = samples(policy, 1)[0]
    pair = replace(sample, images=sample.images * 2)
    assert list(policy.encode(pair, THINK).token_ids) == plain(policy, pair, THINK)


# Prompts of one's own


@pytest.mark.parametrize("family", ["qwen2", "llama", "idefics3", "qwen2_5_vl"])
def test_messages_of_a_sample_are_rendered_as_they_are(family: str, policies: Load) -> None:
    """System prompt, turns and the place of the picture, as transformers tokenizes the same conversation; the instruction is not there."""
    policy = policies(family)
    row = samples(policy, 1)[0]
    said = ["You count.", "How many?", "Two.", "And in"]
    turns = [{"role": role, "content": text} for role, text in zip(("system", "user", "assistant", "user"), said, strict=True)]
    if policy.takes_images:
        turns = [{"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]} for turn in turns]
        turns[3]["content"] += [{"type": "image"}, {"type": "text", "text": "here?"}]  # type: ignore[operator]
    own = replace(row, prompt=tuple(turns))
    shown = [
        {**turn, "content": [part | ({"image": row.images[0].load()} if part["type"] == "image" else {}) for part in turn["content"]]}  # type: ignore[attr-defined]
        if policy.takes_images
        else turn
        for turn in turns
    ]
    expected = policy.processor.apply_chat_template(
        [shown], add_generation_prompt=True, tokenize=True, return_dict=True, **policy.chat.options
    )["input_ids"][0]
    assert list(policy.encode(own, THINK).token_ids) == list(expected)
    assert THINK not in policy.tokenizer.decode(policy.encode(own, THINK).token_ids)


def test_a_picture_without_a_place_comes_before_the_first_question(policies: Load) -> None:
    policy = policies("idefics3")
    row = samples(policy, 1)[0]
    own = replace(row, prompt=({"role": "system", "content": "Look."}, {"role": "user", "content": row.question}))
    placed = ({"role": "system", "content": [{"type": "text", "text": "Look."}]},
              {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": row.question}]})  # fmt: skip
    assert policy.encode(own, "").token_ids == policy.encode(replace(row, prompt=placed), "").token_ids
    with pytest.raises(DataError, match=r"s0: the messages have 1 places for images, and there are 2"):
        policy.encode(replace(row, prompt=placed, images=row.images * 2), "")


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_plain_text_of_a_sample_needs_no_template(family: str, policies: Load) -> None:
    policy = policies(family)
    own = Sample(id="p", question="", answer="", prompt="Once upon a time")
    assert list(policy.encode(own, THINK).token_ids) == policy.tokenizer("Once upon a time")["input_ids"]
    bare = copy.deepcopy(policy.tokenizer)
    bare.chat_template = None
    assert (Chat(bare).lead, Chat(bare).closing) == ("", "")
    with pytest.raises(ModelError, match="has no chat template; use an instruction-tuned"):
        Chat(bare).conversation([{"role": "user", "content": "How many?"}])
