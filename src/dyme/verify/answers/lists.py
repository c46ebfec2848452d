"""Kind `list`: several items in any order, each compared as in kind auto."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from dyme.types import Sample
from dyme.verify.answers.auto import items


def same_items(prediction: str, sample: Sample, tolerance: float) -> bool:
    """Return whether `prediction` lists the items of the answer, each equally often; numbers within `tolerance` of the target's."""
    said, wanted = items(prediction), items(sample.answer)
    if len(said) == 1 != len(wanted):
        said = items(prediction, apart=True)
    elif len(wanted) == 1 != len(said):
        wanted = items(sample.answer, apart=True)
    if _texts(said) != _texts(wanted):
        return False
    limit = Fraction(str(tolerance))
    pairs = zip(_numbers(said), _numbers(wanted), strict=True)  # in order of size: if any pairing is near enough, this one is too
    return bool(said) and all(abs(p - t) <= limit * abs(t) for p, t in pairs)


def _texts(found: tuple[Fraction | str, ...]) -> tuple[int, Counter[str]]:
    return len(found), Counter(item for item in found if isinstance(item, str))


def _numbers(found: tuple[Fraction | str, ...]) -> list[Fraction]:
    return sorted(item for item in found if isinstance(item, Fraction))
