"""Rows of a datasets.Dataset as TRL takes them: `prompt`, messages or plain text, with `image` or `images`, and columns for the rewards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dyme.errors import DataError, quoted
from dyme.model.chat import texts_of
from dyme.pictures import ImageSource, sources_of
from dyme.types import Sample

PICTURES = ("images", "image")
"""Columns of pictures; the first one that a data set has is read."""


@dataclass(frozen=True)
class Rows:
    """A data set with a sample for each row: sample `id` is "NAME:row"."""

    name: str
    data: Any
    """The datasets.Dataset."""
    samples: list[Sample]

    def row(self, sample: Sample) -> dict[str, Any]:
        """Return the row that a sample was made of, as the data set gives it."""
        found: dict[str, Any] = self.data[place_of(sample)]
        return found


def place_of(sample: Sample) -> int:
    """Return the number of the row that a sample was made of, from 0."""
    return int(sample.id.rpartition(":")[2])


def read(data: Any, name: str, trace: str | None) -> Rows:
    """Return the samples of a data set; `trace` is the column to memorize. Raises DataError, naming the row, for an unusable row."""
    from datasets import Dataset, Image, Sequence as Several  # noqa: I001 (two names of one package)

    if not isinstance(data, Dataset):
        raise DataError(
            f"{name} is {type(data).__name__}, and a datasets.Dataset is needed; of a stream, take as many rows as you train on"
        )
    if not len(data):
        raise DataError(f"{name} has no rows")
    for column in ("prompt", *([trace] if trace else [])):
        if column not in data.column_names:
            raise DataError(f"{name} has no column {column!r}; it has {', '.join(data.column_names)}")
    if "tools" in data.column_names:
        raise DataError(f"{name} has a column 'tools', which cannot be honoured: completions call no tools; remove the column")
    pictures = next((column for column in PICTURES if column in data.column_names), None)
    plain = data.select_columns(["prompt", *([trace] if trace else []), *([pictures] if pictures else [])])
    if pictures:  # as stored: encoded, a tenth of the size of their pixels
        kind = plain.features[pictures]
        whole = Image(decode=False)
        if isinstance(kind, Image):
            plain = plain.cast_column(pictures, whole)
        elif isinstance(getattr(kind, "feature", None), Image):
            plain = plain.cast_column(pictures, type(kind)(whole) if not isinstance(kind, list) else Several(whole))
    return Rows(name, data, [_sample(row, f"{name}:{k}", trace, pictures) for k, row in enumerate(plain)])


def _sample(row: Mapping[str, Any], where: str, trace: str | None, column: str | None) -> Sample:
    given = row[column] if column else None
    images = () if given is None or isinstance(given, list) and not given else _pictures(given, where)
    prompt, within = _prompt(row["prompt"], where)
    if images and within:
        raise DataError(f"{where}: has pictures in the messages and in column {column!r}; leave one of them out")
    if (images or within) and isinstance(prompt, str):
        raise DataError(f"{where}: has pictures and a prompt of plain text; write the prompt as messages, where a picture has its place")
    question = prompt if isinstance(prompt, str) else texts_of(prompt[-1:]) or texts_of(prompt)
    return Sample(
        id=where, question=question, answer="", prompt=prompt, images=images or within,
        rationale=_text(row[trace], where, trace) if trace else None,
    )  # fmt: skip


def _prompt(given: Any, where: str) -> tuple[str | tuple[dict[str, Any], ...], tuple[ImageSource, ...]]:
    """Return plain text or messages, and the pictures in the messages, with a placeholder for each picture."""
    if isinstance(given, str):
        return given, ()
    if not isinstance(given, Sequence) or not given or not all(isinstance(m, Mapping) and "role" in m for m in given):
        raise DataError(f"{where}: prompt is {quoted(given)}; give a text, or messages with role and content")
    found: list[Any] = []
    turns = []
    for message in given:
        turn = {name: value for name, value in message.items() if value is not None}  # datasets adds the keys of other rows
        if isinstance(turn.get("content"), Sequence) and not isinstance(turn["content"], str):
            turn["content"] = [_part(part, found) for part in turn["content"]]
        turns.append(turn)
    return tuple(turns), _pictures(found, where) if found else ()


def _part(part: Mapping[str, Any], found: list[Any]) -> dict[str, Any]:
    own = {name: value for name, value in part.items() if value is not None}
    if own.get("type") == "image" and "image" in own:
        found.append(own.pop("image"))
    return own


def _pictures(given: Any, where: str) -> tuple[ImageSource, ...]:
    """Return pictures from one or a list, in the forms of data sets: bytes, a path, or decoded."""
    try:
        return sources_of([_content(one) for one in (given if isinstance(given, list | tuple) else [given])])
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _content(picture: Any) -> Any:
    return (picture["bytes"] or picture["path"]) if isinstance(picture, Mapping) and picture.keys() == {"bytes", "path"} else picture


def _text(value: Any, where: str, column: str | None) -> str:
    """Return a trace: text, or the text of the assistant's messages in a column of messages."""
    text = value if isinstance(value, str) else texts_of(value) if isinstance(value, Sequence) else ""
    if not text.strip():
        raise DataError(f"{where}: column {column!r} holds no text to memorize ({quoted(value)}); fill it in or remove the row")
    return text.strip()
