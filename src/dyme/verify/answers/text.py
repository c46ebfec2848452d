"""Kind `text`: free text, where case, accents, punctuation, spacing and articles do not count and numbers count by value."""

from __future__ import annotations

from dyme.types import Sample
from dyme.verify.notation.numerals import matches
from dyme.verify.notation.words import words


def same_text(prediction: str, sample: Sample, tolerance: float = 0.0) -> bool:
    """Return whether `prediction` is the sample's answer word by word; `tolerance` is not used."""
    return alike(prediction, sample.answer)


def alike(one: str, other: str) -> bool:
    """Return whether two texts are the same answer; an empty one never is the same."""
    return matches(one, other) or bool(found := words(one)) and found == words(other)
