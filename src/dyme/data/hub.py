"""Data sets of the datasets library (saved to disk, or ids on the Hugging Face hub), and the splits of folders of parquet files.

Rows are iterated, never all in memory; pictures stay encoded bytes and are decoded only where they are checked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dyme.data.layouts import Raw, Split
from dyme.errors import DataError

_SPLITS: dict[str, Split] = {
    "train": "train", "training": "train", "qa_tuning": "train",
    "validation": "validation", "val": "validation", "valid": "validation", "dev": "validation",
    "test": "test", "testmini": "test", "eval": "test",
}  # fmt: skip
"""Published names of splits (also Geo170K's and MathVerse's) -> dyme's; others are left out, with a note."""
_ID = re.compile(r"[\w.-]+/[\w.-]+(?::[\w.-]+)?")
_SHARD = re.compile(r"[-_.]?\d[\w-]*$")


@dataclass(frozen=True, slots=True)
class Part:
    """One split of a data set: its published name, and a function that iterates its rows."""

    name: str
    data: Any


def is_id(source: str) -> bool:
    """Return whether `source` has the form of a hub id, "owner/name" or "owner/name:configuration", and is not a local folder."""
    return bool(_ID.fullmatch(source)) and not Path(source).exists()


def is_saved(folder: Path) -> bool:
    """Return whether `folder` was written by the datasets library's save_to_disk."""
    return (folder / "dataset_dict.json").is_file() or ((folder / "state.json").is_file() and (folder / "dataset_info.json").is_file())


def parquet_files(folder: Path, configuration: str = "") -> dict[str, list[Path]]:
    """Return split name -> its parquet files, anywhere in `folder`: data/train-00000-of-00002.parquet, default/train/0000.parquet.

    Raises DataError if there are several configurations and `configuration` names none of them.
    """
    found: dict[tuple[str, str], list[Path]] = {}
    for file in sorted(folder.rglob("*.parquet")):
        parts = file.relative_to(folder).parts
        stem = _SHARD.sub("", file.stem)
        own = [part for part in parts[:-1] if part != "data"]
        name = stem or (own.pop() if own else "train")
        found.setdefault(("/".join(own), name), []).append(file)
    places = {place for place, _ in found}
    if len(places) > 1:
        if configuration not in places:
            raise DataError(f"{folder}: has several configurations ({', '.join(sorted(places))}); give the folder of one of them")
        found = {key: files for key, files in found.items() if key[0] == configuration}
    return {name: files for (_, name), files in found.items()}


def parts_of(source: str, configuration: str, *, streaming: bool) -> list[Part]:
    """Return the splits of a data set that the datasets library reads.

    With `streaming`, only rows that are iterated are fetched from the hub; without, all are fetched once into the library's cache.
    Raises DataError if the library is missing or cannot load the data set.
    """
    datasets, folder = _library(), Path(source)
    name, _, own = source.partition(":")
    try:
        if not folder.is_dir():
            loaded = datasets.load_dataset(name, own or configuration or None, streaming=streaming)
        else:
            loaded = datasets.load_from_disk(str(folder))
    except DataError:
        raise
    except Exception as error:  # network, missing id, gated, configuration, broken file: the library has a class for each
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        here = "" if folder.is_dir() else f" (there is none of that name in {Path.cwd()})"
        raise DataError(
            f"{source}: the datasets library cannot load it ({reason}); check the id, or give a folder with the files{here}"
        ) from error
    return [Part(str(part), data) for part, data in (loaded.items() if isinstance(loaded, dict) else [(loaded.split or "train", loaded)])]


def split_of(name: str) -> Split | None:
    """Return dyme's split for a published name, or None."""
    return _SPLITS.get(name)


def left_out(name: str) -> str:
    """Return the note on a split of another name."""
    return f"split {name} is left out: it is neither for training nor for validation nor a test"


def rows(part: Part, split: Split, folders: tuple[Path, ...]) -> Iterator[Raw]:
    """Yield the rows of a split, pictures as {"bytes", "path"}. Raises DataError if the files are broken."""
    data = part.data if hasattr(part.data, "decode") else part.data.to_iterable_dataset()
    try:
        for number, row in enumerate(data.decode(False), start=1):
            yield Raw(where=f"{part.name}, row {number}", row=dict(row), name=f"{part.name}-{number}", split=split, folders=folders)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise DataError(f"split {part.name}: cannot be read ({reason}); fetch its files again") from error


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise DataError("hub ids and saved data sets need the datasets library; pip install 'dyme[data]'") from error
    datasets.disable_progress_bars()
    return datasets
