"""A split's samples as a recipe asks for them: with the facts of their images, checked, and in words instead of images where it says so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dyme import checks, targets
from dyme.config import Config
from dyme.errors import DataError
from dyme.tasks import TASKS
from dyme.tasks.task import Split
from dyme.types import Sample
from dyme.verify import rules

if TYPE_CHECKING:
    from dyme.facts.store import FactCounts, Progress
from dyme.supervise.build import connect


def load(config: Config, split: Split, progress: Progress | None = None) -> tuple[list[Sample], str]:
    """A split's samples with the facts that the recipe asks for, and a line about images without any, or "".

    Raises what the task's `load` does, and what `rules.check_answers` does for samples whose answers cannot be judged.
    """
    checks.check_config(config)
    samples = TASKS[config.task.name].load(config.task, split)
    rules.check_answers(samples, config.task.marker)
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
