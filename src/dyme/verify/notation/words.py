"""Answers as plain characters and as words: answers that a reader takes as equal become equal texts."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from dyme.verify.notation.numerals import number

_VULGAR = {sign: f" {unicodedata.normalize('NFKC', sign).replace('⁄', '/')}" for sign in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅐⅛⅜⅝⅞⅑⅒↉"}
_INVISIBLE = [chr(c) for c in (0xAD, 0x61C, 0x180E, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070))]
"""Zero-width spaces, joiners, byte order and direction marks."""
_PLAIN = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212\uff0d", "-")
    | dict.fromkeys("“”„", '"')
    | dict.fromkeys("‘’`´", "'")
    | dict.fromkeys(_INVISIBLE)
    | {"º": "°", "⁄": "/", "∕": "/", "′": "'", "″": "''", "٫": ".", "٬": ",", "。": ".", "、": ", "}
    | _VULGAR
)
_FOREIGN_DIGIT = re.compile(r"[^\D0-9]")
_BOLD = re.compile(r"(?<![\w)}\]])\*\*(?=\S)([^*]+)(?<=\S)\*\*(?![\w({\[\\])")
_WRAPPED = re.compile(
    r"\\(?:boxed|fbox|text|textnormal|textbf|textrm|textit|mathbf|mathrm|mbox|underline)\s*\{(.+)\}|\$\$([^$]+)\$\$|\$([^$]+)\$"
    r"|\\\(((?:(?!\\\)).)+)\\\)|\\\[((?:(?!\\\]).)+)\\\]|\"([^\"]+)\"|'([^']+)'|__(.+)__"
)
_WRAP_STARTS, _WRAP_ENDS = tuple("\\$\"'_"), tuple("}$)]\"'_")
_CLOSING = (")", "]", "}")
_LAYERS = 4
"""Most wrappings that are removed."""
_POWER = re.compile("[⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+")
_ACCENTS = re.compile("[\u0300-\u036f]")
_PREAMBLE = re.compile(
    r"\(?(?:(?:so|thus|hence|therefore),? )?(?:the |my )?(?:final |correct |right |best )?(?:answer|option|choice)(?: is:?|:| =) ?",
    re.IGNORECASE,
)
_MARKS = "\u0591-\u05c7\u064b-\u065f\u0900-\u0963\u0970-\u109f\u1780-\u17d3"
"""Vowel signs of Hebrew, Arabic, Indic and Khmer scripts, which belong to words though Python's \\w leaves them out."""
_TOKEN = re.compile(
    r"(?:(?<![\w)])[-+])?(?:(?<![0-9.,])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|(?<![0-9])\.[0-9]+"
    rf"|(?:[^\W_]|[{_MARKS}])+"
    r"|[<>!]=|[+#<>=&%^€£¥₹₩₽±∓\u2190-\u22ff]|\$(?= ?[-+]?\.?[0-9])"
    r"|(?=[-:/*])(?:(?<=[0-9])[-:](?=[0-9])|(?<=[0-9] )[-:](?= [0-9])|(?<= )-(?= [0-9])|(?:(?<=[0-9])|(?<=[0-9] ))[/*]|[/*](?= ?[0-9]))"
)
"""Numbers, words, and the signs that carry a meaning: of currency and mathematics, and those between numbers."""
_SIGNS = str.maketrans({"≠": "!=", "≥": ">=", "≤": "<=", "×": "*", "÷": "/", "⋅": "*", "∙": "*"})
_PERCENT = re.compile(r"\bper ?cent\b")
_DATE = re.compile(r"(?<![0-9])(?:[0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{4})(?![0-9])")
_DATE_SIGN = re.compile("[-.]")
_INITIALS = re.compile(r"(?<![^\W_])[a-z](?:\.[a-z])+(?![^\W_])")
_ONES = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBER_WORDS = {word: value for value, word in enumerate(_ONES.split())} | {word: 10 * k for k, word in enumerate(_TENS.split(), start=2)}


def plain(text: str) -> str:
    r"""Return `text` on one line in plain characters, without emphasis, an opening such as "The answer is" and a final period.

    Wrappings of the whole text are removed too: \boxed{}, signs of mathematics, quotes; for every kind of answer alike.
    """
    if not text.isascii():
        text = _POWER.sub(lambda found: "^" + unicodedata.normalize("NFKC", found[0]), text.translate(_PLAIN))
        text = unicodedata.normalize("NFKC", text).translate(_PLAIN)
        text = _FOREIGN_DIGIT.sub(lambda found: str(unicodedata.decimal(found[0])), text)
    text = " ".join(text.split())
    text = _unwrapped(_BOLD.sub(r"\1", text) if "**" in text else text)
    opening = _PREAMBLE.match(text)
    if opening and opening.end() < len(text):
        text = _unwrapped(text[opening.end() :])
    return text


def _unwrapped(text: str) -> str:
    """Return `text` without emphasis, final punctuation and wrappings of the whole, unless nothing is left."""
    for _ in range(_LAYERS):
        before, text = text, text.strip("*` ")
        text = text.rstrip(".,;:\\ ") or text
        if text[-1:] in _CLOSING and sum(map(text.count, _CLOSING)) > sum(map(text.count, "([{")):
            text = text[:-1].rstrip("\\*` ") or text  # the end of "(Answer: 14)"
        found = _WRAPPED.fullmatch(text) if text[-1:] in _WRAP_ENDS and text[:1] in _WRAP_STARTS else None
        inner = found[found.lastindex or 0].strip("*` ") if found else ""
        text = inner if inner and _closed(inner) else text
        if text == before:
            break
    return text


def _closed(text: str) -> bool:
    """Return whether no brace in `text` closes one before it, as the first one in "1} and \\boxed{2" does."""
    depth = 0
    for sign in text if "}" in text else "":
        depth += (sign == "{") - (sign == "}")
        if depth < 0:
            return False
    return True


@lru_cache(maxsize=8192)
def tokens(text: str) -> tuple[str, ...]:
    """Return words, numbers and signs in order, lower case, without accents, apostrophes, punctuation; "1,000.0" is "1000", "P.M." "pm".

    A text that has none of them is one token, as it stands.
    """
    whole = plain(text).casefold()
    folded = whole.replace("'", "")
    if not folded.isascii():
        folded = unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", folded.translate(_SIGNS))))
    if "per" in folded:
        folded = _PERCENT.sub("%", folded)
    if folded.isascii() and folded.replace(" ", "").isalpha():
        return tuple(folded.split())
    folded = _DATE.sub(lambda date: _DATE_SIGN.sub("/", date[0]), folded)
    folded = _INITIALS.sub(lambda initials: initials[0].replace(".", ""), folded)
    found = [token if (value := number(token)) is None else str(value) for token in _TOKEN.findall(folded)]
    return tuple("and" if token == "&" else token for token in found) or ((whole,) if whole else ())


@lru_cache(maxsize=8192)
def words(text: str) -> tuple[str, ...]:
    """Return `tokens` without "the", and without a first "a" or "an", unless nothing else is left ("vitamin A", "A, C" keep their A)."""
    found = tokens(text)
    kept = found[1:] if found[:1] in (("a",), ("an",)) and len(found) > 1 and not lists_letters(found[1]) else found
    return tuple(word for word in kept if word != "the") or found


def lists_letters(token: str) -> bool:
    """Return whether an A before this token is a letter among others ("A, C", "A and C"), not an article."""
    return (len(token) == 1 and token.isalpha()) or token in ("and", "or")
