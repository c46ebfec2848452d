"""TabMWP: word problems about small tables, each shown as a picture (Lu et al., ICLR 2023, "Dynamic Prompt Learning via Policy
Gradient for Semi-structured Mathematical Reasoning", arXiv 2209.14610).

One row, in the published fields (made up here; on one line in the file):

    {"image": "images/7.png", "question": "How much more does a lamp cost than a mug?", "answer": "9", "choices": null,
     "unit": "$", "ans_type": "integer_number", "solution": "Subtract the price of a mug from the price of a lamp:\\n\\n$12 - $3
     = $9\\n\\nA lamp costs $9 more than a mug.", "table": "lamp | $12\\nmug | $3", "table_title": null}

Facts come from `table`, one a cell: ("lamp", "$12"), or in a table of more columns ("lamp, Monday", "$12"). A row that is labelled
by a number takes the first column's heading with it ("Stem 3"). The rationale is `solution`, without a last line that only gives
the answer. `kind` is `ans_type`; choices follow the question on a line of their own. Name the files by task.train,
task.validation and task.test; without a validation file the last tenth of the training file serves, as in `jsonl.py`.

Licence: CC BY-NC-SA 4.0; not shipped. Metric: exact match of the number (without its unit) or of the text.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dyme.config import TaskConfig
from dyme.errors import DataError
from dyme.tasks import jsonl
from dyme.tasks.task import Split, Task
from dyme.types import Fact, Sample

_VALUE = re.compile(r"[-$€£]?\d|\?$")
_YEAR = re.compile(r"(?:19|20)\d\d$")
_LABEL = re.compile(r"\$?[\d.,]+$")
_ANSWER_ONLY = re.compile(r"(?:so,? )?(?:the answer is|answer:)", re.IGNORECASE)


def table_facts(table: str) -> tuple[Fact, ...]:
    """The cells of a table in TabMWP's text form: lines of cells between " | "; empty cells and "?" are no facts."""
    rows = [[cell.strip() for cell in line.split("|")] for line in table.split("\n") if line.strip()]
    if not rows:
        return ()
    header = rows[0] if _has_header(rows) else []
    body = rows[1:] if header else rows
    width = max(map(len, body))
    labels = _label_columns(body, width)
    facts = []
    for row in body:
        label = " ".join(cell for cell in row[:labels] if cell)
        if header and _LABEL.match(label):
            label = f"{header[0]} {label}".strip()
        for k, cell in enumerate(row[labels:], start=labels):
            column = header[k] if k < len(header) else ""
            if label and cell and cell != "?":
                facts.append(Fact(f"{label}, {column}" if column and width - labels > 1 else label, cell))
    return tuple(facts)


def _has_header(rows: list[list[str]]) -> bool:
    """Whether the first row holds headings: text or years where the others have values, or an empty corner."""
    if len(rows) < 2:
        return False
    cells, below = rows[0][1:], [cell for row in rows[1:] for cell in row[1:]]
    if not rows[0][0] or not any(map(_VALUE.match, cells)):
        return True
    return all(map(_YEAR.match, cells)) and not all(map(_YEAR.match, below))


def _label_columns(body: list[list[str]], width: int) -> int:
    """How many leading columns name the row: the first, and those after it that hold words only (a description)."""
    count = 1
    while count < width - 1 and not any(re.search(r"\d", cell) for row in body for cell in row[count : count + 1]):
        count += 1
    return count


def _normalised(row: dict[str, Any], where: str) -> dict[str, Any]:
    """The row in the fields of `jsonl.py`."""
    table, solution, choices = row.get("table"), row.get("solution"), row.get("choices")
    for name, value in (("table", table), ("solution", solution)):
        if not isinstance(value, str | None):
            raise DataError(f"{where}: {name} is not text; TabMWP rows have it as one string")
    if not isinstance(choices, list | None):
        raise DataError(f"{where}: choices is not a list; write a list of texts, or null")
    question = row.get("question")
    if isinstance(question, str) and choices:
        question = f"{question}\nChoices: {', '.join(map(str, choices))}"
    given = {"id": row.get("id"), "image": row.get("image"), "question": question, "answer": row.get("answer")}
    facts = [[fact.subject, fact.value] for fact in table_facts(table or "")]
    return given | {"rationale": _rationale(solution or ""), "facts": facts, "kind": row.get("ans_type")}


def _rationale(solution: str) -> str:
    """The solution on few lines, without a closing "The answer is ...", which would stand beside the marker's."""
    lines = [" ".join(line.split()) for line in solution.strip().split("\n")]
    kept = [line for line in lines if line]
    return "\n".join(kept[:-1] if len(kept) > 1 and _ANSWER_ONLY.match(kept[-1]) else kept)


def read_rows(path: Path) -> list[Sample]:
    """All rows of a TabMWP file; raises DataError, naming file and line, as `jsonl.read_rows` does."""
    return jsonl.read_rows(path, _normalised)


def load(config: TaskConfig, split: Split) -> list[Sample]:
    """Samples of a split, every picture checked; sizes and the missing validation file as in `jsonl.load`."""
    return jsonl.load(config, split, _normalised)


TASK = Task(
    name="tabmwp",
    summary="word problems about pictures of tables, with facts and solutions (set task.train and task.test)",
    metric="exact match of the number or text",
    tolerance=0.0,
    load=load,
)
