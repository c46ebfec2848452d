"""A-OKVQA: questions about photographs that take knowledge of the world (Schwenk et al., ECCV 2022, "A-OKVQA: A Benchmark for Visual
Question Answering using World Knowledge", arXiv 2206.01718). The paper's world-knowledge domain.

One row, in the published fields (made up here), of aokvqa_v1p0_train.json, with COCO's train2017/000000000042.jpg:

    {"split": "train", "image_id": 42, "question_id": "q-17", "question": "What will the man with the net likely do?",
     "choices": ["fish", "sleep", "paint", "drive"], "correct_choice_idx": 0, "direct_answers": ["fish", "fish", "fish", "catch fish",
     "fish", "fishing", "fish", "fish", "fish", "catch fish"], "difficult_direct_answer": false, "rationales": ["He carries a net to
     the water.", "A net is for fishing.", "He stands at a lake."]}

task.form direct: the answer is free and compared with those of ten annotators; rows marked difficult_direct_answer are left out, as
in the published evaluation. task.form choice: the four choices are shown. The rationale is the first of the three. Rows as in
HuggingFaceM4/A-OKVQA are taken too. The test split's answers are withheld, so its rows are dropped: report on validation.

Licence: Apache-2.0, over COCO photographs; not shipped. Metric: soft accuracy, min(matching annotators / 3, 1) (section 3.3 of the
paper, after Antol et al., 2015); with choices: accuracy.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dyme.config import TaskConfig
from dyme.data.choices import LETTERS
from dyme.data.layouts import Layout, Split, read_json
from dyme.data.published import Published
from dyme.data.splits import loader
from dyme.errors import DataError
from dyme.tasks.task import Task


def normalise(row: Mapping[str, Any], where: str, config: TaskConfig) -> dict[str, Any]:
    """Return the row in the fields of `jsonl.py`. Raises DataError for a row that task.form leaves out."""
    rationales = _list(row.get("rationales"), f"{where}: rationales")
    out = {
        "id": row.get("question_id", row.get("id")),
        "image": row.get("image"),
        "question": row.get("question"),
        "rationale": str(rationales[0]) if rationales else None,
    }
    if config.form == "choice":
        choices, index = row.get("choices"), row.get("correct_choice_idx")
        if not isinstance(choices, list) or not isinstance(index, int) or not 0 <= index < min(len(choices), len(LETTERS)):
            raise DataError(f"{where}: has no correct_choice_idx among its choices, as in the test split; take another split")
        return out | {"choices": choices, "answer": LETTERS[index], "answer_kind": "choice"}
    answers = [str(answer) for answer in _list(row.get("direct_answers"), f"{where}: direct_answers")]
    if row.get("difficult_direct_answer") is True:
        raise DataError(f"{where}: is marked difficult_direct_answer; set task.form to choice to take it")
    if not answers:
        raise DataError(f"{where}: has no direct_answers, as in the test split; take another split")
    return out | {"answers": answers, "answer_kind": "vqa"}


def _list(value: object, where: str) -> list[Any]:
    """Return a list that may be written as a text, as in the hub's copy."""
    if isinstance(value, str) and value.strip():
        try:
            value = ast.literal_eval(value)
        except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
            raise DataError(f"{where} is text that is no list; write a list of texts") from error
    if value in (None, "", ()):
        return []
    if not isinstance(value, list):
        raise DataError(f"{where} is no list; write a list of texts")
    return value


def _questions(file: Path, base: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield questions with their photographs, wherever COCO was unpacked: beside the file, coco/, images/; 2017's or 2014's names."""
    split = file.stem.rpartition("_")[2]
    for key, row in read_json(file):
        number = row.get("image_id")
        yield key, row | ({"image": str(_photograph(base, split, number))} if isinstance(number, int) else {})


def _photograph(base: Path, split: str, number: int) -> Path:
    places = [base / place / f"{split}2017/{number:012}.jpg" for place in ("", "coco", "images", "coco/images")]
    places += [base / "images" / f"{number:012}.jpg", base / "images" / f"COCO_{split}2014_{number:012}.jpg"]
    return next((file for file in places if file.is_file()), places[0])


_FILES: dict[Split, tuple[str, ...]] = {
    "train": ("aokvqa_v1p0_train.json",),
    "validation": ("aokvqa_v1p0_val.json",),
    "test": ("aokvqa_v1p0_test.json",),
}
PUBLISHED = Published(
    normalise=normalise,
    layouts=(
        Layout(
            expects="aokvqa_v1p0_train.json and aokvqa_v1p0_val.json beside COCO's train2017/ and val2017/", files=_FILES, read=_questions
        ),
    ),
)
TASK = Task(
    name="aokvqa",
    summary="questions about photographs that take world knowledge; task.form choice shows the four choices",
    metric="soft accuracy over ten annotators (of choices: accuracy)",
    tolerance=0.0,
    load=loader(PUBLISHED),
    status="fixtures",
    published=PUBLISHED,
)
