"""SLAKE: questions about CT, MRI and X-ray pictures in English and Chinese (Liu et al., ISBI 2021, "SLAKE: A Semantically-Labeled
Knowledge-Enhanced Dataset for Medical Visual Question Answering", arXiv 2102.09542). The paper's medical domain.

One row, in the published fields (made up here), of train.json, with imgs/xmlab7/source.jpg:

    {"img_id": 7, "img_name": "xmlab7/source.jpg", "question": "Which organ is enlarged?", "answer": "Liver", "q_lang": "en",
     "answer_type": "OPEN", "content_type": "Organ", "base_type": "vqa", "triple": ["vhead", "_", "_"], "qid": 41}

Rows as in mdwiratathya/SLAKE-vqa-english (image, question, answer) are taken too. Questions in another language than task.language
are left out. `kind` is closed or open, so that both are reported.

Licence: CC BY-SA 4.0; not shipped. Metric: accuracy of closed answers, recall of open ones, as in LLaVA-Med (Li et al., NeurIPS
2023, arXiv 2306.00890).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dyme.config import TaskConfig
from dyme.data.layouts import Layout, read_json
from dyme.data.published import Published
from dyme.data.splits import loader
from dyme.errors import DataError
from dyme.tasks import medical
from dyme.tasks.task import Task


def normalise(row: Mapping[str, Any], where: str, config: TaskConfig) -> dict[str, Any]:
    """Return the row in the fields of `jsonl.py`. Raises DataError for a question in another language than `config.language`."""
    language = row.get("q_lang") or "en"
    if config.language not in ("all", language):
        raise DataError(f"{where}: the question is in language {language}, not {config.language}; set task.language to take it")
    return {
        "id": row.get("qid", row.get("id")),
        "image": row.get("image") or row.get("img_name"),
        "question": row.get("question"),
        "answer": row.get("answer"),
    } | medical.scoring(row)


def _questions(file: Path, base: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, row in read_json(file):
        yield key, row | {"image": f"imgs/{row['img_name']}" if row.get("img_name") else None}


PUBLISHED = Published(
    normalise=normalise,
    layouts=(
        Layout(
            expects="train.json, validate.json and test.json beside imgs/",
            files={"train": ("train.json",), "validation": ("validate.json", "validation.json"), "test": ("test.json",)},
            read=_questions,
        ),
    ),
)
TASK = Task(
    name="slake",
    summary="questions about CT, MRI and X-ray pictures, English unless task.language says otherwise",
    metric=medical.METRIC,
    tolerance=0.0,
    load=loader(PUBLISHED),
    status="fixtures",
    published=PUBLISHED,
)
