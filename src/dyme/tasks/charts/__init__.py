"""The embedded task: questions about small bar charts, made from a seed.

One sample: a 96 x 96 chart of ham 47, fig 82, oat 13 and "How much larger is fig than oat?"; answer "69"; facts ham=47, fig=82, oat=13;
rationale, by quality, from "I see fig at 85, oat at 13 so fig 85, oat 13, 85 - 13 = 69." (low: free-form, wrong values) to "Observation:
ham 47, fig 82, oat 13. Reasoning: fig 82, oat 13, 82 - 13 = 69." (high). It stands in for ChartQA (Masry et al., 2022) as the paper uses
it, with the trace qualities of its Table 1.

Licence: the pictures and texts are made by this file (Apache-2.0). Metric: exact match of the number or list.

Splits share no chart: a hash of the table decides the split.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from dyme.config import TaskConfig
from dyme.data.layouts import Split
from dyme.errors import DataError
from dyme.tasks.charts.questions import Chart, random_chart
from dyme.tasks.charts.traces import trace
from dyme.tasks.task import Task
from dyme.types import Fact, Sample


def charts(split: str, seed: int = 0) -> Iterator[Chart]:
    """Yield an endless stream of charts of one split."""
    rng = random.Random(f"{split}:{seed}")
    while True:
        yield random_chart(rng, split)


def samples(split: str, count: int, *, traces: str = "low", seed: int = 0, misread: float | None = None) -> list[Sample]:
    """Return the first `count` samples of a split; `traces` names the rationales' quality (low, medium, high).

    `misread` is the probability that a rationale misreads a value; None: the quality's.
    """
    rng = random.Random(f"traces:{split}:{seed}")
    out = []
    for k, chart in zip(range(count), charts(split, seed), strict=False):
        out.append(
            Sample(
                id=f"charts/{split}/{seed}/{k}",
                question=chart.question.text(),
                answer=chart.question.solve(chart.table),
                images=(chart.image,),
                rationale=trace(chart, traces, random.Random(rng.getrandbits(32)), misreading=misread),
                facts=tuple(Fact(name, str(value)) for name, value in chart.table),
                kind=chart.question.kind,
            )
        )
    return out


def load(config: TaskConfig, split: Split) -> list[Sample]:
    """Return the samples of a split: `config.<split>_size` of them (0: the default), with `config.traces`, `config.misread` and
    `config.seed`.

    Raises DataError if the recipe names data, as this task draws its charts.
    """
    if config.path or config.train or config.test:
        raise DataError(f"task charts draws its own data and takes none ({config.path or config.train or config.test}); set task.name")
    sizes = {"train": config.train_size or 2000, "validation": config.validation_size or 300, "test": config.test_size or 1000}
    return samples(split, sizes[split], traces=config.traces, seed=config.seed, misread=config.misread)


TASK = Task(
    name="charts",
    summary="questions about small bar charts, drawn from a seed; nothing to download",
    metric="exact match of the number or list",
    tolerance=0.0,
    load=load,
    status="drawn here",
)
