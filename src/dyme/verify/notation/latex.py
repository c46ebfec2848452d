"""Mathematical answers in one notation: LaTeX, Unicode ("2√3") and plain text ("2*sqrt(3)", "10/3") become the same plain LaTeX.

Nothing is computed here: a model's text goes through string replacement alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from dyme.verify.notation.units import Unit, read_unit

LONGEST = 300
"""Most characters; a longer answer is compared as text."""

_CHARACTERS = {
    "×": "*",
    "·": "*",
    "⋅": "*",
    "∙": "*",
    "÷": "/",
    "π": r"\pi ",
    "°": "°",
    "º": "°",
    "≤": r"\leq ",
    "≥": r"\geq ",
    "∞": r"\infty ",
    "∪": r"\cup ",
    "∩": r"\cap ",
    "θ": r"\theta ",
    "α": r"\alpha ",
    "β": r"\beta ",
    "√": r"\sqrt ",
    "∛": r"\sqrt[3]",
    "≠": r"\neq ",
    "∅": r"\emptyset ",
    "∠": r"\angle ",
    "±": r"\pm ",
    "½": r"\frac{1}{2}",
    "¼": r"\frac{1}{4}",
    "¾": r"\frac{3}{4}",
    "\u2212": "-",
    "\u2013": "-",
    "\u2014": "-",
    "’": "'",
    "\u00a0": " ",
}
_SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SUPERSCRIPT = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+")
_BOXED = re.compile(r"\\(?:boxed|fbox) ?\{")
_WORDS = re.compile(
    r"\\(?:text|textnormal|mathrm|textbf|textrm|mathbf|mathbb|textit|mbox|operatorname|rm|bf)(?![a-zA-Z]) ?(?:\{([^{}]*)\})?"
)
_COMMA = re.compile(r"\{ ?, ?\}|(?<=[0-9])\\! ?(?=[0-9]{3})")
"""A comma between thousands, or a thin space in its place."""
_THIN = re.compile(r"\\! ?")
_LETTER_UNITS = {"s": "seconds", "h": "hours", "g": "grams", "l": "litres", "L": "litres"}
"""A unit if it is set upright behind a number; a variable elsewhere."""
_NOTHING = re.compile(
    r"\\(?:left|right|big|Big|displaystyle|hline|quad|qquad|thinspace)(?![a-zA-Z])"
    r"|(?<!\\)\\[,;: ]|~|(?<!\\)\$\$?|\\\$|\\[()]|\\\[|\\\]|^\*+|(?<!\*)\*+$|`"
)
_COMMANDS = (
    ("frac", re.compile(r"\\[dtc]frac(?![a-zA-Z])"), r"\\frac"),
    ("\\", re.compile(r"\\(?:cdot|times)(?![a-zA-Z])"), "*"),
    ("**", re.compile(r"\*\*(?!\*)"), "^"),
    ("x", re.compile(r"(?<=[0-9]) ?x ?(?=10 ?\^)"), "*"),
    ("\\div", re.compile(r"\\div(?![a-zA-Z])"), "/"),
    ("{bmatrix", re.compile(r"(?<=\{)bmatrix\}"), "pmatrix}"),
    ("\\le", re.compile(r"\\(?:le|leqq|leqslant)(?![a-zA-Z])"), r"\\leq "),
    ("<", re.compile(r"<=|=<"), r"\\leq "),
    ("\\ge", re.compile(r"\\(?:ge|geqq|geqslant)(?![a-zA-Z])"), r"\\geq "),
    (">=", re.compile(r">="), r"\\geq "),
    ("\\lt", re.compile(r"\\lt(?![a-zA-Z])"), "<"),
    ("\\gt", re.compile(r"\\gt(?![a-zA-Z])"), ">"),
    ("\\ne", re.compile(r"\\ne(?![a-zA-Z])"), r"\\neq "),
    ("!=", re.compile(r"!="), r"\\neq "),
    ("\\varnothing", re.compile(r"\\varnothing(?![a-zA-Z])"), r"\\emptyset "),
    ("\\circ", re.compile(r"(?:\^ ?(?:\{ ?)?)?\\circ(?![a-zA-Z])(?: ?\})?"), "°"),
    ("^", re.compile(r"\^ ?(?:\{ ?)?o(?![a-zA-Z])(?: ?\})?"), "°"),
    ("deg", re.compile(r"\\degree(?![a-zA-Z])|\b(?:degrees?|deg)\b"), "°"),
    ("%", re.compile(r"\\%"), "%"),
    ("sqrt", re.compile(r"(?<![\\a-zA-Z])sqrt ?(?=[({\[0-9])"), r"\\sqrt "),
    ("pi", re.compile(r"(?<![\\a-zA-Z])pi(?![a-zA-Z])"), r"\\pi "),
    ("", re.compile(r"(?<![\\a-zA-Z])(sin|cos|tan|log|ln)(?![a-zA-Z])"), r"\\\1 "),
    ("sqrt", re.compile(r"\\sqrt ?(?:(\[[0-9]{1,2}\]) ?)?\(([^()]*)\)"), r"\\sqrt\1{\2}"),
    ("sqrt", re.compile(r"\\sqrt ?([0-9]+|[a-zA-Z])"), r"\\sqrt{\1}"),
    ("frac", re.compile(r"\\frac ?([0-9])"), r"\\frac{\1}"),
    ("frac", re.compile(r"\\frac ?(\{(?:[^{}]|\{[^{}]*\})*\}) ?([0-9])"), r"\\frac\1{\2}"),
    ("^", re.compile(r"\^ ?\(([^()]*)\)"), r"^{\1}"),
    ("/", re.compile(r"(?<![\w.^/})])([0-9]+)/([0-9]+)(?= ?(?:[a-zA-Z]{1,2}(?![a-zA-Z])|\\[a-z]|\())"), r"\\frac{\1}{\2}"),
)
"""Condition on a text, the pattern to replace there, and its replacement."""
_THOUSANDS = re.compile(r"(?<![0-9,.])(?<![0-9] )[0-9]{1,3}(?:(?:,[0-9]{3})+|(?: [0-9]{3})+)(?! ?[0-9,/]|\^)")
_RELATION = re.compile(r"[=<>]|\\leq|\\geq|\\neq")
_NAME = re.compile(r"[A-Za-z]{3,}|[A-Za-z]+(?: [A-Za-z]+)+|[A-Z]{2}")
_VARIABLE = re.compile(r"(?:m *)?\\angle *[A-Z]{1,3}|\\?[A-Za-z]+(?:_\{?[A-Za-z0-9]{1,3}\}?)?(?:\([a-z]\))?")
_IS = re.compile(r"^(?:(?:the|so|its|answer|final) )*([A-Za-z]+(?: [A-Za-z]+){0,3}) is (?=[-+0-9\\(\[.])", re.IGNORECASE)
_UNIT = re.compile(
    r"(?:(?<=[0-9}).°]) ?|(?<=i) |(?<= )(?<!per ))((?:(?:square|sq\.?|cubic|cu\.?) )?"
    r"(?:units?|(?:centi|milli|kilo|deci)?(?:met(?:er|re)|gram|lit(?:er|re))s?|[ckmd]ms?|[km]gs?|ml|ins?|inch(?:es)?|ft|feet|foot|yds?|yards?"
    r"|mi|miles?|lbs?|oz|secs?|seconds?|mins?|minutes?|hrs?|hours?|(?<= )[mgshl]|° ?T?|%)"
    r"(?: ?(?:\^ ?)?(?:\{ ?)?[23](?: ?\})?)?(?: (?:squared|cubed))?)$"
)
_DOLLARS = re.compile(r"\\?\$ ?(?=[0-9.])|(?<=[0-9]) ?\\?\$$")
_ABOUT = re.compile(r" ?(?:≈|\\approx(?![a-zA-Z])) ?|^(?:about|approximately|roughly|approx\.?) ", re.IGNORECASE)
_UNDIVIDED = re.compile(r"(?<![\w.^/})])([0-9]+)/([0-9]+)([a-zA-Z])(?![a-zA-Z])")
_SINGLE_BRACES = re.compile(r"\{(\w)\}")
BLANK = re.compile(r"(?<![0-9.]) +| +(?![0-9.])")
"""A space that does not separate numbers: "2 1/2" is not 21/2."""


@dataclass(frozen=True, slots=True)
class Expression:
    """An answer in parts: the name before an equals sign, the rest, and its unit."""

    variable: str
    """"x" of "x=5", "f(x)" of "f(x)=x+1"; empty without one, and for a word ("Volume = 5")."""
    body: str
    """The rest in plain LaTeX, without formatting."""
    unit: Unit

    @property
    def canonical(self) -> str:
        """Return the body without spaces and needless braces: equal texts are equal mathematics."""
        return _SINGLE_BRACES.sub(r"\1", BLANK.sub("", self.body))

    @property
    def whole(self) -> str:
        """Return the body with its variable, for an equation."""
        return f"{self.variable}={self.body}" if self.variable else self.body


@lru_cache(maxsize=8192)
def expression(text: str) -> Expression:
    """Return the parts of `text` in one notation; empty for a text that is too long."""
    if len(text) > LONGEST:
        return Expression("", "", ())
    unit: Unit = ()
    if text.count("$") == 1 and _DOLLARS.search(text):
        text, unit = _DOLLARS.sub("", text), ("dollar",)
    plain = notation(text)
    variable, body = _split(plain)
    if found := _UNIT.search(body):
        named = read_unit(re.sub(r"(?<![{}\s^])[{}\s^]+(?=[23])|[{}]", "", found[1]).replace("T", "").lower()) or ()
        body, unit = (body[: found.start()].strip() if named else body), unit + named
    if not re.search(r"[(\[]|\\\{", body):
        body = _THOUSANDS.sub(lambda found: re.sub("[, ]", "", found[0]), body)
    return Expression(variable, body, unit)


def notation(text: str) -> str:
    """Return `text` in plain LaTeX on one line: `\\frac{a}{b}`, `\\sqrt{a}`, `\\pi`, `^`, `*`, degrees as "°"."""
    if not text.isascii():
        text = _SUPERSCRIPT.sub(lambda found: "^{" + found[0].translate(_SUPERSCRIPTS) + "}", text)
        text = "".join(_CHARACTERS.get(character, character) for character in text)
    if "{" in text or "\\!" in text:
        text = " ".join(_THIN.sub("", _COMMA.sub(",", text)).split())
    if (boxed := _BOXED.search(text)) and (end := text.rfind("}")) > boxed.end():
        text = text[boxed.end() : end]
    text = " ".join(_NOTHING.sub(" ", _WORDS.sub(_upright, text)).split())
    for sign, pattern, replacement in _COMMANDS:
        if sign in text:
            text = pattern.sub(replacement, text)
    return " ".join(text.split()).rstrip(".,; ")


def _upright(found: re.Match[str]) -> str:
    """Return the upright text of a command: words, or a unit of one letter."""
    word = found[1] or ""
    behind = found.string[max(0, found.start() - 2) : found.start()].rstrip("~ ")[-1:]
    return f" {_LETTER_UNITS.get(word.strip(' ~'), word) if behind.isdigit() or behind == '}' else word} "


def approximate(text: str) -> tuple[str, str]:
    """Return an answer and its rounded value: ("2√3", "3.46") of "2√3 ≈ 3.46"; ("x=3.46", "") of "x ≈ 3.46", ("3.46", "") of "≈ 3.46"."""
    left, *right = _ABOUT.split(text, maxsplit=1)
    if not right or not left:
        return (right or [left])[0], ""
    named = _NAME.fullmatch(left) or (_VARIABLE.fullmatch(left) and left != r"\pi")
    return (f"{left}={right[0]}", "") if named else (left, right[0])


def undivided(text: str) -> str:
    """Return `text` with 2/3x read as 2/(3x), as some mean it; in `notation` it is (2/3)x, as a calculator reads it."""
    return _UNDIVIDED.sub(r"\\frac{\1}{\2\3}", text)


def _split(text: str) -> tuple[str, str]:
    """Return (variable, rest), split at the only equals sign, with either side as the variable, at a colon after a word, or after "is"."""
    if found := _IS.match(text):
        return "", text[found.end() :]
    for sign in ("=", ":"):
        left, _, right = text.partition(sign)
        left, right = left.strip(), right.strip()
        if right and left and not _RELATION.search(right) and sign not in right and not _RELATION.search(left):
            if _NAME.fullmatch(left):
                return "", right
            if sign == "=" and _VARIABLE.fullmatch(left):
                return left.replace(" ", ""), right
            if sign == "=" and left[-1:].isdigit() and _VARIABLE.fullmatch(right) and right != r"\pi":
                return right.replace(" ", ""), left
    return "", text
