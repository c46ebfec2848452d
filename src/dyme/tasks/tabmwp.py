"""TabMWP: word problems about small tables, each shown as a picture (Lu et al., ICLR 2023, "Dynamic Prompt Learning via Policy
Gradient for Semi-structured Mathematical Reasoning", arXiv 2209.14610).

One row, in the published fields (made up here; on one line in the file):

    {"image": "images/7.png", "question": "How much more does a lamp cost than a mug?", "answer": "9", "choices": null,
     "unit": "$", "ans_type": "integer_number", "solution": "Subtract the price of a mug from the price of a lamp:\\n\\n$12 - $3
     = $9\\n\\nA lamp costs $9 more than a mug.", "table": "lamp | $12\\nmug | $3", "table_title": null}

Facts come from `table`, one a cell: ("lamp", "$12"), or in a table of more columns ("lamp, Monday", "$12"). A row that is labelled
by a number takes the first column's heading with it ("Stem 3"). The rationale is `solution`, without a last line that only gives
the answer. `kind` is `ans_type`; a question with choices is multiple choice, a free answer of digits a number, any other free one text.

Licence: CC BY-NC-SA 4.0; not shipped. Metric: exact match of the number (with or without its unit) or of the text, of the choice by
letter or text (section 4 of the paper: accuracy).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dyme.config import TaskConfig
from dyme.data import tables
from dyme.data.layouts import Layout, read_json
from dyme.data.published import Published
from dyme.data.splits import loader
from dyme.errors import DataError
from dyme.tasks.task import Task
from dyme.types import Fact

_NUMBER = re.compile(r"\$?[-\u2212]?\$?(?:[0-9]+/[1-9][0-9]*|(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)")
_ANSWER_ONLY = re.compile(r"(?:so,? )?(?:the answer is|answer:)", re.IGNORECASE)


def table_facts(table: str) -> tuple[Fact, ...]:
    """Return the cells of a table in TabMWP's text form: lines of cells between " | "; empty cells and "?" are no facts."""
    rows = [[cell.strip() for cell in line.split("|")] for line in table.split("\n") if line.strip()]
    header = rows[0] if tables.has_header(rows) else []
    return tables.facts(header, rows[1:] if header else rows)


def normalise(row: Mapping[str, Any], where: str, config: TaskConfig) -> dict[str, Any]:
    """Return the row in the fields of `jsonl.py`."""
    table, solution, choices = row.get("table"), row.get("solution"), row.get("choices") or None
    for name, value in (("table", table), ("solution", solution)):
        if not isinstance(value, str | None):
            raise DataError(f"{where}: {name} is not text; TabMWP rows have it as one string")
    return {
        "id": row.get("id"),
        "image": row.get("image"),
        "question": row.get("question"),
        "answer": row.get("answer"),
        "choices": choices,
        "answer_kind": "choice" if choices else "number" if _NUMBER.fullmatch(str(row.get("answer")).strip()) else "text",
        "unit": row.get("unit"),
        "rationale": _rationale(solution or ""),
        "facts": [[fact.subject, fact.value] for fact in table_facts(table or "")],
        "kind": row.get("ans_type"),
    }


def _rationale(solution: str) -> str:
    """Return the solution on few lines, without a closing "The answer is ...", which would repeat the marker's line."""
    lines = [" ".join(line.split()) for line in solution.strip().split("\n")]
    kept = [line for line in lines if line]
    return "\n".join(kept[:-1] if len(kept) > 1 and _ANSWER_ONLY.match(kept[-1]) else kept)


def _problems(file: Path, base: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a file {"7": {...}}, each with its picture, tables/7.png."""
    for name, row in read_json(file):
        yield name, row | {"id": name, "image": f"tables/{name}.png"}


PUBLISHED = Published(
    normalise=normalise,
    layouts=(
        Layout(
            expects="problems_train.json, problems_dev.json and problems_test.json beside tables/",
            files={"train": ("problems_train.json",), "validation": ("problems_dev.json",), "test": ("problems_test.json",)},
            read=_problems,
        ),
    ),
)
TASK = Task(
    name="tabmwp",
    summary="word problems about pictures of tables, with facts and solutions",
    metric="exact match of the number, text or choice",
    tolerance=0.0,
    load=loader(PUBLISHED),
    status="real rows",
    published=PUBLISHED,
)
