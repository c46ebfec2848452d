"""A user's verifier, (prediction, sample) -> bool, float in [0, 1] or Judgement: it decides which answers are correct, and so the switch.

A float is a score; CORRECT or more counts as correct. If the verifier fails, the answer is not judged: a group with such an answer is
skipped in training, and an evaluation counts the answer as wrong and reports the failures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dyme.errors import quoted
from dyme.plugins import place_of
from dyme.types import Judgement, Sample
from dyme.verify.calls import Failed, call, number

CORRECT = 0.5
"""Least score of a correct answer."""
FAILED = "the verifier failed"
"""Beginning of the reason of a failed judgement."""
Verifier = Callable[[str, Sample], bool | float | Judgement]


@dataclass(frozen=True, slots=True)
class OwnVerifier:
    """A user's verifier, with a time limit, its results checked."""

    name: str
    """Its name in the recipe."""
    function: Verifier
    seconds: float
    """Longest time for one answer, in seconds."""

    def judge(self, prediction: str, sample: Sample) -> Judgement:
        """Return the judgement on an answer, never correct for an empty answer; never raises."""
        if not prediction.strip():
            return Judgement(False, 0.0)
        given = call(self.function, self.seconds, prediction, sample)
        score = given if isinstance(given, Failed) else number(given.score if isinstance(given, Judgement) else given, self.function)
        if isinstance(score, float) and not 0 <= score <= 1:
            score = Failed(f"{place_of(self.function)}: returned {quoted(given)}, which is not in [0, 1]")
        if isinstance(score, Failed):
            return Judgement(False, 0.0, f"{FAILED}: {score.why}", failed=True)
        if isinstance(given, Judgement):
            return replace(given, correct=bool(given.correct), score=score, reason=str(given.reason))
        return Judgement(score >= CORRECT, score)
