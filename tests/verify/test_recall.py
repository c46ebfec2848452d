"""Open medical questions: recall is soft, right is strict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyme.types import Judgement, Sample
from dyme.verify.answers.recall import recalls


def judged(prediction: str, target: str) -> Judgement:
    return recalls(prediction, Sample(id="0", question="", answer=target, answer_kind="open"))


@pytest.mark.parametrize(
    ("prediction", "target"),
    [
        ("Right lung", "right lung"),
        ("The right lung.", "right lung"),
        ("on the right side", "right"),
        ("x-ray of the chest", "Chest X-ray"),
        ("it is located in the brain", "brain"),
        ("two", "2"),
        ("small nodules of the right lung base", "nodules right lung base"),
        ("5%", "5 %"),
    ],
)
def test_right(prediction: str, target: str) -> None:
    assert judged(prediction, target) == Judgement(True, 1.0)


@pytest.mark.parametrize(
    ("prediction", "target", "score"),
    [
        ("left and right lung", "right lung", 1.0),
        ("left right both", "right", 1.0),
        ("not the brain", "brain", 1.0),
        ("pneumothorax edema", "pneumothorax", 1.0),
        ("in in in in in the brain", "brain", 1.0),
        ("the lung", "right lung", 0.5),
        ("lung lung", "right lung", 0.5),
        ("heart", "right lung", 0.0),
    ],
)
def test_wrong(prediction: str, target: str, score: float) -> None:
    assert judged(prediction, target) == Judgement(False, score)


words = st.lists(st.sampled_from(["left", "right", "lung", "brain", "the", "of", "no", "effusion"]), min_size=1, max_size=5).map(" ".join)


meaningful = words.filter(lambda text: text.strip("the "))


@given(meaningful, meaningful, st.integers(9, 20))
def test_dumping_words_does_not_pay(target: str, dump: str, times: int) -> None:
    judgement = judged(f"{target} " + f"{dump} " * times, target)
    assert not judgement.correct and judgement.score == 1.0
    assert judged(target, target) == Judgement(True, 1.0)
