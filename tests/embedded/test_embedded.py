"""The embedded base: a standard folder, a lossless tokenizer, and the profile that it is meant to have."""

from functools import cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForImageTextToText, AutoProcessor

from dyme.config import ModelConfig
from dyme.embedded import architecture, curriculum, pretrain
from dyme.embedded.profile import profile
from dyme.errors import ModelError
from dyme.model.loading import resolve
from dyme.model.policy import Policy
from dyme.tasks import charts
from dyme.tasks.charts import questions as chart_questions

BASE = Path(resolve(ModelConfig()))


@pytest.fixture(scope="module")
def policy():
    return Policy.load(ModelConfig())


def test_the_folder_is_standard_and_small():
    assert sum(f.stat().st_size for f in BASE.iterdir()) < 10e6
    model, processor = AutoModelForImageTextToText.from_pretrained(BASE), AutoProcessor.from_pretrained(BASE, backend="pil")
    assert type(model).__name__ == "Idefics3ForConditionalGeneration" and processor.image_seq_len == architecture.IMAGE_TOKENS


def test_the_shipped_tokenizer_is_the_one_that_the_command_builds(policy):
    assert policy.tokenizer.get_vocab() == architecture.build_tokenizer(curriculum.corpus()).get_vocab()


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_the_tokenizer_is_lossless(text):
    tokenizer = shipped_tokenizer()
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]) == text


@cache
def shipped_tokenizer():
    return AutoProcessor.from_pretrained(BASE, backend="pil").tokenizer


def test_words_and_numbers_of_the_task_are_single_tokens(policy):
    for word in (*chart_questions.NAMES, *map(str, range(400))):
        assert len(policy.tokenizer(f" {word}", add_special_tokens=False)["input_ids"]) == 1, word


def test_pretraining_feeds_the_pixels_and_prompts_that_the_processor_makes(policy):
    sample = charts.samples("test", 1)[0]
    prompt = policy.encode(sample, curriculum.DIRECT)
    feed = pretrain.Feed(policy.processor, seed=0, rows=1, thinking=0.0)
    assert torch.allclose(prompt.vision["pixel_values"][0], feed.pixels(sample.images[0].load()), atol=1e-6)
    text = feed._segments([(f"{sample.question} {curriculum.DIRECT}", sample.answer)], feed.image)
    assert tuple(policy.tokenizer(text[0][0], add_special_tokens=False)["input_ids"]) == prompt.token_ids
    assert tuple(policy.tokenizer(text[1][0], add_special_tokens=False)["input_ids"]) == policy.target(sample.answer)


def test_a_base_is_trained_on_with_another_share_of_formatted_thinking(policy, tmp_path, monkeypatch):
    feed = pretrain.Feed(policy.processor, seed=0, rows=40, thinking=1.0, formatted=0.0)
    texts = policy.tokenizer.batch_decode(feed.charts("mix")[0])
    assert sum("Answer:" in text.split("Assistant:")[1] for text in texts) < 20, "one way of loose thinking holds the marker twice"
    out = tmp_path / "weak"
    words = "--init embedded --steps 1 --text-steps 0 --caption-steps 0 --rows 2 --threads 1 --text 0 --muon-lr 1e-9 --adam-lr 1e-9"
    monkeypatch.setattr("sys.argv", ["pretrain", *words.split(), "--out", str(out)])
    pretrain.train(pretrain.parse_args())
    again, _ = pretrain.load(str(out))
    shipped, _ = pretrain.load("embedded")
    for (name, a), (_, b) in zip(again.named_parameters(), shipped.named_parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name
    with pytest.raises(ModelError, match="no such folder"):
        pretrain.load(str(tmp_path / "none"))


def test_pretraining_sees_no_chart_of_another_split(policy, monkeypatch):
    seen = []
    draw = curriculum.random_chart
    monkeypatch.setattr(curriculum, "random_chart", lambda rng, split: seen.append(draw(rng, split)) or seen[-1])
    monkeypatch.setattr(pretrain, "random_chart", curriculum.random_chart)
    feed = pretrain.Feed(policy.processor, seed=0, rows=20, thinking=0.5)
    feed.charts("caption"), feed.charts("mix"), feed.text()
    assert len(seen) > 40 and {chart_questions.split_of(c.table) for c in seen} == {"pretrain"}


def test_the_base_has_the_profile_that_the_comparison_needs():
    figures = profile("embedded", 200)
    assert figures["captions"].value > 0.95, figures["captions"]
    assert 0.25 < figures["direct_accuracy"].value < 0.65, figures["direct_accuracy"]
    assert 0.01 < figures["pass_at_1"].value < 0.15, figures["pass_at_1"]
