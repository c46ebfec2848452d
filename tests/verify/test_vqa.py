"""Direct answers with several annotators."""

import pytest

from dyme.types import Judgement, Sample
from dyme.verify.answers.vqa import any_of, as_annotators, vqa_words

ANSWERS = ("dog",) * 6 + ("cat",) * 2 + ("The pup!", "two dogs")
SAMPLE = Sample(id="0", question="", answer="dog", answer_kind="vqa", answers=ANSWERS)


@pytest.mark.parametrize(
    ("prediction", "correct", "score"),
    [
        ("dog", True, 1.0),
        ("A dog.", True, 1.0),
        ("cat", True, 2 / 3),
        ("pup", False, 1 / 3),
        ("2 dogs", False, 1 / 3),
        ("fish", False, 0.0),
        ("dog cat", False, 0.0),
    ],
)
def test_soft_accuracy(prediction: str, correct: bool, score: float) -> None:
    assert as_annotators(prediction, SAMPLE) == Judgement(correct, score)
    assert any_of(prediction, ANSWERS) == (score > 0)


def test_the_commonest_answer_is_correct_even_if_nobody_agrees() -> None:
    sample = Sample(id="0", question="", answer="a", answers=("red", "blue", "green"), answer_kind="vqa")
    assert as_annotators("blue", sample) == Judgement(True, 1 / 3)
    alone = Sample(id="0", question="", answer="red", answer_kind="vqa")
    assert as_annotators("Red", alone) == Judgement(True, 1.0) and as_annotators("blue", alone) == Judgement(False, 0.0)


def test_normalisation() -> None:
    assert vqa_words("The Don't") == vqa_words("dont") and vqa_words("None") == vqa_words("0") == ("0",)
    assert vqa_words("a") == ("a",) and not any_of("", ("",))
