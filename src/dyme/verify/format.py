"""Check that a completion thinks and then answers: the format reward r_f of the reference code, and the gate before correctness.

The reference code accepts "Answer: 5" with no thinking at all, and a right answer with no marker. Here a completion is formatted
only if the marker occurs once, some words precede it and a one-line answer follows. Without a marker there is no format to keep: the
whole completion is thinking and answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_PUNCTUATION = " \t\n.,:;!?()[]{}\"'`*"
"""Characters that are not an answer alone: a model that saw the marker as (Answer: ..) often emits ")" and stops."""
_EMPHASIS_ENDS = re.compile(r"\A\*{1,3}(?=\s)")
"""The rest of emphasis around the marker: "**Answer:** 14"."""
_WORDS_WITHOUT_BLANKS = re.compile("[\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff]")
"""A character of Chinese or Japanese, which count as a word each."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """The parts of a completion: if it is not formatted, `answer` is None and `reason` says why."""

    thinking: str
    """The text before the (first) marker; the whole text if there is none."""
    answer: str | None
    formatted: bool
    reason: str
    """"" or: no marker, marker repeated, thinking too short, empty answer, answer runs on, cut off (set by `rules`)."""


def parse(text: str, *, marker: str, min_thinking_words: int) -> Parsed:
    """Split a completion at `marker`, which must occur exactly once, as written; an empty marker splits nothing.

    At least `min_thinking_words` words must come before it (a word contains a letter or a digit, and a Chinese or Japanese
    character is one), and after it a single line that is not mere punctuation, in which emphasis of the marker may end.
    """
    if not marker:
        whole = text.strip()
        return Parsed(whole, whole or None, bool(whole), "" if whole else "empty answer")
    before, _, after = text.partition(marker)
    thinking, answer = before.strip(), _EMPHASIS_ENDS.sub("", after.strip()).strip()
    reason = ""
    if marker not in text:
        reason = "no marker"
    elif marker in after:
        reason = "marker repeated"
    elif _words(thinking) < min_thinking_words:
        reason = "thinking too short"
    elif not answer.strip(_PUNCTUATION):
        reason = "empty answer"
    elif len(answer.splitlines()) > 1:
        reason = "answer runs on"
    return Parsed(thinking, None if reason else answer, not reason, reason)


def _words(text: str) -> int:
    if not text.isascii():
        text = _WORDS_WITHOUT_BLANKS.sub(r" \g<0> ", text)
    return sum(any(map(str.isalnum, word)) for word in text.split())
