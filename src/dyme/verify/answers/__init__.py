"""Judge whether an answer is right: one verifier per kind of answer (`Sample.answer_kind`), for training and evaluation alike.

`docs/metrics.md` compares each kind with the published metric of its task, pair by pair.
"""

from __future__ import annotations

from collections.abc import Callable

from dyme.types import AnswerKind, Judgement, Sample
from dyme.verify.answers.auto import same_relaxed
from dyme.verify.answers.choice import chosen, same_choice, same_letter
from dyme.verify.answers.lists import same_items
from dyme.verify.answers.mathematics import same_mathematics
from dyme.verify.answers.quantity import quantity, same_quantity
from dyme.verify.answers.recall import recalls
from dyme.verify.answers.text import same_text
from dyme.verify.answers.vqa import as_annotators
from dyme.verify.answers.yes_no import polarity, same_polarity
from dyme.verify.notation.numerals import matches, number, read

__all__ = ["VERIFIERS", "fault", "judge", "matches", "number", "read"]

LONGEST = 2000
"""Most characters of an answer; a longer one must equal the target exactly (kind auto reads it up to twice the target's length)."""

Verifier = Callable[[str, Sample, float], Judgement | bool]
"""(prediction, sample, tolerance) -> right or not, with a separate score where the metric is soft."""


VERIFIERS: dict[AnswerKind, Verifier] = {
    "auto": same_relaxed,
    "number": same_quantity,
    "text": same_text,
    "yes_no": same_polarity,
    "choice": same_choice,
    "letter": same_letter,
    "list": same_items,
    "math": same_mathematics,
    "open": recalls,
    "vqa": as_annotators,
}


def judge(prediction: str, sample: Sample, *, tolerance: float) -> Judgement:
    """Return whether `prediction` answers `sample`, by the verifier of its `answer_kind`; an empty prediction never does.

    `tolerance` is relative to the target, for kinds that compare numbers (auto, number, list, math). Never raises for any text;
    ConfigError if a math answer has to be compared and math-verify is not installed (`rules.check_answers` raises it beforehand).
    """
    if not prediction.strip():
        return Judgement(False, 0.0)
    if len(prediction) > LONGEST and (sample.answer_kind != "auto" or len(prediction) > 2 * len(sample.answer)):
        same = prediction.strip() == sample.answer.strip()
        return Judgement(same, float(same), "" if same else "answer too long")
    judged = VERIFIERS[sample.answer_kind](prediction, sample, tolerance)
    return judged if isinstance(judged, Judgement) else Judgement(judged, float(judged))


def fault(sample: Sample) -> str:
    """Return why no answer to `sample` can be judged by its kind, and what to do about it; "" if there is no fault."""
    kind = sample.answer_kind
    if kind == "choice" and not sample.choices:
        return "its answers are compared with choices, but it has none; add choices, or use another answer kind"
    if kind == "choice" and not chosen(sample.answer, sample.choices):
        return f"answer {sample.answer!r} is none of its {len(sample.choices)} choices; write the letter, or the text of a choice"
    if kind == "letter" and not (len(sample.answer) == 1 and sample.answer.isascii() and sample.answer.isalpha()):
        return f"answer {sample.answer!r} is no letter; write the letter of a choice, or use another answer kind"
    if kind == "vqa" and not sample.answers:
        return "its answers are compared with those of several annotators, but it has none; add answers, or use another answer kind"
    if kind == "number" and quantity(sample.answer, sample.unit) is None:
        return f"answer {sample.answer!r} is no number; write one, or use another answer kind"
    if kind == "yes_no" and polarity(sample.answer) is None:
        return f"answer {sample.answer!r} is neither yes nor no; write one of them, or use another answer kind"
    if not judge(sample.answer, sample, tolerance=0.0).correct:
        return f"answer {sample.answer!r} is not right by its own answer kind ({kind}); correct the row, or use another answer kind"
    return ""
