"""Units of measurement as words: "cm²", "square centimetres" and "sq cm" are the same, and "emails" stands for "emails per day"."""

from __future__ import annotations

import re
from functools import lru_cache

from dyme.verify.notation.scales import SCALES
from dyme.verify.notation.words import NUMBER_WORDS

Unit = tuple[str, ...]
"""The words of a unit, in singular and in full; empty for none."""

MOST_WORDS = 6
_ALIASES = {
    alias: name
    for name, aliases in {
        "centimetre": "cm centimeter", "millimetre": "mm millimeter", "metre": "m meter", "kilometre": "km kilometer", "inch": "in ''",
        "foot": "ft feet '", "yard": "yd", "mile": "mi", "gram": "g gm gramme", "kilogram": "kg kilo", "milligram": "mg",
        "pound": "lb £ gbp quid",
        "ounce": "oz", "litre": "l liter", "millilitre": "ml milliliter", "second": "s sec", "minute": "min", "hour": "h hr",
        "day": "dy", "week": "wk", "month": "mo mth", "year": "yr", "hectare": "ha", "kilowatt": "kw", "hertz": "hz",
        "megabyte": "mb", "gigabyte": "gb", "terabyte": "tb", "kilobyte": "kb", "calorie": "cal",
        "kilocalorie": "kcal", "microgram": "µg μg mcg ug", "micrometre": "µm μm um micrometer", "nanometre": "nm nanometer",
        "decimetre": "dm decimeter", "centilitre": "cl centiliter", "decilitre": "dl deciliter", "cent": "¢",
        "dollar": "$ us$ usd buck", "euro": "€ eur", "yen": "¥ jpy", "rupee": "₹ inr rs", "won": "₩ krw", "rouble": "₽ rub ruble",
        "franc": "chf", "yuan": "cny rmb", "canadian dollar": "ca$ c$ cad", "australian dollar": "au$ a$ aud",
        "%": "percent pct percentage", "degree": "° deg", "celsius": "c celsius centigrade", "fahrenheit": "f", "point": "pt",
        "unit": "u", "person": "people", "child": "children", "man": "men", "woman": "women", "loaf": "loaves", "scarf": "scarves",
        "half": "halves", "foul": "fouls", "per": "/ each a an", "tooth": "teeth", "mouse": "mice", "goose": "geese", "piece": "pc",
    }.items()
    for alias in aliases.split()
}  # fmt: skip
_KNOWN = set(_ALIASES.values())
_SPEED = re.compile(r"(?<![a-z])([mk])ph(?![a-z])")
_CONTINUING = (
    "or and to plus minus times x divided not than more less fewer point st nd rd th nor but except maybe perhaps least most"
    " approximately between until pi root answer factorial negative sin cos tan log ln und oder ou et y o"
)
_NEVER = {*_CONTINUING.split(), *NUMBER_WORDS, *SCALES}
"""Words that continue or negate a number."""
_POWERS = {"square": "^2", "sq": "^2", "squared": "^2", "cubic": "^3", "cu": "^3", "cubed": "^3"}
_UNIT_TEXT = re.compile(r"(?:[^\W\d_]|['%°$€£¥₹₩₽¢/. -]|(?<=[a-z])\^?[{(]?[23][)}]?(?![0-9]))*")
_UNIT_TOKEN = re.compile(r"((?<![^\W\d_])(?:us|au|ca|[ac])\$|(?:[^\W\d_]|')+|[%°$€£¥₹₩₽¢/])(?:\^?[{(]?([23])[)}]?)?")


@lru_cache(maxsize=8192)
def read_unit(text: str) -> Unit | None:
    """Return `text` (in lower case) as a unit; None if it cannot be one. "per cent" is "%", a power stays with its unit: "metre^2"."""
    text = text.strip(" .").replace("per cent", "%")
    if "ph" in text:
        text = _SPEED.sub(lambda found: {"m": "mile per hour", "k": "kilometre per hour"}[found[1]], text)
    if not _UNIT_TEXT.fullmatch(text):
        return None
    out: list[str] = []
    waiting = ""
    for word, power in _UNIT_TOKEN.findall(text):
        if word in _NEVER:
            return None
        if word in ("squared", "cubed") and out:
            out[-1] += _POWERS[word]
        elif word in _POWERS:
            waiting = _POWERS[word]
        else:
            name = _ALIASES.get(word) or _ALIASES.get(word[:-1] if len(word) == 3 and word[-1] == "s" else singular(word)) or singular(word)
            if len(name) == 1 and name.isalpha():
                return None  # a variable
            out.append(name + (f"^{power}" if power else waiting))
            waiting = ""
    return tuple(out) if len(out) <= MOST_WORDS and not waiting and out != ["per"] else None


def singular(word: str) -> str:
    """Return an English noun without its plural ending, judged by spelling; a singular may lose its s, on both sides alike."""
    if len(word) < 4 or word.endswith("ss"):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes")):
        return word[:-2]
    return word.removesuffix("s")


def agree(one: Unit, other: Unit) -> bool:
    """Return whether two units may be the same: equal, or one leaves out words of the other ("emails", "emails per day")."""
    return set(one) <= set(other) or set(other) <= set(one)


def differ(said: Unit, asked: Unit) -> bool:
    """Return whether two units surely differ; for a unit of several words ("feet per second") all words must be known."""
    if agree(said, asked) or (len(asked) > 1 and not known(said)):
        return False
    return len(said) == len(asked) == 1 or known(asked)


def known(unit: Unit) -> bool:
    """Return whether all words of a unit are known units."""
    return all(word.partition("^")[0] in _KNOWN for word in unit)
