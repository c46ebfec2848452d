"""The regime of a model and its data, and the map of regimes in which methods were measured.

A regime is what decides which method helps: pass@K and format rate of the untrained model, and how true the data's traces are. A study
(`dyme study FILE --map FILE`) writes the conditions that it measured, with the methods' accuracies; map.json beside this file is the map
that ships. The map says nothing of a case outside the conditions, and this module says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dyme.errors import DataError
from dyme.evaluation.metrics import share
from dyme.supervise.local.checker import LocalChecker
from dyme.types import Sample

MAP = Path(__file__).parent / "map.json"
MOST_TRACES = 1000
"""Most traces that are read."""
_KEPT = ("think_accuracy", "direct_accuracy", "sampled_format_rate", "truncated", "all_wrong", "mixed", "all_right")


def diagnosis(result: Mapping[str, Any], samples: Sequence[Sample]) -> dict[str, Any]:
    """Return the regime of a model and its training samples, ready for JSON; `result` is an evaluation with sampled completions.

    `trace_truth` is the share of true statements in the samples' traces, by the local checker; None without facts or traces.
    """
    metrics = result["metrics"]
    passed = {name: figure for name, figure in metrics.items() if name.startswith("pass_at_")}
    return {
        "k": max((int(name.removeprefix("pass_at_")) for name in passed), default=0),
        "metrics": {name: metrics[name] for name in _KEPT if name in metrics} | passed,
        "by_kind": result.get("by_kind", {}),
        "trace_truth": trace_truth(samples),
        "traces": sum(bool(sample.rationale) for sample in samples),
        "facts": any(sample.facts for sample in samples),
        "pictures": any(sample.images for sample in samples),
    }


def trace_truth(samples: Sequence[Sample]) -> dict[str, Any] | None:
    """Return the share of true statements in the samples' traces (at most 1,000 of them, at even distances), None if none can be read."""
    told = [sample for sample in samples if sample.rationale and sample.facts]
    checker = LocalChecker()
    counts = [checker.truth(sample, sample.rationale or "") for sample in told[:: max(1, len(told) // MOST_TRACES)]]
    if not any(stated for _, stated in counts):
        return None
    return asdict(share([true for true, _ in counts], [stated for _, stated in counts]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A condition in which methods were measured, as the map has it."""

    name: str
    k: int
    """Completions per prompt in training."""
    pass_at: Mapping[str, float]
    """The untrained model's pass@j, by j in words."""
    format_rate: float
    trace_truth: float | None
    pictures: bool
    task: str
    model: str
    budget: str
    base: float
    """Accuracy of the untrained model."""
    methods: Sequence[Mapping[str, Any]]
    """Methods: the one with most seeds of those within noise of the most accurate, then the most accurate first: arm, method, label,
    settings, accuracy (value, low, high, seeds), gain over the base."""
    leads: Mapping[str, Mapping[str, float]]
    """The best arm's paired lead over each other arm: mean, low, high, seeds."""

    @property
    def best(self) -> Mapping[str, Any]:
        """Return the method that the condition supports."""
        return self.methods[0]

    @property
    def level(self) -> list[str]:
        """Return the labels of the other methods whose interval to the best one holds 0."""
        return [one["label"] for one in self.methods[1:] if self.leads.get(one["arm"], {"low": 0.0})["low"] <= 0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """All measured conditions, and the study that measured them."""

    source: str
    measured: tuple[Measured, ...] = ()


def read_map(file: Path = MAP) -> Map | None:
    """Return the map in a file, None if there is no file; raises DataError for a file that is not a map."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return Map(source=str(found["source"]), measured=tuple(Measured(**one) for one in found["measured"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{file} is not a map of regimes ({error}); `dyme study FILE --map {file}` writes one") from error
