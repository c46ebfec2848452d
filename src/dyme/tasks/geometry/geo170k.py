"""Rows of Geo170K: geometry questions with choices and a solution, as conversations (Gao et al., ICLR 2025, "G-LLaVA: Solving
Geometric Problem with Multi-Modal Large Language Model", arXiv 2312.11370). Part of task geometry; licence: see its owners.

One row of qa_tuning.json, made up here, with images/geoqa_plus/7.png:

    {"image": "geoqa_plus/7.png", "conversations": [
     {"from": "human", "value": "<image>\\nFirst perform reasoning, then finally select the question from the choices in the following
     format: Answer: xxx.\\nQuestion:In triangle ABC, angle A is 60 and angle B is 70, then angle C is ()\\nChoices:\\nA:40\\nB:50"},
     {"from": "gpt", "value": "The angles of a triangle sum to 180, so angle C is 180 - 60 - 70 = 50.\\nAnswer:B"}]}

The question is the text after "Question:", the rationale the text before the last "Answer:", without earlier occurrences of this word.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dyme.data import choices as options
from dyme.data.layouts import Layout, read_json
from dyme.errors import DataError

_ANSWER = re.compile(r"(?<!\s)\s*Answer\s*:\s*")


def normalise(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the row in the fields of `jsonl.py`. Raises DataError for a conversation without such a question (a caption)."""
    turns = row["conversations"]
    texts = [turn.get("value") if isinstance(turn, dict) else None for turn in turns] if isinstance(turns, list) else []
    if len(texts) < 2 or not isinstance(texts[0], str) or not isinstance(texts[1], str):
        raise DataError(f"{where}: conversations are not a question and its answer; remove the row")
    asked = texts[0].replace("<image>", "").rpartition("Question:")[2]
    question, choices = options.split(asked)
    *solution, answer = _ANSWER.split(texts[1])
    if not solution:
        raise DataError(f"{where}: the conversation ends in no Answer:, as captions do; remove the row")
    return {
        "id": row.get("id"),
        "image": row.get("image"),
        "question": question,
        "answer": answer.strip().rstrip("."),
        "choices": choices or None,
        "answer_kind": "choice" if choices else "math",
        "rationale": " ".join(solution).strip(),
        "kind": "Geo170K",
    }


def _conversations(file: Path, base: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, row in read_json(file):
        yield key, {name: value for name, value in row.items() if name != "id"}


LAYOUT = Layout(expects="qa_tuning.json beside images/ (Geo170K)", files={"train": ("qa_tuning.json",)}, read=_conversations)
