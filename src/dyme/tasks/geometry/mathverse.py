"""Rows of MathVerse: questions about diagrams, each in versions with more or less of it in words (Zhang et al., ECCV 2024,
"MathVerse: Does Your Multi-modal LLM Truly See the Diagrams in Visual Math Problems?", arXiv 2403.14624). The test set of task
geometry; licence: MIT.

One row of testmini.json, made up here, with images/images_version_1-4/image_7.png:

    {"sample_index": "3", "problem_version": "Text Lite", "question": "Find angle C.\\nChoices:\\nA:40\\nB:50", "answer": "B",
     "image": "images_version_1-4/image_7.png", "question_type": "multi-choice", "metadata": {"subject": "Plane Geometry"}}

A multiple-choice row whose choices are neither in a separate field nor in its question is dropped. In version Vision Only the
question, choices included, is in the picture: the prompt says so, and a choice is then answered by its letter alone. `kind` is the
version, as published. Published answers are read by a language model; here they are compared by letter, text or mathematics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dyme.data import choices as options
from dyme.data.layouts import Layout, read_json
from dyme.errors import DataError

_PICTURED = "Answer the question in the picture."
_PICTURED_CHOICE = "Answer the question in the picture by the letter of the right choice."


def normalise(row: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the row in the fields of `jsonl.py`. Raises DataError for a multiple-choice row without choices."""
    version, question, choices, answer = (row.get(name) for name in ("problem_version", "question", "choices", "answer"))
    several = str(row.get("question_type", "")).replace("-", "_") == "multi_choice"
    pictured = version == "Vision Only" and not question
    if several and not choices and isinstance(question, str):
        question, choices = options.split(question)
    if several and not choices and not pictured:
        raise DataError(f"{where}: question_type is {row.get('question_type')}, but the row has no choices; remove the row")
    if pictured:
        question = _PICTURED_CHOICE if several else _PICTURED
    answer_kind = "letter" if several and pictured else "choice" if several else "math"
    return {
        "id": row.get("sample_index", row.get("id")),
        "image": row.get("image"),
        "question": question,
        "answer": " ".join(answer.split()) if isinstance(answer, str) and not choices else answer,
        "choices": choices if answer_kind == "choice" else None,
        "answer_kind": answer_kind,
        "kind": version,
    }


LAYOUT = Layout(expects="testmini.json beside images/ (MathVerse)", files={"test": ("testmini.json",)}, read=read_json)
