"""ChartQA: questions about real charts, asked by people and by a model (Masry et al., Findings of ACL 2022, "ChartQA: A Benchmark
for Question Answering about Charts with Visual and Logical Reasoning", arXiv 2203.10244). The paper's chart domain.

One row, in the published fields (made up here), of train/train_human.json, with train/png/412.png and train/tables/412.csv:

    {"imgname": "412.png", "query": "What is the difference between the two bars in 2019?", "label": "14"}

Rows as {"image", "question", "answer", "subset"} and as in HuggingFaceM4/ChartQA (image, query, label, human_or_machine) or
lmms-lab/ChartQA (image, question, answer, type) are taken too.

Facts come from the chart's table where there is one: ("2019, Exports", "62"). `kind` is human or augmented.

Licence: GPL-3.0, over charts of third parties; not shipped. Metric: relaxed accuracy (section 5.1 of the paper): numbers within 5 %
of the target, everything else exactly; years count as numbers too.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dyme.config import TaskConfig
from dyme.data import tables
from dyme.data.layouts import Layout, read_json, read_text
from dyme.data.published import Published
from dyme.data.splits import loader
from dyme.errors import DataError
from dyme.tasks.task import Task
from dyme.types import Fact

_SUBSETS = {0: "human", 1: "augmented", "machine": "augmented", "human_test": "human", "augmented_test": "augmented"}


def table_facts(table: str) -> tuple[Fact, ...]:
    """Return the cells of a chart's table as facts; the table is CSV with headings in its first line."""
    rows = [[cell.strip() for cell in line] for line in csv.reader(table.splitlines()) if any(cell.strip() for cell in line)]
    return tables.facts(rows[0], rows[1:], heading=False) if rows else ()


def normalise(row: Mapping[str, Any], where: str, config: TaskConfig) -> dict[str, Any]:
    """Return the row in the fields of `jsonl.py`."""
    answer = row.get("answer", row.get("label"))
    if isinstance(answer, list):
        if not all(isinstance(part, str) for part in answer):
            raise DataError(f"{where}: label is not a list of texts; ChartQA rows have it as a text or a list of texts")
        answer = ", ".join(answer)
    table, subset = row.get("table"), row.get("subset", row.get("human_or_machine", row.get("type")))
    return {
        "id": row.get("id"),
        "image": row.get("image") or row.get("imgname"),
        "question": row.get("question", row.get("query")),
        "answer": answer,
        "facts": [[fact.subject, fact.value] for fact in table_facts(table)] if isinstance(table, str) else None,
        "kind": _SUBSETS.get(subset, subset) if isinstance(subset, (int, str)) else None,
    }


def _questions(file: Path, base: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the questions of one subset, with their charts' tables."""
    subset = file.stem.rpartition("_")[2]
    for key, row in read_json(file):
        name = str(row.get("imgname", ""))
        image, table = file.parent / "png" / name, read_text(file.parent / "tables" / f"{Path(name).stem}.csv")
        yield key, row | {"image": str(image) if name else "", "table": table, "subset": subset}


PUBLISHED = Published(
    normalise=normalise,
    layouts=(
        Layout(
            expects="train/train_human.json and train/train_augmented.json beside train/png/ (val/ and test/ alike)",
            files={
                "train": ("train/train_*.json",),
                "validation": ("val/val_*.json", "validation/val*_*.json"),
                "test": ("test/test_*.json",),
            },
            read=_questions,
        ),
    ),
)
TASK = Task(
    name="chartqa",
    summary="questions about real charts, with facts where the charts' tables are there",
    metric="relaxed accuracy: numbers within 5 %, text exactly",
    tolerance=0.05,
    load=loader(PUBLISHED),
    status="real rows",
    published=PUBLISHED,
)
