"""Which column of a user's rows is the question and which the answer, where the names of fields do not say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from dyme.config import TaskConfig
from dyme.data.layouts import Raw
from dyme.data.published import Published
from dyme.data.sources import open_source
from dyme.errors import DataError, quoted
from dyme.tasks import jsonl

NAMED = ("question", "answer", "image", "rationale", "facts", "choices")
"""Fields for which a user may name a column."""
SEEN = 50
"""Rows that are looked at."""
LONGEST = 60
"""Characters of a value that is shown."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of the first rows of a source."""

    examples: dict[str, str]
    """Column -> its first value, shortened."""
    lacking: tuple[str, ...]
    """Those of question and answer that no row has under a known name."""


def look(source: str, config: TaskConfig, named: Mapping[str, str]) -> Columns:
    """Return the columns of the first rows of a source, if read as `named` says (field -> column).

    Raises DataError for a source without rows, and for a named column that no row has.
    """
    examples: dict[str, str] = {}
    read: set[str] = set()
    count = 0
    for raw in islice(_raws(source, config), SEEN):
        count += 1
        for name, value in raw.row.items():
            if value is not None and str(name) not in examples:
                examples[str(name)] = quoted(value, LONGEST)
        try:
            read |= jsonl.normalise(_renamed(raw.row, named), raw.where, config).keys()
        except DataError:
            read |= {"question", "answer"}  # ambiguous, which `prepare` reports by row
    if not count:
        raise DataError(f"{source}: has no rows")
    for field, column in named.items():
        if column not in examples:
            raise DataError(f"{source}: no row has a column {quoted(column)} (--{field}); its columns are {', '.join(examples)}")
    return Columns(examples, tuple(field for field in ("question", "answer") if field not in read))


def reading(named: Mapping[str, str]) -> Published:
    """Return how rows are read whose columns `named` gives; what other names say is read as ever."""
    if not named:
        return jsonl.PUBLISHED

    def normalise(row: Mapping[str, Any], where: str, config: TaskConfig) -> dict[str, Any]:
        return jsonl.normalise(_renamed(row, named), where, config)

    return replace(jsonl.PUBLISHED, normalise=normalise)


def _renamed(row: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, Any]:
    """Return a row with the named columns under the names of their fields."""
    taken = set(named.values()) | set(named)
    return {name: value for name, value in row.items() if name not in taken} | {
        field: row[column] for field, column in named.items() if column in row
    }


def _raws(source: str, config: TaskConfig) -> Iterator[Raw]:
    return open_source(jsonl.PUBLISHED, config, source).rows(lambda split: False, streaming=True)
