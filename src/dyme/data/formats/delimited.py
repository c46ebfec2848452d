"""CSV and TSV files as rows: headings in the first line, every cell a text, an empty cell no value."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dyme.errors import DataError, quoted

LONGEST_CELL = 1 << 28
"""Most characters of a cell; a picture in base64 has more than the csv module's 131,072."""


def read_delimited(file: Path, base: Path | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a CSV or TSV file, ("3", row) for the one that begins in line 3; lists stay text.

    Raises DataError for a file that is not UTF-8, has no headings, or has a row with more cells than headings.
    """
    csv.field_size_limit(LONGEST_CELL)
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            delimiter = _delimiter(stream.readline())
            stream.seek(0)
            reader = csv.reader(stream, delimiter=delimiter, strict=True)
            names = [name.strip() for name in next(reader, [])]
            _check(names, file)
            line = reader.line_num
            for cells in reader:
                where, line = str(line + 1), reader.line_num
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) > len(names) and any(cell.strip() for cell in cells[len(names) :]):
                    counts = f"{len(cells)} cells for {len(names)} headings"
                    raise DataError(f"{file}:{where}: has {counts}; put a cell with {delimiter!r} in quotes")
                yield where, {name: cell for name, cell in zip(names, cells, strict=False) if name and cell.strip()}
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not UTF-8 text; save it as CSV UTF-8") from error
    except csv.Error as error:
        raise DataError(f"{file}: not valid CSV ({error}); save it again as CSV, UTF-8") from error


def _delimiter(head: str) -> str:
    """Return the separator of the headings: a comma, a semicolon (some spreadsheets), or a tab."""
    return max(",;\t", key=head.count)


def _check(names: list[str], file: Path) -> None:
    if not any(names):
        raise DataError(f"{file}: has no rows; write headings such as question,answer,image in the first line")
    name, count = Counter(name for name in names if name).most_common(1)[0]
    if count > 1:
        raise DataError(f"{file}: has {count} columns named {quoted(name)}; give each a name of its own")
