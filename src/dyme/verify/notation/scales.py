"""Words that multiply a number ("14k", "3 dozen", "2.5 million", "14万"), and numbers in English words ("forty two", "two and a half")."""

from __future__ import annotations

import re
from fractions import Fraction

from dyme.verify.notation.words import NUMBER_WORDS

_NAMES = {
    10: "tens 十", 12: "dozen", 100: "hundred 百", 10**3: "thousand thou k grand mille tausend 千 천 тыс тысяч", 10**4: "万 萬 만",
    10**5: "lakh lac", 10**6: "million mn mln mio millionen millón millones млн", 10**7: "crore cr", 10**8: "億 亿 억",
    10**9: "billion bn bln mrd milliard milliarde milliarden млрд", 10**12: "trillion tn trn 兆",
}  # fmt: skip
SCALES = {form: value for value, names in _NAMES.items() for name in names.split() for form in (name, f"{name}s")} | {"mil": 0, "mils": 0}
"""Factor of a word, in lower case, singular and plural; 0 for an ambiguous word (a million, or "mil" in Spanish)."""
_LETTERED = re.compile(r"(?<=[0-9]) ?(MM?|B|T)(?![A-Za-z])")
_LETTERS = {"M": " million", "MM": " million", "B": " billion", "T": " trillion"}
_MONEY = {"m": 10**6, "mm": 10**6, "b": 10**9, "t": 10**12}
"""Letters that multiply an amount of money; elsewhere they are units."""
_SCALE = re.compile(r"[ -]?([十百千万萬億亿兆천만억]|[^\W\d_]+)\.? ?")
_WORD = re.compile(r"([a-z]+)[ -]?")
_PARTS = {
    "half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10,
    "hundredth": 100, "thousandth": 1000,
}  # fmt: skip
_ONE_PART = re.compile(rf"(an?[ -]|one[ -])?({'|'.join(_PARTS)})(?: of)?(?: an?)?(?![a-z])")
_AND_PART = re.compile(r" and (?:an?|one|(three))[ -](half|quarter|third|fourth|quarters|fourths)(?![a-z])")
_SOME_PARTS = re.compile(rf"[ -](halves|{'|'.join(f'{part}s' for part in _PARTS if part != 'half')})(?![a-z])")
_POINT = re.compile(rf" point((?: (?:{'|'.join(word for word, value in NUMBER_WORDS.items() if value < 10)}))+)(?![a-z])")
_MOST_WORDS = 20


def spell_letters(text: str) -> str:
    """Return `text` with the M, B and T of "14M" in words, before lower case makes them equal to the m of "14m"."""
    return _LETTERED.sub(lambda found: _LETTERS[found[1]], text)


def scaled(value: Fraction, text: str, *, money: bool = False) -> tuple[Fraction, str] | None:
    """Return `value` times the scale words that `text` begins with, and the rest; None for an ambiguous word."""
    while found := _SCALE.match(text):
        scale = SCALES.get(found[1], _MONEY.get(found[1]) if money else None)
        if scale is None:
            break
        if not scale:
            return None
        value, text = value * scale, text[found.end() :]
    return value, text


def spelled(text: str) -> tuple[Fraction, str] | None:
    """Return the number in English words that `text` begins with ("one hundred and five", "two thirds", "half a"), and the rest."""
    if found := _ONE_PART.match(text):
        named = found[1] or found[2] in ("half", "quarter")  # "third" alone is an ordinal
        return (Fraction(1, _PARTS[found[2]]), text[found.end() :]) if named else None
    whole = _whole(text)
    if whole is None:
        return None
    value, end = whole
    rest = text[end:]
    if found := _POINT.match(rest):
        digits = "".join(str(NUMBER_WORDS[word]) for word in found[1].split())
        return value + Fraction(int(digits), 10 ** len(digits)), rest[found.end() :]
    if (parts := some_parts(rest)) and value < 100:
        return value / parts[0], parts[1]
    part, rest = and_part(rest)
    return value + part, rest


def and_part(text: str) -> tuple[Fraction, str]:
    """Return the half of " and a half", and the rest; 0 if `text` does not begin with one."""
    if not (found := _AND_PART.match(text)):
        return Fraction(0), text
    return Fraction(3 if found[1] else 1, _part(found[2])), text[found.end() :]


def some_parts(text: str) -> tuple[int, str] | None:
    """Return the divisor of the "halves" of "3 halves", and the rest."""
    return (_part(found[1]), text[found.end() :]) if (found := _SOME_PARTS.match(text)) else None


def _part(name: str) -> int:
    return 2 if name == "halves" else _PARTS[name.removesuffix("s")]


def _whole(text: str) -> tuple[Fraction, int] | None:
    """Return the whole number that `text` begins with, and its end: hundreds, tens, ones before each scale, scales in falling order."""
    total, group, last, limit, at, end = 0, 0, "", 10**18, 0, 0
    for _ in range(_MOST_WORDS):
        if not (found := _WORD.match(text, at)):
            break
        word, at = found[1], found.end()
        number, scale = NUMBER_WORDS.get(word), SCALES.get(word, 0)
        if number is not None and (last in ("", "and", "scale", "hundred") or (last == "tens" and 0 < number < 10)):
            group, last = group + number, "tens" if number >= 20 else "ones"
        elif word == "hundred" and (last == "a" or (last in ("ones", "tens") and 0 < group < 100)):
            group, last = max(group, 1) * 100, "hundred"
        elif word == "dozen" and last in ("", "a"):
            group, last = 12, "ones"
        elif scale >= 1000 and len(word) > 2 and scale < limit and (group or last == "a"):
            total, group, last, limit = total + max(group, 1) * scale, 0, "scale", scale
        elif (word == "and" and last in ("hundred", "scale")) or (word in ("a", "an") and not last):
            last = "and" if word == "and" else "a"
            continue
        else:
            break
        end = found.end(1)
    return (Fraction(total + group), end) if end else None
