"""Kind `list`: several items in any order, each compared as kind auto compares one."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

from dyme.types import Sample
from dyme.verify.auto import read
from dyme.verify.words import plain

_AND = re.compile(r",? (?:and|&) ", re.IGNORECASE)
_SEMICOLON = re.compile(r" ?; ?")


def same_items(prediction: str, sample: Sample, tolerance: float) -> bool:
    """Whether `prediction` lists the items of the answer, each as often as there; numbers within `tolerance` of the target's."""
    said, wanted = items(prediction), items(sample.answer)
    if _texts(said) != _texts(wanted):
        return False
    limit = Fraction(str(tolerance))
    pairs = zip(_numbers(said), _numbers(wanted), strict=True)  # in order of size: if any pairing is near enough, this one is
    return bool(said) and all(abs(p - t) <= limit * abs(t) for p, t in pairs)


def items(text: str) -> tuple[Fraction | str, ...]:
    """The items of a list: separated by semicolons if there are any, else by commas and "and"; brackets around it do not count."""
    text = plain(text)
    if len(text) > 1 and text[0] + text[-1] in ("[]", "()", "{}"):
        text = text[1:-1]
    if ";" in text:
        return tuple(read(part)[0] for part in _SEMICOLON.split(text) if part.strip())
    return tuple(item for item in read(_AND.sub(", ", text)) if item != "")


def _texts(found: tuple[Fraction | str, ...]) -> tuple[int, Counter[str]]:
    return len(found), Counter(item for item in found if isinstance(item, str))


def _numbers(found: tuple[Fraction | str, ...]) -> list[Fraction]:
    return sorted(item for item in found if isinstance(item, Fraction))
