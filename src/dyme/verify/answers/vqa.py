"""Kind `vqa`: direct answers with several annotators (A-OKVQA: Schwenk et al., 2022; the measure is VQA's, Antol et al., 2015).

The score is the soft accuracy min(annotators who agree / 3, 1), after VQA's normalisation: case, punctuation, articles, number
words and apostrophes do not count. A-OKVQA's own code compares the texts as they are; VQA's averages over subsets of nine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

from dyme.types import Judgement, Sample
from dyme.verify.notation.words import NUMBER_WORDS, lists_letters, tokens

ENOUGH = 3
"""Number of agreeing annotators for a score of 1."""
_DIGITS = {word: str(value) for word, value in NUMBER_WORDS.items() if value <= 10} | {"none": "0"}
_ARTICLES = {"a", "an", "the"}


def as_annotators(prediction: str, sample: Sample, tolerance: float = 0.0) -> Judgement:
    """Return the soft accuracy of `prediction`; correct if at least two annotators agree, or as many as for the commonest answer.

    One annotator of ten is not enough to call an answer right, as the reference code does (`any_of`): that one is often an outlier.
    """
    votes = Counter(vqa_words(text) for text in sample.answers or (sample.answer,))
    found = votes[vqa_words(prediction)]
    enough = min(2, max(votes.values()))
    return Judgement(found >= enough, min(found / ENOUGH, 1.0) if sample.answers else float(found > 0))


def any_of(prediction: str, answers: Sequence[str]) -> bool:
    """Return whether any annotator agrees: the reference code's any-of-ten, after the same normalisation."""
    return bool(prediction.strip()) and vqa_words(prediction) in {vqa_words(text) for text in answers}


@lru_cache(maxsize=8192)
def vqa_words(text: str) -> tuple[str, ...]:
    """Return an answer's words as VQA compares them; articles stay if nothing else is left, as does a letter A ("A, C", "type A")."""
    found = tuple(_DIGITS.get(word, word) for word in tokens(text))
    following = (*found[1:], "a")
    return (
        tuple(
            word for word, after in zip(found, following, strict=False) if word not in _ARTICLES or (word == "a" and lists_letters(after))
        )
        or found
    )
