"""Kind `yes_no`: closed questions (the accuracy of SLAKE's and VQA-RAD's closed ones), by the first statement of an answer.

"Yes, there is" is yes. An answer that says both is wrong; LLaVA-Med's published accuracy, which looks for the target anywhere in
the answer, calls "yes no" right both times and finds a "no" in "normal".
"""

from __future__ import annotations

import re
from functools import lru_cache

from dyme.types import Sample
from dyme.verify.answers.text import alike
from dyme.verify.notation.words import plain

_POLAR = dict.fromkeys(["yes", "yeah", "yep", "yup", "true", "correct", "affirmative"], True) | dict.fromkeys(
    ["no", "nope", "nah", "false", "incorrect", "negative"], False
)
_ALONE = {"y": True, "n": False}
"""Letters that answer only as a separate clause, other than the N of "N/A"."""
_EVASIVE = "idea clue comment answer information info data doubt question opinion one response preference guess problem"
_NO_ANSWER = frozenset(_EVASIVE.split())
"""Words after the "no" of "no idea" and "no doubt", which mean neither yes nor no."""
_LEAD = {"it", "this", "that", "is", "statement", "the", "i", "think", "believe", "say"}
"""Words that may precede: "it is true", "I think yes"."""
_CLAUSE = re.compile(r"[,.;:!?/\n()\"]+|\b(?:and|or|but)\b")
_WORD = re.compile(r"[a-z]+")


def same_polarity(prediction: str, sample: Sample, tolerance: float = 0.0) -> bool:
    """Return whether `prediction` says yes where the answer does, and no where it does; compared as text if the answer does neither."""
    wanted = polarity(sample.answer)
    return alike(prediction, sample.answer) if wanted is None else polarity(prediction) is wanted


@lru_cache(maxsize=8192)
def polarity(text: str) -> bool | None:
    """Return True for yes, False for no, None for neither and for both.

    A clause counts by its first words, so the "no" of "Yes, there is no fracture" does not; a last word counts too.
    """
    clauses = [_WORD.findall(clause) for clause in _CLAUSE.split(plain(text).casefold())]
    clauses = [clause for clause in clauses if clause]
    if not clauses:
        return None
    said = [_opening(clause) for clause in clauses]
    if len(said[0]) != 1 or (clauses[0] == ["n"] and clauses[1:] and clauses[1][0] == "a"):
        return None
    last = clauses[-1][-1]
    everything = set[bool]().union(*said, [_POLAR[last]] if last in _POLAR and clauses[-1][-2:-1] != ["not"] else [])
    return everything.pop() if len(everything) == 1 else None


def _opening(clause: list[str]) -> set[bool]:
    if len(clause) == 1 and clause[0] in _ALONE:
        return {_ALONE[clause[0]]}
    said = set()
    for index, word in enumerate(clause):
        if word in _POLAR:
            if word == "no" and _evades(clause[index + 1 :]):
                break
            said.add(_POLAR[word])
        elif word == "not" and not said and clause[index + 1 : index + 2] and clause[index + 1] in _POLAR:
            return {not _POLAR[clause[index + 1]]}
        elif said or word not in _LEAD:
            break
    return said


def _evades(following: list[str]) -> bool:
    """Return whether the words after a "no" show that it is not an answer: "idea", "doubt", "way to tell"."""
    return bool(following) and (following[0] in _NO_ANSWER or (following[0] == "way" and len(following) > 1))
