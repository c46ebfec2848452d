"""The door to all kinds of answer: every kind has its verifier, none raises, a gold answer is right, a bad row is told."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyme.types import AnswerKind, Judgement, Sample
from dyme.verify import worker
from dyme.verify.answers import LONGEST, VERIFIERS, fault, judge

CHOICES = ("10 cm", "12 cm", "14 cm")
GOLD: dict[AnswerKind, Sample] = {
    "auto": Sample(id="auto", question="", answer="1,000, fig"),
    "number": Sample(id="number", question="", answer="12", unit="cm"),
    "text": Sample(id="text", question="", answer="the light blue one"),
    "yes_no": Sample(id="yes_no", question="", answer="Yes"),
    "choice": Sample(id="choice", question="", answer="B", choices=CHOICES),
    "letter": Sample(id="letter", question="", answer="C"),
    "list": Sample(id="list", question="", answer="fig, oat, 12"),
    "math": Sample(id="math", question="", answer=r"x = \frac{3}{2}"),
    "open": Sample(id="open", question="", answer="right upper lobe"),
    "vqa": Sample(id="vqa", question="", answer="dog", answers=("dog",) * 7 + ("cat",) * 3),
}
SAMPLES = [replace(sample, answer_kind=kind) for kind, sample in GOLD.items()]
OTHER = {
    "auto": "1,000, oat",
    "number": "12 kg",
    "text": "the light green one",
    "yes_no": "no",
    "choice": "10 cm",
    "letter": "A, C",
    "list": "fig, oat",
    "math": "2/3",
    "open": "left lung",
    "vqa": "fish",
}
SAME = {
    "auto": "1000, Fig.",
    "number": "twelve cm",
    "text": "Light-blue one",
    "yes_no": "yes, it is",
    "choice": "(B) 12 cm",
    "letter": "option C: 40",
    "list": "12, oat and fig",
    "math": "1.5",
    "open": "Right upper lobe.",
    "vqa": "A dog",
}


def test_every_kind_has_a_verifier() -> None:
    assert set(VERIFIERS) == set(get_args(AnswerKind)) == set(GOLD)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.answer_kind)
def test_gold_and_same_answers_are_right_and_others_wrong(sample: Sample) -> None:
    for right in (sample.answer, f"  {sample.answer}\n", SAME[sample.answer_kind]):
        assert judge(right, sample, tolerance=0.0) == Judgement(True, 1.0), right
    for wrong in (OTHER[sample.answer_kind], "", " \n", ")", "I do not know"):
        assert judge(wrong, sample, tolerance=0.0) == Judgement(False, 0.0), wrong
    assert fault(sample) == ""


def test_tolerance_is_that_of_numbers() -> None:
    for kind in ("auto", "number", "list", "math"):
        sample = Sample(id="0", question="", answer="100", answer_kind=kind)
        assert judge("104", sample, tolerance=0.05).correct and not judge("104", sample, tolerance=0.0).correct, kind
    assert not judge("104", Sample(id="0", question="", answer="100", answer_kind="text"), tolerance=0.05).correct


def test_a_unit_may_stand_beside_an_automatic_answer() -> None:
    dollars = Sample(id="0", question="", answer="9", unit="$")
    assert judge("9 dollars", dollars, tolerance=0.0).correct and judge("9 dollars", replace(dollars, unit=""), tolerance=0.0).correct
    assert not judge("9 cents", dollars, tolerance=0.0).correct


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.answer_kind)
@pytest.mark.parametrize("dress", ["** {}", "{}**", "**{}**", r"\boxed{{{}}}", "${}$", '"{}"', r"$\boxed{{{}}}$.", "The answer is {}."])
def test_dress_does_not_count_for_any_kind(dress: str, sample: Sample) -> None:
    assert judge(dress.format(sample.answer), sample, tolerance=0.0) == Judgement(True, 1.0)
    assert not judge(dress.format(OTHER[sample.answer_kind]), sample, tolerance=0.0).correct


def test_soft_scores() -> None:
    soft = {sample.answer_kind: sample for sample in SAMPLES}
    assert judge("right lobe", soft["open"], tolerance=0.0) == Judgement(False, pytest.approx(2 / 3))
    assert judge("cat", replace(soft["vqa"], answers=("dog",) * 9 + ("cat",)), tolerance=0.0) == Judgement(False, pytest.approx(1 / 3))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.answer_kind)
def test_an_endless_answer_is_wrong_at_once(sample: Sample) -> None:
    for text in (sample.answer + " " + "x" * LONGEST, "9" * 10**6, "(" * 10**5, sample.answer * 10**4, "a b, " * 10**5):
        judgement = judge(text, sample, tolerance=0.05)
        assert not judgement.correct and judgement.reason == "answer too long"
    long = replace(sample, answer="y" * (LONGEST + 1), choices=())
    assert judge(long.answer, long, tolerance=0.0).correct


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer_kind": "choice", "answer": "B"}, "compared with choices, but it has none"),
        ({"answer_kind": "choice", "answer": "D", "choices": CHOICES}, "'D' is none of its 3 choices"),
        ({"answer_kind": "letter", "answer": "the first"}, "'the first' is no letter"),
        ({"answer_kind": "vqa"}, "several annotators, but it has none"),
        ({"answer_kind": "vqa", "answer": "fish", "answers": ("dog", "dog")}, r"'fish' is not right by its own answer kind \(vqa\)"),
        ({"answer_kind": "number", "answer": "a few"}, "'a few' is no number"),
        ({"answer_kind": "yes_no", "answer": "diffuse"}, "'diffuse' is neither yes nor no"),
        ({"answer_kind": "text", "answer": " "}, "is not right by its own answer kind"),
    ],
)
def test_a_row_that_cannot_be_judged(change: dict[str, Any], message: str) -> None:
    assert re.search(message, fault(replace(Sample(id="0", question="", answer="5"), **change)))


texts = st.text(max_size=80) | st.text(alphabet="0123456789.,-+/%$ ()[]{}^\\abxyes no", max_size=40)


@given(texts, texts, st.sampled_from([0.0, 0.05]))
def test_no_text_crashes_any_kind(prediction: str, target: str, tolerance: float) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker.Worker, "same", lambda self, target, prediction: False)  # the real one: test_equivalence, test_worker
        for sample in SAMPLES:
            for judged in (
                judge(prediction, sample, tolerance=tolerance),
                judge(prediction, replace(sample, answer=target), tolerance=tolerance),
            ):
                assert 0.0 <= judged.score <= 1.0 and (judged.score > 0 or not judged.correct)
                assert prediction.strip() or not judged.correct


@given(texts)
def test_a_gold_answer_is_right_by_its_own_kind(target: str) -> None:
    kinds = [replace(sample, answer=target, answers=(target,) * 3 if sample.answers else ()) for sample in SAMPLES]
    for sample in kinds:
        if not fault(sample):
            assert judge(target, sample, tolerance=0.0) == Judgement(True, 1.0), sample.answer_kind
    assert bool(fault(kinds[0])) == (not target.strip())
