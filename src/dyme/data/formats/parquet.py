"""Parquet files as rows, a batch at a time; pictures stay encoded bytes. Needs pyarrow (dyme[data])."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dyme.errors import DataError

BATCH = 64
"""Number of rows decoded at a time."""


def read_parquet(file: Path, base: Path | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a parquet file, ("12", row) for the twelfth. Raises DataError if the file is broken or pyarrow is missing."""
    opened = _opened(file)
    number = 0
    try:
        for batch in opened.iter_batches(batch_size=BATCH):
            for row in batch.to_pylist():
                number += 1
                yield str(number), {name: None if _is_nan(value) else value for name, value in row.items()}
    except (OSError, ValueError) as error:
        raise _broken(file, error) from error


def count_rows(file: Path) -> int:
    """Return the number of rows that a parquet file's metadata give; raises as `read_parquet` does."""
    return int(_opened(file).metadata.num_rows)


def _opened(file: Path) -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(f"{file}: parquet files need pyarrow; pip install 'dyme[data]'") from error
    try:
        return parquet.ParquetFile(file)
    except (OSError, ValueError) as error:
        raise _broken(file, error) from error


def _broken(file: Path, error: Exception) -> DataError:
    return DataError(f"{file}: cannot be read as parquet ({' '.join(str(error).split())[:300]}); fetch the file again")


def _is_nan(value: object) -> bool:
    """Return whether `value` is nan, which pandas writes for a missing value in a column of numbers."""
    return isinstance(value, float) and math.isnan(value)
