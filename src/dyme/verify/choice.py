"""Kind `choice`: multiple choice, answered by letter or by text (MathVerse's and A-OKVQA's multiple choice: accuracy).

"B", "(B)", "b.", "option B", "B: 12 cm" and "12 cm" all choose B. An answer that chooses several, or a letter with another
choice's text, is wrong, unless the target itself is several letters ("C and D"): then just these are right.
"""

from __future__ import annotations

import re
from functools import lru_cache

from dyme.types import Sample
from dyme.verify.quantity import quantity
from dyme.verify.text import alike
from dyme.verify.words import plain

_OPENING = re.compile(r"(?:(?:it|this) is )?(?:(?:the )?(?:correct |right )?(?:option|choice|answer|letter)s? (?:is )?)?", re.IGNORECASE)
_LETTER = re.compile(r"[(\[]?([A-Za-z])[)\]]?[.:,]?")
_LETTERS = re.compile(r"[(\[]?[A-Za-z][)\]]?(?:(?: ?[,;/&+] ?| and | or | )(?:and |or )?[(\[]?[A-Za-z][)\]]?)+")
_LABELLED = re.compile(r"(?:[(\[]([A-Za-z])[)\]][.:]?|([A-Za-z]) ?[.:)]) ?(?=\S)")
_SINGLE = re.compile(r"(?<![\w$\\])[A-Z](?![\w$'])")
_SIGNS = re.compile(r"[$\\{}]|\\(?:left|right|mathrm|text)(?![a-z])")


def same_choice(prediction: str, sample: Sample, tolerance: float = 0.0) -> bool:
    """Whether `prediction` chooses what the answer (a letter, letters, or the text of a choice) does; `tolerance` is not used."""
    return bool(found := chosen(prediction, sample.choices)) and found == chosen(sample.answer, sample.choices)


@lru_cache(maxsize=8192)
def chosen(text: str, choices: tuple[str, ...]) -> frozenset[int]:
    """Indices of the `choices` that `text` names; empty if it names none, or does not say which. A letter goes before a text."""
    bare = plain(text)
    bare = bare[opening.end() :] if (opening := _OPENING.match(bare)) and opening.end() < len(bare) else bare
    if found := _LETTER.fullmatch(bare):
        return _indices(found[1], choices) or _by_text(bare, choices)
    if _LETTERS.fullmatch(bare) and (several := _indices("".join(re.findall(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", bare)), choices)):
        return several if " or " not in bare else frozenset()
    if (whole := _by_text(bare, choices)) or not (found := _LABELLED.match(bare)):
        return whole
    letter, rest = _indices(found[1] or found[2], choices), bare[found.end() :]
    if not letter:
        return letter
    named = _by_text(rest, choices) or letter
    if named == letter and alike_choice(rest, choices[min(letter)]):
        return letter
    others = {index for single in _SINGLE.findall(rest) for index in _indices(single, choices)}
    return letter if named == letter and others <= letter else frozenset()


def _indices(letters: str, choices: tuple[str, ...]) -> frozenset[int]:
    """Where `letters` stand among the choices; empty if one of them is beyond."""
    found = frozenset(ord(letter.upper()) - ord("A") for letter in letters)
    return found if all(index < len(choices) for index in found) else frozenset()


def _by_text(text: str, choices: tuple[str, ...]) -> frozenset[int]:
    """The one choice that `text` is, word by word, or else as a quantity; empty if there is none or more than one."""
    same = frozenset(index for index, choice in enumerate(choices) if alike_choice(text, choice))
    if not same and (found := quantity(text)):
        measures = [quantity(choice) for choice in choices]
        same = frozenset(
            k for k, m in enumerate(measures) if m and (m.low, m.high) == (found.low, found.high) and set(found.unit) <= set(m.unit)
        )
    return same if len(same) == 1 else frozenset()


def alike_choice(text: str, choice: str) -> bool:
    """Whether `text` is that of `choice`; signs of LaTeX do not count."""
    return alike(text, choice) or (("$" in choice or "\\" in choice) and alike(_SIGNS.sub("", text), _SIGNS.sub("", choice)))
