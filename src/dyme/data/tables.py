"""Tables as facts: one fact a cell, named by its row and, in a table of several value columns, by its column."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dyme.types import Fact

_VALUE = re.compile(r"[-$€£]?\d|\?$")
_YEAR = re.compile(r"(?:19|20)\d\d$")
_LABEL = re.compile(r"\$?[\d.,]+$")


_BLANKS = frozenset(("", "?", "nan", "n/a", "n.a.", "n.a", "#n/a", "na", "nil", "null", "inf", "infinity", "*", ".", "..", "...", "\u2026"))
_DASHES = "-\u2010\u2011\u2012\u2013\u2014\u2015\u2212+"


def is_blank(cell: str) -> bool:
    """Return whether a cell says that there is no value: empty, nan, inf, n/a, a dash; "Na" is not blank, as it may be sodium."""
    text = cell.strip()
    return text.strip(_DASHES).casefold() in _BLANKS and text != "Na"


def facts(header: Sequence[str], body: Sequence[Sequence[str]], *, heading: bool = True) -> tuple[Fact, ...]:
    """Return the cells of a table as facts; cells without a value (`is_blank`) give no facts.

    With `heading`, a row that is labelled by a number takes the first column's heading with it ("Stem 3"). Leading columns of
    words only, which describe the row, are part of its label. A table without headings has `header` [].
    """
    if not body:
        return ()
    width = max(map(len, body))
    labels = _label_columns(body, width)
    found = []
    for row in body:
        label = " ".join(cell for cell in row[:labels] if cell)
        if heading and header and _LABEL.match(label):
            label = f"{header[0]} {label}".strip()
        for k, cell in enumerate(row[labels:], start=labels):
            column = header[k] if k < len(header) else ""
            if label and not is_blank(cell):
                found.append(Fact(f"{label}, {column}" if column and width - labels > 1 else label, cell))
    return tuple(found)


def has_header(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row holds headings: text or years where the others have values, or an empty corner."""
    if len(rows) < 2:
        return False
    cells, below = rows[0][1:], [cell for row in rows[1:] for cell in row[1:]]
    if not rows[0][0] or not any(map(_VALUE.match, cells)):
        return True
    return all(map(_YEAR.match, cells)) and not all(map(_YEAR.match, below))


def _label_columns(body: Sequence[Sequence[str]], width: int) -> int:
    """Return the number of leading columns that name the row: the first, and those after it that hold words only (a description)."""
    count = 1
    while count < width - 1 and not any(re.search(r"\d", cell) for row in body for cell in row[count : count + 1]):
        count += 1
    return count
