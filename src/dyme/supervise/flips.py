"""Grades that are wrong on purpose (`supervision.flip`), to measure how reliable a checker must be (docs/results). For studies only."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from dyme.config import Config
from dyme.types import Assessment, Level, Sample

_OPPOSITE: dict[Level, Level] = {"low": "high", "medium": "medium", "high": "low"}


def flipped(found: Sequence[Assessment], sample: Sample, traces: Sequence[str], config: Config) -> list[Assessment]:
    """Return a checker's assessments of `traces`, each turned into its opposite with probability `supervision.flip`.

    Seed, sample and text decide, so that a trace has the same grade at every step, on every process and after a resume.
    """
    rate, seed = config.supervision.flip, config.run.seed
    return [
        _opposite(one) if random.Random(f"flip:{seed}:{sample.id}:{trace}").random() < rate else one
        for one, trace in zip(found, traces, strict=True)
    ]


def warning(rate: float) -> str:
    """Return one line about grades that are flipped on purpose at a rate, "" if none are."""
    if not rate:
        return ""
    return f"FOR STUDIES ONLY: {rate:.0%} of the checker's grades are turned into their opposite on purpose (supervision.flip = {rate:g})"


def _opposite(one: Assessment) -> Assessment:
    return replace(one, level=_OPPOSITE[one.level], score=round(1 - one.score, 4), reason=f"flipped on purpose; {one.reason}", flipped=True)
