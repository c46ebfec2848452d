"""Kind `open`: open medical questions (SLAKE, VQA-RAD), scored by the recall of the target's words (LLaVA-Med, Li et al., 2023).

A policy can raise recall by naming everything, so `correct`, which the switch and the reward use, needs more.
"""

from __future__ import annotations

import re
from collections import Counter

from dyme.types import Judgement, Sample
from dyme.verify.answers.vqa import vqa_words
from dyme.verify.notation.numerals import matches
from dyme.verify.notation.words import plain

_FILLING = "it its is are be was this that there in on of at to with and both side sides seen shown visible located region area image scan"
_FILLERS = frozenset(_FILLING.split())
"""Words that add nothing to an answer; a few of them are allowed."""
_EXCLUSIVE = tuple(
    frozenset(words.split())
    for words in (
        "left right both bilateral unilateral",
        "upper lower middle",
        "superior inferior",
        "anterior posterior",
        "medial lateral",
        "axial coronal sagittal",
        "ap pa",
        "ct mri xray mr ultrasound",
        "t1 t2 flair",
        "hyperintense hypointense isointense",
        "acute chronic",
        "male female",
        "small large",
    )
)
_APART = re.compile(r"[;|]|,(?![0-9]{3})|(?<![0-9])/|/(?![0-9])|\b(?:and|plus|also|but)\b|\. ")
"""Separator of two guesses."""
_HEDGES = frozenset({"no", "not", "without", "or", "versus", "vs", "maybe", "possibly", "either", "neither", "never"})


def recalls(prediction: str, sample: Sample, tolerance: float = 0.0) -> Judgement:
    """Return the recall of the answer's words in `prediction`, each as often as it occurs; `correct` by `_says_no_more`."""
    found, asked = vqa_words(prediction), vqa_words(sample.answer)
    said, wanted = Counter(found), Counter(asked)
    ordered = not any(map(str.isalnum, "".join(asked))) or all(map(str.isalnum, asked)) or found == asked
    if matches(prediction, sample.answer) or (said and said == wanted and ordered):
        return Judgement(True, 1.0)
    score = (said & wanted).total() / max(1, wanted.total())
    return Judgement(score == 1 and ordered and _says_no_more(prediction, said - wanted, wanted), score)


def _says_no_more(prediction: str, extra: Counter[str], wanted: Counter[str]) -> bool:
    """Return whether words beyond the wanted ones leave the answer unchanged.

    These may be fillers, at most three more than wanted words, and other words, half as many as wanted words after the first, each
    before a wanted word ("small nodules"); none may deny, hedge or name an alternative to a wanted word (left beside right). So a
    second guess is never right, neither beside a target of one or two words nor after or apart from one of several.
    """
    alternatives = set[str]().union(*(group for group in _EXCLUSIVE if group & wanted.keys()))
    if extra.keys() & (_HEDGES | alternatives):
        return False
    others = {word for word in extra if word not in _FILLERS}
    count = sum(extra[word] for word in others)
    if extra.total() - count > 3 + wanted.total() or count > (wanted.total() - 1) // 2:
        return False
    return not others or all(_leads_up(vqa_words(part), others) for part in _APART.split(plain(prediction).casefold()))


def _leads_up(part: tuple[str, ...], others: set[str]) -> bool:
    """Return whether no other word ends a part of the answer, after fillers are removed."""
    content = [word for word in part if word not in _FILLERS]
    return not content or content[-1] not in others
