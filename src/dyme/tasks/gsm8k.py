"""GSM8K: word problems of grade-school mathematics, text only (Cobbe et al., 2021, "Training Verifiers to Solve Math Word Problems",
arXiv 2110.14168). The paper's text-only domain.

One row, in the published fields (made up here), of train.jsonl:

    {"question": "A box holds 6 eggs. How many eggs are in 3 boxes?", "answer": "Each box holds 6 eggs, so 3 boxes hold 3 * 6 =
     <<3*6=18>>18 eggs.\\n#### 18"}

The answer is the text after "####", the rationale the text before it, without the calculator's marks (<<3*6=18>>). Rows as {"question",
"answer", "rationale"} are taken too.

Licence: MIT; not shipped. Metric: exact match of the number (section 2 of the paper), however it is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dyme.config import TaskConfig
from dyme.data.published import Published
from dyme.data.splits import loader
from dyme.errors import DataError
from dyme.tasks.task import Task

_MARK = re.compile(r"<<[^<>]*>>")


def normalise(row: Mapping[str, Any], where: str, config: TaskConfig) -> dict[str, Any]:
    """Return the row in the fields of `jsonl.py`."""
    answer, rationale = row.get("answer"), row.get("rationale")
    if isinstance(answer, str) and "rationale" not in row:
        rationale, mark, answer = answer.rpartition("####")
        if not mark:
            raise DataError(f"{where}: answer has no ####; GSM8K's answers end in it and the number")
    if not isinstance(rationale, str | None):
        raise DataError(f"{where}: rationale is not text; GSM8K rows have it as one string")
    answer = answer.strip() if isinstance(answer, str) else answer
    plain = _MARK.sub("", rationale or "").strip()
    return {"id": row.get("id"), "question": row.get("question"), "answer": answer, "rationale": plain, "answer_kind": "number"}


PUBLISHED = Published(normalise=normalise, configurations={"openai/gsm8k": "main", "gsm8k": "main"}, pictures=False)
TASK = Task(
    name="gsm8k",
    summary="word problems of grade-school mathematics with solutions, text only",
    metric="exact match of the number",
    tolerance=0.0,
    load=loader(PUBLISHED),
    status="real rows",
    published=PUBLISHED,
)
