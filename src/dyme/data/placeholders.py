"""Placeholders of pictures in texts, <image> (LLaVA's data sets), <image1> or <image 1> (others), replaced by words.

Pictures precede a question whatever its text says, and a model's processor would take <image> for one picture more. So a
placeholder before or after a question is left out, and one within a text becomes "the image", or "image 2" where a row has several.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dyme.errors import DataError

_PLACE = re.compile(r"<image[ _]?([1-9][0-9]?)?>")
_BEFORE = re.compile(rf"\A\s*(?:{_PLACE.pattern}\s*)+")
AROUND = "questions begin or end in <image>, which is left out: pictures precede the question anyway"
WITHIN = 'rows hold <image> within a text, which is written as "the image", or as "image 2" where there are several'


def in_words(row: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], list[str]]:
    """Return the row without placeholders of pictures in question, rationale and choices, and those of the notes above that apply.

    Raises DataError for a placeholder in the question of a row without pictures, and for one of a picture that the row does not have.
    """
    several = row.get("images")
    count = len(several) if isinstance(several, list) else int(bool(row.get("image")))
    texts = {name: row[name] for name in ("question", "rationale") if isinstance(row.get(name), str) and "<image" in row[name]}
    choices = row.get("choices")
    choices = choices if isinstance(choices, list) and any("<image" in one for one in choices if isinstance(one, str)) else None
    found = [number for text in [*texts.values(), *(choices or [])] if isinstance(text, str) for number in _PLACE.findall(text)]
    if not found:
        return row, []
    if not count:
        raise DataError(
            f"{where}: the text holds a place for a picture (<image>), but the row has no picture; name it in image, or remove the place"
        )
    if beyond := next((number for number in found if number and int(number) > count), None):
        have = f"{count} picture{'s' * (count > 1)}"
        raise DataError(f"{where}: the text holds <image{beyond}>, but the row has {have}; name all of them in images")
    out, notes = dict(row), set()
    if "question" in texts:
        bare = _BEFORE.sub("", texts["question"])
        bare = bare[: _end(bare)].strip()
        notes |= {AROUND} if bare != texts["question"].strip() else set()
        texts["question"] = bare
    for name, text in texts.items():
        out[name] = _named(text, count)
        notes |= {WITHIN} if out[name] != text else set()
    if choices:
        out["choices"] = [_named(one, count) if isinstance(one, str) else one for one in choices]
        notes.add(WITHIN)
    return out, sorted(notes)


def _end(text: str) -> int:
    """Return the end index of `text` without the placeholders behind it: <image>, or numbered ones on separate lines."""
    places = [*_PLACE.finditer(text)]
    end = len(text.rstrip())
    for k in range(len(places) - 1, -1, -1):
        begin = places[k - 1].end() if k else 0
        gap = text[begin : places[k].start()]
        kept = gap.rstrip()
        if places[k].end() != end or (places[k][0] != "<image>" and "\n" not in gap[len(kept) :]):
            break
        end = begin + len(kept)
    return end


def _named(text: str, count: int) -> str:
    """Return `text` with each placeholder as words that fit its sentence; placeholders without a number are counted."""
    running = 0

    def words(match: re.Match[str]) -> str:
        nonlocal running
        running += 1
        before = text[: match.start()].rstrip().casefold()
        if count > 1:
            return f"image {match[1] or min(running, count)}"
        return "image" if before.endswith((" the", " this", " that")) or before in ("the", "this", "that") else "the image"

    return _PLACE.sub(words, text)
