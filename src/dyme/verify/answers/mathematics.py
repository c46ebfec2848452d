r"""Kind `math`: mathematical answers (MathVerse's free form, Geometry3K): 15/8 = \frac{15}{8} = 1.875, 2\sqrt{3} = \sqrt{12}, x=5 = 5.

Texts and values are compared first, as this is cheap and exact. Only answers with variables, intervals or sets are sent to math-verify,
in a separate process with a wall limit (`worker.py`). They must pass an allow-list of signs and commands and limits on powers, and are
read by math-verify's LaTeX grammar alone: its reader of plain expressions evaluates them with Python.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from functools import lru_cache

from dyme.types import Judgement, Sample
from dyme.verify import worker
from dyme.verify.answers.quantity import Quantity, near, quantity
from dyme.verify.notation.arithmetic import Value, value
from dyme.verify.notation.latex import LONGEST as LONGEST_ANSWER
from dyme.verify.notation.latex import Expression, approximate, expression, undivided
from dyme.verify.notation.units import Unit, agree, differ, known, read_unit
from dyme.verify.notation.words import plain

LONGEST = 200
"""Most characters of an expression for math-verify."""
DEEPEST = 8
"""Most brackets within brackets."""
MOST_DIGITS = 15
"""Most digits of a number."""
LARGEST_POWER = 100
"""Largest product of the numbers of an exponent, and of all exponents of brackets, which are multiplied out."""
COARSEST = 0.02
"""Relative difference up to which rounding counts: 0.1 is not 0.14 rounded, but 0.33 is a third."""
ATTEMPTS = 2
"""Number of times that a slow pair is compared."""
MOST_LATE = 1024
"""Most slow pairs remembered at a time."""
EQUAL = 1e-10
"""Relative difference up to which two values are equal if one is irrational."""

_GREEK = "pi theta alpha beta gamma lambda phi omega"
_COMMANDS = f"frac sqrt sin cos tan sec csc cot log ln cup cap infty leq geq neq pm in emptyset cdot {{ }} {_GREEK}".split()
_ALLOWED = re.compile(rf"(?:[A-Za-z0-9 +\-*/^_=<>()\[\]{{}}.,:|']|\\(?:{'|'.join(map(re.escape, _COMMANDS))})(?![a-zA-Z]))*")
_FUNCTION = re.compile(r"\\(?:sin|cos|tan|sec|csc|cot|log|ln)(?![a-z])")
_WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{4,}")
_EXPONENT = re.compile(r"(.?) ?\^ *(\{[^{}]*\}|\\?\w+|.)")
_TOWER = re.compile(r"\^ ?(?:\{[^{}]*\}|[0-9]+|[A-Za-z]|\\[a-z]+) ?\^|\^ ?\{[^{}]*\{")
_APART = re.compile(r"[0-9.] +[0-9.]")
_SCIENTIFIC = re.compile(r"[0-9.]\s*[eE]\s*(?:[-+]\s*)?[0-9]")
_PER_LETTER = re.compile(r"/ ?[hs](?![A-Za-z])|[°] ?[CF](?![A-Za-z])|(?<=[0-9])e(?=[-+]?[0-9])")
"""Letters that are not variables: of km/h, of 20°C, of 1e3."""
_VARIABLE = re.compile(rf"(?<![A-Za-z])[A-Za-ln-z](?![A-Za-z])|(?<![A-Za-z])(?:{_GREEK.replace(' ', '|')})(?![A-Za-z])")
_ATTACHED = re.compile(r"[0-9}][A-Za-z]|^[^A-Za-z]*[A-Za-z]{2}$")
_PHRASE = re.compile(r"[a-z]+(?:[ '-]+[a-z]+)*")
_LONG_NUMBER = re.compile(rf"[0-9.]{{{MOST_DIGITS + 1},}}")
_BASE = re.compile(r"[0-9] ?_")
"""A number's base, which math-verify leaves out: 40_8 is not 40_9."""
_NUMERAL = re.compile(r"-?(?:[0-9]+(?:\.([0-9]+))?|\.([0-9]+))")


def same_mathematics(prediction: str, sample: Sample, tolerance: float) -> Judgement:
    r"""Return whether `prediction` equals the answer; numbers within `tolerance` of it, or rounded as `_near` says.

    "x=5" answers "5" and the other way round, a unit or degree sign may be left out but not changed, brackets of intervals count.
    2/3x is read as (2/3)x, and in a prediction as 2/(3x) too; what follows "≈" must be what precedes it, rounded.
    Raises ConfigError if math-verify is needed but not installed.
    """
    prediction, target = plain(prediction), plain(sample.answer)
    if prediction == target or max(len(prediction), len(target)) > LONGEST_ANSWER:
        same = bool(prediction) and prediction == target
        return Judgement(same, float(same))
    exact, rounded = approximate(prediction)
    wanted = expression(approximate(target)[0])
    if rounded and not (_rounds(exact, rounded) and _fits(expression(rounded).unit, wanted.unit, sample.unit)):
        return Judgement(False, 0.0)
    for reading in dict.fromkeys((exact, undivided(exact))):
        found = expression(reading)
        said = same_expression(found, wanted, tolerance, sample.unit)
        if said is None:
            said = same_symbolically(found.whole, wanted.whole)
        if said is None:
            return Judgement(False, 0.0, "answer takes too long to compare")
        if said:
            return Judgement(True, 1.0)
    return Judgement(False, 0.0)


def same_expression(found: Expression, wanted: Expression, tolerance: float, unit: str = "") -> bool | None:
    """Return whether two expressions are equal, as far as text and value show; None if algebra is needed."""
    if not _fits(found.unit, wanted.unit, unit):
        return False
    named_alike = not (found.variable and wanted.variable) or found.variable == wanted.variable
    if named_alike and found.canonical == wanted.canonical and found.body:
        return True
    value_found, value_wanted = value(found.body), value(wanted.body)
    if named_alike and value_found is not None and value_wanted is not None:
        return _near(value_found, value_wanted, tolerance, found.canonical, wanted.canonical)
    if named_alike and (measured := _measured(wanted)) and (other := _measured(found)):
        return _fits(other.unit + found.unit, measured.unit + wanted.unit, unit) and near(other, measured, tolerance)
    if named_alike and (words := _words(wanted.body)):
        return words == _words(found.body)
    if value_wanted is not None and not _FUNCTION.search(found.body):
        return False
    if value_found is not None and not _FUNCTION.search(wanted.body):
        return False
    return None if readable(found.whole) and readable(wanted.whole) else False


def _measured(read: Expression) -> Quantity | None:
    """Return the body as a number with a unit in words; None for algebra, whose letters are variables ("2a", "5 y", "9t^2")."""
    if not (found := quantity(f"${read.body}" if "dollar" in read.unit else read.body)):
        return None
    plain_words = _PER_LETTER.sub("", read.body)
    if _VARIABLE.search(plain_words) or (not known(found.unit) and _ATTACHED.search(plain_words)):
        return None
    return found


def _words(body: str) -> str:
    """Return an answer of words alone, in lower case; "" for any other, and for the letters that name a figure ("AB")."""
    folded = body.casefold().rstrip("!?. ")
    return folded if _PHRASE.fullmatch(folded) and (len(max(folded.split(), key=len)) > 2 or folded == "no") else ""


@lru_cache(maxsize=1024)
def _unit(text: str) -> Unit:
    """Return a row's unit, given in LaTeX or in words, as words."""
    return (read.unit if (read := expression(f"1 {text}")).body == "1" else ()) or read_unit(plain(text).casefold()) or ()


def _fits(said: Unit, written: Unit, unit: str) -> bool:
    """Return whether an answer's unit may be the target's: the one `written` there, else the row's, in any spelling."""
    return agree(said, written) if written else not differ(said, _unit(unit))


def _rounds(exact: str, rounded: str) -> bool:
    """Return whether the rounded value that an answer gives fits its exact value, to the decimals that are written."""
    written = expression(rounded)
    meant, said, decimals = value(expression(exact).body), value(written.body), _decimals(written.canonical)
    if meant is None or said is None or decimals is None:
        return False
    return abs(float(meant) - float(said)) <= 0.5 * 10.0**-decimals * (1 + EQUAL)


def readable(text: str) -> bool:
    """Return whether math-verify may see `text`: plain LaTeX of the allowed signs, without words, towers of powers and long numbers."""
    if len(text) > LONGEST or not _ALLOWED.fullmatch(text) or _WORD.search(text) or _deep(text):
        return False
    if "**" in text or _APART.search(text) or _SCIENTIFIC.search(text) or _LONG_NUMBER.search(text) or _BASE.search(text):
        return False
    multiplied = 1
    for base, exponent in _EXPONENT.findall(text):
        if "^" in exponent:
            return False
        power = math.prod(max(1, int(factor)) for factor in re.findall("[0-9]+", exponent))
        multiplied *= power if base in ")]}" else 1
        if max(power, multiplied) > LARGEST_POWER:
            return False
    return not _TOWER.search(text)


def _deep(text: str) -> bool:
    depth = deepest = 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        deepest = max(deepest, depth)
    return deepest > DEEPEST


class _TooLate(Exception):
    """A comparison that took longer than the wall limit; it is not kept in a cache."""


_late: dict[tuple[str, str], int] = {}
"""Count of the times that two expressions took too long."""


def same_symbolically(prediction: str, target: str) -> bool | None:
    """Return whether math-verify finds two readable expressions equal; None if it takes longer than the wall limit.

    As the machine may have been busy, such a pair is compared up to `ATTEMPTS` times, when it recurs, before None is final.
    """
    pair = (prediction, target)
    if _late.get(pair, 0) >= ATTEMPTS:
        return None
    try:
        return _compared(prediction, target)
    except _TooLate:
        if len(_late) >= MOST_LATE:
            _late.clear()
        _late[pair] = _late.get(pair, 0) + 1
        return None


@lru_cache(maxsize=8192)
def _compared(prediction: str, target: str) -> bool:
    same = worker.shared().same(target.replace("°", ""), prediction.replace("°", ""))
    if same is None:
        raise _TooLate
    return same


def forget() -> None:
    """Empty the cache of comparisons."""
    _compared.cache_clear()
    _late.clear()


def _near(found: Value, wanted: Value, tolerance: float, written: str, target: str) -> bool:
    """Return whether a value is right: within `tolerance`, or equal to the precision of the coarser of the two.

    A target with decimals accepts a value that rounds to it and is written with more of them, or as an expression. A target that
    is an expression accepts its value rounded to two decimals or more. Neither may differ by more than `COARSEST` of the target.
    A whole number accepts only an equal value.
    """
    if isinstance(found, Fraction) and isinstance(wanted, Fraction):
        difference: Value = abs(found - wanted)
        if difference <= Fraction(str(tolerance)) * abs(wanted):
            return True
    else:
        difference = abs(float(found) - float(wanted))
        if difference <= max(tolerance, EQUAL) * abs(float(wanted)):
            return True
    said, asked = _decimals(written), _decimals(target)
    if difference > COARSEST * abs(float(wanted)):
        return False
    if asked is not None:
        return asked > 0 and (said is None or said > asked) and difference <= 0.5 * 10.0**-asked
    return said is not None and said >= 2 and difference <= 0.5 * 10.0**-said


def _decimals(text: str) -> int | None:
    """Return the number of decimals with which a number is written; None for an expression."""
    found = _NUMERAL.fullmatch(text)
    return len(found[1] or found[2] or "") if found else None
