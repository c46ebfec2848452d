"""Kind `open`: open medical questions (SLAKE, VQA-RAD), scored by the recall of the target's words (LLaVA-Med, Li et al., 2023).

Recall alone is farmed by naming everything, so `correct`, which the switch and the reward go by, asks for more.
"""

from __future__ import annotations

from collections import Counter

from dyme.types import Judgement, Sample
from dyme.verify.annotators import vqa_words
from dyme.verify.auto import matches

_FILLING = "it its is are be was this that there in on of at to with and both side sides seen shown visible located region area image scan"
_FILLERS = frozenset(_FILLING.split())
"""Words that add nothing to an answer; some are free."""
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
_HEDGES = frozenset({"no", "not", "without", "or", "versus", "vs", "maybe", "possibly", "either", "neither", "never"})


def recalls(prediction: str, sample: Sample, tolerance: float = 0.0) -> Judgement:
    """Recall of the answer's words in `prediction`, each as often as it occurs; `correct` by `_says_no_more`."""
    said, wanted = Counter(vqa_words(prediction)), Counter(vqa_words(sample.answer))
    if matches(prediction, sample.answer) or (said and said == wanted):
        return Judgement(True, 1.0)
    score = (said & wanted).total() / max(1, wanted.total())
    return Judgement(score == 1 and _says_no_more(said - wanted, wanted), score)


def _says_no_more(extra: Counter[str], wanted: Counter[str]) -> bool:
    """Whether words beyond those wanted leave the answer what it is.

    They may be fillers, at most three more than words wanted, and half as many other words as are wanted after the first; none may
    deny, hedge or name an alternative to a wanted word (left beside right). So a second guess beside a target of one or two words
    is never right.
    """
    alternatives = set[str]().union(*(group for group in _EXCLUSIVE if group & wanted.keys()))
    if extra.keys() & (_HEDGES | alternatives):
        return False
    fillers = sum(count for word, count in extra.items() if word in _FILLERS)
    others = extra.total() - fillers
    return fillers <= 3 + wanted.total() and others <= (wanted.total() - 1) // 2
