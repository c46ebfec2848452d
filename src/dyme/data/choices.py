"""Options of a multiple-choice question: show them in a prompt, find the one that an answer names, read them from a text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from string import ascii_uppercase

from dyme.errors import quoted

LETTERS = ascii_uppercase
_LABEL = r"\(?([A-Z])\)?\s*[:.)]\s*"
_HEAD = re.compile(r"\n[^\S\n]*(?:Choices|Options)\s*:", re.IGNORECASE)
_ONE = re.compile(r"[(\[]?([A-Za-z])[)\]]?[.:]?")
_SEVERAL = re.compile(r"[A-Z](?:(?:\s*[,;&/]\s*(?:and\s+)?|\s+and\s+|\s+)[A-Z])+")


def shown(question: str, choices: Sequence[str]) -> str:
    """Return `question` as a prompt shows it, its options below it, one a line, "(A) ..."; unchanged if there are none."""
    lines = [f"({letter}) {choice}" for letter, choice in zip(LETTERS, choices, strict=False)]
    return "\n".join([question, "Choices:", *lines]) if lines else question


def unlettered(choices: Sequence[str]) -> list[str]:
    """Return the options' texts without leading letters ("A: 40", "(A) 40", "A. 40"), removed only if all have theirs in order."""
    found = [re.match(_LABEL, choice) for choice in choices]
    texts = [choice[match.end() :].strip() for choice, match in zip(choices, found, strict=True) if match]
    ordered = all(match and match[1] == letter for match, letter in zip(found, LETTERS, strict=False))
    return texts if ordered and all(texts) else [choice.strip() for choice in choices]


def letter_of(answer: str, choices: Sequence[str]) -> str:
    """Return the letter, or letters ("C and D"), of the options that `answer` names by letter or by text.

    Raises ValueError with the reason if it names none of them, or may mean two.
    """
    last = LETTERS[len(choices) - 1]
    same = [k for k, choice in enumerate(choices) if choice == answer]
    same = same or [k for k, choice in enumerate(choices) if choice.casefold() == answer.casefold()]
    found = _ONE.fullmatch(answer)
    letter = found[1].upper() if found and found[1].upper() <= last else ""
    if len(same) > 1 and not letter:
        raise ValueError(f"answer {quoted(answer)} is the text of two choices; write its letter")
    if same and letter and same != [LETTERS.index(letter)]:
        raise ValueError(f"answer {quoted(answer)} is the letter of one choice and the text of another; change the texts")
    if letter or same:
        return letter or LETTERS[same[0]]
    several = re.findall(r"\b[A-Z]\b", answer) if _SEVERAL.fullmatch(answer) else []
    if several and max(several) <= last:
        return " and ".join(several)
    raise ValueError(f"answer {quoted(answer)} is neither a letter from A to {last} nor one of the choices; correct one of them")


def split(text: str) -> tuple[str, list[str]]:
    r"""Return a question and its options from a text that ends in "Choices:\nA: 40\nB: 60" (Geo170K, MathVerse); else the text and []."""
    heads = list(_HEAD.finditer(text))
    if not heads:
        return text.strip(), []
    _, *parts = re.split(rf"(?:^|\n)[^\S\n]*{_LABEL}", text[heads[-1].end() :])
    letters, options = parts[::2], [option.strip() for option in parts[1::2]]
    if len(options) < 2 or "".join(letters) != LETTERS[: len(letters)] or not all(options):
        return text.strip(), []
    return text[: heads[-1].start()].strip(), options
