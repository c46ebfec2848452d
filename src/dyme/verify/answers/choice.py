r"""Kind `choice`: multiple choice, answered by letter or by text (MathVerse's and A-OKVQA's multiple choice: accuracy).

"B", "(B)", "b.", "option B", "B: 12 cm" and "12 cm" all choose B, and so does its text in another notation (30° for $30^{\circ}$).
A letter is tried before a text, and the exact text before its other readings. An answer that chooses several, or a letter with another
choice's text, is wrong, unless the target itself is several letters ("C and D"): then exactly these are right.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

from dyme.types import Sample
from dyme.verify.answers.mathematics import EQUAL
from dyme.verify.answers.quantity import quantity
from dyme.verify.answers.text import alike
from dyme.verify.notation.arithmetic import Value, value
from dyme.verify.notation.latex import BLANK, Expression, expression
from dyme.verify.notation.words import plain

_OPENING = re.compile(
    r"(?:(?:so|thus|hence|therefore),? )?(?:(?:it|this) is )?(?:(?:the )?(?:correct |right )?(?:option|choice|answer|letter)s? (?:is )?)?",
    re.IGNORECASE,
)
_LETTER = re.compile(
    r"[(\[{<]?([A-Za-z])[)\]}>]?[.:,!]?(?: is (?:the )?(?:(?:correct|right|best)(?: (?:answer|option|choice|one))?|answer))?", re.IGNORECASE
)
_LETTERS = re.compile(r"[(\[]?[A-Za-z][)\]]?(?:(?: ?[,;/&+] ?| )(?:and |or )?[(\[]?[A-Za-z][)\]]?)++")
_LABELLED = re.compile(r"(?:[(\[]([A-Za-z])[)\]][.:]?|([A-Za-z]) ?[.:)]) ?(?=\S)")
_BESIDE = re.compile(r"[(\[]?([A-Za-z])[)\]]?(?: ?\((.+)\)| ?[-,=] ?(.+)| (.+))")
"""A letter and a possible text of its choice: "B 12 cm", "B - 12 cm", "B (12 cm)"."""
_OPENED = re.compile(r"([(\[]?)([A-Za-z])(?![\w^'])[)\]]?( is(?= ))?(.+)")
"""A letter and the text after it."""
_LETTER_BESIDE = re.compile(r"([A-Z]) [-$\\√0-9(][^A-Z]*")
"""A letter and a value, "C 40", where no text shows whether it belongs to the letter."""
_PICTURED = ("",) * 26
"""Choices whose texts are not known."""
_SINGLE = re.compile(r"(?<![\w$\\])[A-Z](?![\w$'])")
_SIGNS = re.compile(r"[$\\{}]|\\(?:left|right|mathrm|text)(?![a-z])")
_MONEY = re.compile("[€£¥₹]")
_MATHEMATICS = re.compile(r"[0-9\\√π]")


def same_choice(prediction: str, sample: Sample, tolerance: float = 0.0) -> bool:
    """Return whether `prediction` chooses the same as the answer (a letter, letters, or the text of a choice); `tolerance` is not used."""
    return bool(found := chosen(prediction, sample.choices)) and found == chosen(sample.answer, sample.choices)


def same_letter(prediction: str, sample: Sample, tolerance: float = 0.0) -> bool:
    """Return whether `prediction` chooses the answer's letter where the choices are in the picture, and so their texts unknown."""
    said = plain(prediction)
    if beside := _LETTER_BESIDE.fullmatch(said):
        said = beside[1]
    return bool(found := chosen(said, _PICTURED)) and found == chosen(sample.answer, _PICTURED)


@lru_cache(maxsize=8192)
def chosen(text: str, choices: tuple[str, ...]) -> frozenset[int]:
    """Return the indices of the `choices` that `text` names; empty if it names none or is ambiguous. A letter is tried before a text."""
    whole = plain(text)
    if not _LETTER.fullmatch(whole) and (same := _matching(_same_letters(whole, choices))):
        return same
    opening = _OPENING.match(whole)
    bare = whole[opening.end() :] if opening and opening.end() < len(whole) else whole
    if found := _LETTER.fullmatch(bare):
        return _indices(found[1], choices) or _by_text(bare, choices)
    if _LETTERS.fullmatch(bare) and (several := _indices("".join(re.findall(r"(?<![A-Za-z])[A-Za-z](?![A-Za-z])", bare)), choices)):
        return several if " or " not in bare else frozenset()
    named = _by_text(whole, choices) or (_by_text(bare, choices) if bare != whole else frozenset())
    if named and not _contradicted(bare, named, choices):
        return named
    return _labelled(bare, choices)


def _contradicted(text: str, named: frozenset[int], choices: tuple[str, ...]) -> bool:
    """Return whether `text` is another choice's letter before the text of the choice `named`.

    An article is not such a letter, nor is a variable: a letter that the choice has too, or a small one before an equals sign ("a = 5").
    """
    if not (found := _OPENED.fullmatch(text)):
        return False
    bracket, letter, verb, rest = found.groups()
    index = _indices(letter, choices)
    if not index or index == named or any(_mathematics(choices[k])[0].variable == letter for k in named):
        return False
    if not bracket and letter.islower() and (verb or rest.lstrip().startswith("=")):
        return False
    if text[:2] in ("a ", "A ") and not verb and rest[1:2].isalnum() and (letter == "a" or not _MATHEMATICS.search(rest)):
        return False
    return any(_by_text(said, choices) == named for said in (rest.strip(), rest.lstrip(" -.,:=/")))


def _labelled(text: str, choices: tuple[str, ...]) -> frozenset[int]:
    """Return the choice whose letter begins `text`: any words may follow "B." or "(B)", only that choice's words a bare "B"."""
    if found := _BESIDE.fullmatch(text):
        letter, rest = _indices(found[1], choices), found[2] or found[3] or found[4]
        if letter and _by_text(rest, choices) == letter:
            return letter
    if not (found := _LABELLED.match(text)):
        return frozenset()
    letter, rest = _indices(found[1] or found[2], choices), text[found.end() :]
    if not letter:
        return letter
    named = _by_text(rest, choices) or letter
    if named == letter and alike_choice(rest, choices[min(letter)]):
        return letter
    others = {index for single in _SINGLE.findall(rest) for index in _indices(single, choices)}
    return letter if named == letter and others <= letter else frozenset()


def _indices(letters: str, choices: tuple[str, ...]) -> frozenset[int]:
    """Return the indices of `letters` among the choices; empty if there is no such choice for one of them."""
    found = frozenset(ord(letter.upper()) - ord("A") for letter in letters)
    return found if all(index < len(choices) for index in found) else frozenset()


def _by_text(text: str, choices: tuple[str, ...]) -> frozenset[int]:
    """Return the one choice that equals `text`: exactly, else word by word, else in another notation, else as a quantity.

    Empty if no choice does, or more than one in the first of these ways that finds any.
    """
    same = _same_letters(text, choices) or {index for index, choice in enumerate(choices) if alike_choice(text, choice)}
    if not same and _MATHEMATICS.search(text):
        same = {index for index, choice in enumerate(choices) if _same_notation(text, choice)}
    if not same and (found := quantity(text)):
        measures = [quantity(choice) for choice in choices]
        same = {k for k, m in enumerate(measures) if m and (m.low, m.high) == (found.low, found.high) and set(found.unit) <= set(m.unit)}
    return _matching(same)


def _matching(same: set[int]) -> frozenset[int]:
    return frozenset(same if len(same) == 1 else ())


def _same_letters(text: str, choices: tuple[str, ...]) -> set[int]:
    """Return the indices of the choices that equal `text` (which is plain) except for case, or for case and spaces."""
    wanted, texts = text.casefold(), _casefolded(choices)
    if wanted in texts:
        return {index for index, choice in enumerate(texts) if choice == wanted}
    wanted = BLANK.sub("", wanted)
    return {index for index, choice in enumerate(texts) if BLANK.sub("", choice) == wanted}


@lru_cache(maxsize=8192)
def _casefolded(choices: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(plain(choice).casefold() for choice in choices)


def _same_notation(text: str, choice: str) -> bool:
    """Return whether `text` is `choice` in another notation, or has its value; a unit may be left out."""
    (said, said_value), (meant, meant_value) = _mathematics(text), _mathematics(choice)
    if not set(said.unit) <= set(meant.unit) or (said.variable and meant.variable and said.variable != meant.variable):
        return False
    if said.body and said.canonical == meant.canonical:
        return True
    if said_value is None or meant_value is None:
        return False
    return math.isclose(said_value, meant_value, rel_tol=EQUAL)


@lru_cache(maxsize=8192)
def _mathematics(text: str) -> tuple[Expression, Value | None]:
    read = expression(plain(text))
    return read, value(read.body)


def alike_choice(text: str, choice: str) -> bool:
    """Return whether `text` equals the text of `choice`; signs of LaTeX do not count."""
    if alike(text, choice):
        return True
    return ("$" in choice or "\\" in choice) and not _MONEY.search(text) and alike(_SIGNS.sub("", text), _SIGNS.sub("", choice))
