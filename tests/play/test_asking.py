"""A question on the page is asked and judged as an evaluation asks and judges it, and is read while it is written."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from dyme.errors import DataError, DymeError
from dyme.evaluation.items import STYLES, Plan
from dyme.evaluation.run import ask
from dyme.play import asking
from dyme.play.asking import Answered, Asked, Play, answers, question_of
from dyme.rollout import hf
from dyme.rollout.engine import Local
from dyme.types import Completion, Fact, Sample


def test_the_streamed_text_is_that_of_an_evaluation_and_grows(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PAUSE", 0.0)
    [model], config, samples = play.models, play.config, play.samples[:3]
    wanted = {(k, style) for k in range(len(samples)) for style in STYLES}
    items = {item.key: item for batch in ask(Local(model.policy), samples, config, play.rules, Plan(k=0), wanted) for item in batch}
    for k, sample in enumerate(samples):
        for style in STYLES:
            *before, last = answers(play, model, Asked(sample=sample, known=True), style)
            item = items[k, style]
            assert (last.text, last.answer, last.right, last.reason) == (item.completion, item.answer, item.correct, item.reason)
            assert last.whole and not any(one.whole for one in before)
            lengths = [len(one.text) for one in before]
            assert lengths == sorted(lengths) and len(set(lengths)) >= (8 if style == "think" else 1), "token by token"
            assert all(last.text.startswith(one.text) for one in before)


def test_a_hook_sees_each_token_of_each_unfinished_row(play: Play) -> None:
    policy, rollout = play.models[0].policy, play.config.rollout
    prompts = [policy.encode(sample, play.config.task.think_prompt) for sample in play.samples[:2]]
    seen: dict[int, list[int]] = {}

    def see(found: dict[int, int]) -> None:
        for row, token in found.items():
            seen.setdefault(row, []).append(token)

    groups = hf.sample(policy, prompts, [1, 2], rollout, see=see)  # type: ignore[arg-type]
    assert groups == hf.sample(policy, prompts, [1, 2], rollout), "and changes nothing"
    assert [tuple(seen[row]) for row in sorted(seen)] == [one.token_ids for group in groups for one in group]


def test_a_reader_that_leaves_stops_the_model(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PAUSE", 0.0)
    before = threading.active_count()
    reading = answers(play, play.models[0], Asked(sample=play.samples[0], known=True), "think")
    assert isinstance(next(reading), Answered)
    reading.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_without_a_known_answer_nothing_is_judged(play: Play) -> None:
    asked = question_of("What is the highest value?", "", play.samples[0].images, (), None)
    for style in STYLES:
        *_, last = answers(play, play.models[0], asked, style)
        assert last.whole and last.right is None and last.answer
    short = replace(play, config=replace(play.config, rollout=replace(play.config.rollout, max_completion_length=4)))
    *_, last = answers(short, play.models[0], asked, "think")
    assert (last.answer, last.reason) == (None, "cut off")


def test_a_changed_question_is_not_judged_by_the_samples_answer(play: Play) -> None:
    sample, facts = play.samples[0], (Fact("a", "1"),)
    same = question_of(sample.question, sample.answer, sample.images, facts, sample)
    assert same == Asked(sample=replace(sample, facts=facts), known=True)
    other = question_of("What is it? ", "", sample.images, facts, sample)
    assert not other.known and (other.sample.question, other.sample.answer, other.sample.kind) == ("What is it?", "", "")
    assert question_of("What is it?", " 7 ", (), (), None).known
    assert question_of(sample.question, "7", sample.images, facts, sample).sample.answer == "7"


@pytest.mark.parametrize(
    ("question", "line"),
    [
        (" \n", "the question is empty"),
        ("word " * 20_000, "tokens, the answer up to 40, and the model reads 512"),
        ("see <image> this", "takes for a picture"),
    ],
    ids=["empty", "long", "placeholder"],
)
def test_what_cannot_be_asked_is_refused_in_a_line(play: Play, question: str, line: str) -> None:
    with pytest.raises(DataError, match=line) as caught:
        list(answers(play, play.models[0], question_of(question, "", play.samples[0].images, (), None), "think"))
    assert "\n" not in str(caught.value)


def test_an_error_of_the_model_reaches_the_reader(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    asked = Asked(sample=play.samples[0], known=True)
    for error, kind, line in ((torch.OutOfMemoryError("cuda"), DymeError, "out of memory"), (ValueError("odd"), ValueError, "odd")):

        def fail(*args: object, error: Exception = error, **options: object) -> list[tuple[Completion, ...]]:
            raise error

        monkeypatch.setattr(hf, "sample", fail)
        with pytest.raises(kind, match=line):
            list(answers(play, play.models[0], asked, "think"))


def test_a_typed_sample_has_an_id() -> None:
    assert isinstance(question_of("q", "", (), (), None).sample, Sample)
