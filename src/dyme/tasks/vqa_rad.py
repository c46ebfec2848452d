"""VQA-RAD: questions of clinicians about radiology pictures (Lau et al., Scientific Data 2018, "A dataset of clinically generated
visual questions and answers about radiology images").

One row, in the published fields (made up here), of "VQA_RAD Dataset Public.json", with "VQA_RAD Image Folder/synpic7.jpg":

    {"qid": 12, "image_name": "synpic7.jpg", "image_organ": "CHEST", "question": "Is the heart enlarged?", "answer": "Yes",
     "answer_type": "CLOSED", "question_type": "SIZE", "phrase_type": "freeform"}

Phrases of type test_freeform and test_para are the test split. Rows as {"image", "question", "answer", "answer_type", ...} and as in
flaviagiammarino/vqa-rad (image, question, answer) are taken too. `kind` is closed or open, so that both are reported.

Licence: CC0 1.0; not shipped. Metric: accuracy of closed answers, recall of open ones, as in LLaVA-Med (Li et al., NeurIPS 2023,
arXiv 2306.00890).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dyme.config import TaskConfig
from dyme.data.layouts import SPLIT, Layout, read_json
from dyme.data.published import Published
from dyme.data.splits import loader
from dyme.tasks import medical
from dyme.tasks.task import Task


def normalise(row: Mapping[str, Any], where: str, config: TaskConfig) -> dict[str, Any]:
    """Return the row in the fields of `jsonl.py`."""
    return {
        "id": row.get("qid", row.get("id")),
        "image": row.get("image") or row.get("image_name"),
        "question": row.get("question"),
        "answer": row.get("answer"),
    } | medical.scoring(row)


def _questions(file: Path, base: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, row in read_json(file):
        split = "test" if str(row.get("phrase_type", "")).startswith("test") else "train"
        name = row.get("image_name")
        yield key, row | {SPLIT: split, "image": f"VQA_RAD Image Folder/{name}" if name else None}


PUBLISHED = Published(
    normalise=normalise,
    layouts=(
        Layout(
            expects='"VQA_RAD Dataset Public.json" beside "VQA_RAD Image Folder/"',
            files={"train": ("VQA_RAD Dataset Public.json",)},
            read=_questions,
            mixed=True,
        ),
    ),
)
TASK = Task(
    name="vqa_rad",
    summary="clinicians' questions about radiology pictures",
    metric=medical.METRIC,
    tolerance=0.0,
    load=loader(PUBLISHED),
    status="real rows",
    published=PUBLISHED,
)
