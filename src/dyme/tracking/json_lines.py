"""Files of JSON lines: written strictly (nan and inf become null), read tolerantly (a half-written last line is skipped)."""

from __future__ import annotations

import json
import math
import numbers
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dyme.errors import RunError
from dyme.system.files import replacing
from dyme.tracking import schema


def strict(value: Any) -> Any:
    """Return `value` in the types of strict JSON: nan and inf become None, mappings dicts, sequences lists, paths texts."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): strict(v) for k, v in value.items()}
    if isinstance(value, Sequence | set | frozenset):
        return [strict(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot be written as JSON: {type(value).__name__}")


def json_line(row: Mapping[str, Any]) -> str:
    """Return a row as a line of strict JSON (`strict`), ASCII only."""
    return json.dumps(strict(row), allow_nan=False) + "\n"


def read_rows(file: Path, shape: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSON-lines file, none if it is absent; the last line may be half-written, and is skipped then.

    Raises RunError, naming the line, for a line that is not JSON or not of the file's `shape` (`schema.LINES`).
    """
    if not file.exists():
        return
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                return  # half-written
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise RunError(f"{file}, line {number}: not JSON ({error}); remove that line to read the rest") from error
            if wrong := schema.fault(row, shape):
                raise RunError(f"{file}, line {number}: {wrong}; remove that line to read the rest")
            yield row


def write_rows(file: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON-lines file whole or not at all."""
    with replacing(file) as temporary, temporary.open("w", encoding="ascii", newline="\n") as out:
        out.writelines(map(json_line, rows))


def _pretty(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(strict(value), allow_nan=False, indent=2) + "\n").encode()
