"""The samples of a split, or those given in Python: checked, with the facts of their images, and, if the recipe says so, with the facts in
words instead of images."""

from __future__ import annotations

import logging
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dyme import checks, targets
from dyme.config import Config
from dyme.data import fields
from dyme.data.layouts import NOTES, Split
from dyme.data.pictures.embedded import content_of
from dyme.data.placeholders import in_words
from dyme.data.rows import KINDS, check_images, check_named, checked_text, notes_of, sample_of
from dyme.errors import DataError, quoted
from dyme.pictures import ImageFile, ImageSource, Picture, in_memory, sources_of
from dyme.supervise.build import connect
from dyme.tasks import TASKS
from dyme.tasks import load as load_split
from dyme.tasks.rules import own_verifier
from dyme.types import Fact, Sample
from dyme.verify import rules

if TYPE_CHECKING:
    from dyme.facts.store import FactCounts, Progress
_log = logging.getLogger(__name__)


def load(config: Config, split: Split, progress: Progress | None = None) -> tuple[list[Sample], str]:
    """Return a split's samples with the facts that the recipe asks for, and a line about images without facts, or "".

    Raises what the task's `load` does, and what `rules.check_answers` does for samples whose answers cannot be judged.
    """
    checks.check_config(config)
    samples = load_split(config.task, split)
    if config.task.name not in TASKS:
        return given(samples, config, f"task {config.task.name}, {split}", progress)
    return _with_facts(samples, config, progress)


def given(
    rows: Iterable[Sample | Mapping[str, Any]], config: Config, name: str = "samples", progress: Progress | None = None
) -> tuple[list[Sample], str]:
    """Return what `load` returns, for samples that are given in Python; dicts have the fields of a row of data, under any usual name.

    Pictures may be in memory, and paths start at the working directory; None and nan count as missing values. The log lists fields that
    are read under another name. Raises DataError, which begins with `name` and the place, for what `load` refuses.
    """
    checks.check_config(config)
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise DataError(f"{name} is {type(rows).__name__}; give a list of Samples, or of dicts with question and answer")
    notes: Counter[str] = Counter()
    samples: dict[str, Sample] = {}
    places: dict[str, str] = {}
    for number, row in enumerate(rows):
        where = f"{name}[{number}]"
        if isinstance(row, Sample):
            sample = _checked(row, where)
        elif isinstance(row, Mapping):
            sample = _sample_of(row, where, f"{name}:{number}", config.task.marker, notes)
        else:
            hint = '; of a pandas DataFrame give .to_dict("records")' if hasattr(rows, "to_dict") else ""
            raise DataError(f"{where} is {type(row).__name__}; give a Sample, or a dict with question and answer{hint}")
        if sample.id in samples:
            raise DataError(f"{where}: id {quoted(sample.id)} is also that of {places[sample.id]}; give each sample its own")
        samples[sample.id], places[sample.id] = sample, where
    if not samples:
        raise DataError(f"{name} is empty; give at least one Sample, or one dict with question and answer")
    for note in notes_of(notes):
        _log.warning("%s: %s", name, note)
    check_images(list(samples.values()))
    return _with_facts(list(samples.values()), config, progress)


def _checked(sample: Sample, where: str) -> Sample:
    """`sample`. Raises DataError for fields of a wrong type, or without text that must have some."""
    for name in ("id", "question", "answer"):
        checked_text(getattr(sample, name), f"{where}: {name}")
    for name in ("kind", "unit", "rationale"):
        checked_text(getattr(sample, name) or "", f"{where}: {name}", empty=True)
    for name, kind in {"answers": str, "choices": str, "facts": Fact}.items():
        value = getattr(sample, name)
        if not isinstance(value, tuple) or not all(isinstance(one, kind) for one in value):
            raise DataError(f"{where}: {name} is {quoted(value)}; give a tuple of {kind.__name__}")
    if sample.answer_kind not in KINDS:
        raise DataError(f"{where}: answer_kind is {quoted(sample.answer_kind)}; choose from {', '.join(KINDS)}")
    return sample


def _sample_of(row: Mapping[str, Any], where: str, name: str, marker: str, notes: Counter[str]) -> Sample:
    """Return the sample that a dict describes, with id `name` unless it has one; lines for the user are added to `notes`."""
    ours = fields.ours({str(key): _plain(value, f"{where}: {key}") for key, value in row.items()}, where, marker)
    notes.update(ours.pop(NOTES, ()))
    worded, more = in_words(ours, where)
    notes.update(more)
    sample = sample_of({key: value for key, value in worded.items() if key not in ("image", "images")}, Path(), where, name)
    check_named(worded, where)
    if worded.get("image") is not None and worded.get("images") is not None:
        raise DataError(f"{where}: has both image and images; keep one of them")
    pictures = worded.get("images") if worded.get("image") is None else worded["image"]
    found = pictures if isinstance(pictures, list) else [] if pictures is None else [pictures]
    try:
        return replace(sample, images=tuple(_source(one, f"{where} (id {sample.id})") for one in found))
    except DataError as error:
        text = str(error)
        raise DataError(text if text.startswith(where) else f"{where}: {text}") from error


def _source(picture: Any, row: str) -> ImageSource:
    """A picture as a row has it: in memory, as the text or the bytes of a file, or as a path."""
    content = None if isinstance(picture, Picture) else content_of(picture)
    if content is not None:
        return Picture(content)
    [source] = sources_of(picture)
    return replace(source, row=row) if isinstance(source, ImageFile) else source


def _plain(value: Any, where: str) -> Any:
    """A value as a file of rows would give it, pictures in memory as such: numpy's numbers and lists, tuples, paths; nan is None."""
    if in_memory(value):
        try:
            return Picture(value)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
    if type(value).__module__ == "numpy":
        value = value.tolist()
    if isinstance(value, Fact):
        return [value.subject, value.value]
    if isinstance(value, Mapping):
        return {key: _plain(one, where) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, where) for one in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    nothing = type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value))
    return None if nothing else value


def _with_facts(samples: list[Sample], config: Config, progress: Progress | None) -> tuple[list[Sample], str]:
    """Samples whose answers can be judged, with the facts that the recipe asks for, and a line about images without any, or ""."""
    rules.check_answers(samples, config.task.marker, own_verifier(config))
    if config.supervision.facts == "data":
        return _as_told(samples, config), ""
    samples, counts = gather_facts(samples, config, progress)
    failed = counts.failures
    trouble = f"no facts for {len(failed)} of {counts.images} images, e.g. {failed[0][0]}: {failed[0][1]}" if failed else ""
    return _as_told(samples, config), trouble


def _as_told(samples: Sequence[Sample], config: Config) -> list[Sample]:
    """`samples` with their facts in words before the question instead of images, if the recipe asks for it.

    Raises DataError for an image without facts.
    """
    if config.task.input == "image":
        return list(samples)
    if blind := next((s for s in samples if s.images and not s.facts), None):
        raise DataError(
            f"{blind.id}: has an image but no facts to put in its place; add facts, take --supervision.facts ocr, or --task.input image"
        )
    return [replace(s, images=(), question=f"{targets.in_words(s.facts)}\n{s.question}") if s.facts else s for s in samples]


def gather_facts(samples: Sequence[Sample], config: Config, progress: Progress | None = None) -> tuple[list[Sample], FactCounts]:
    """`samples` with the facts that the recipe asks for, read from the cache or extracted now, and what that took."""
    from dyme.facts.store import gather

    settings, folder = config.supervision, Path(config.supervision.facts_cache)
    if settings.facts != "llm":
        return gather(samples, settings.facts, folder, progress=progress)
    from dyme.supervise.llm.roles import LLMExtractor

    extractor = LLMExtractor(connect(settings, None, lambda line: None), settings.domain)
    version = f"{settings.model}/{settings.domain}"
    return gather(samples, "llm", folder, extractor=extractor, version=version, workers=settings.concurrency, progress=progress)
