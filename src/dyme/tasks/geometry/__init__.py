"""Geometry: questions about diagrams. Trained on Geometry3K (Lu et al., ACL 2021, "Inter-GPS: Interpretable Geometry Problem Solving
with Formal Language and Symbolic Reasoning", arXiv 2105.04165) and Geo170K (`geo170k.py`), tested on MathVerse (`mathverse.py`), as
in the paper.

One row, in Geometry3K's published fields (made up here), of train/7/data.json, with train/7/img_diagram.png and logic_form.json:

    {"problem_text": "Find x.", "choices": ["3", "5", "6", "7"], "answer": "B", "problem_type_graph": ["Triangle"],
     "problem_type_goal": ["Length"], "logic_form": {"diagram_logic_form": ["Equals(LengthOf(Line(A, B)), 3)",
     "Equals(LengthOf(Line(A, C)), x)", "Perpendicular(Line(A, B), Line(B, C))"]}}

Rows as {"image", "question", "answer", "image_cdl", "construction_cdl", ...} (FormalGeo) and as in hiyouga/geometry3k (images,
problem, answer; the answer is made from choices and ground_truth) are taken too: their answers are free.

Facts come from the formal statements about the diagram ("length of AB", "3").
`kind` is the quantity that is asked for, the data set, or MathVerse's version.

Licence: Geometry3K and MathVerse MIT, Geo170K: see its owners; not shipped. Metric: accuracy (Geometry3K: section 6 of its paper,
choices; MathVerse: choices and free answers); free answers are compared as mathematics.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dyme.config import TaskConfig
from dyme.data.choices import LETTERS
from dyme.data.layouts import Layout
from dyme.data.published import Published
from dyme.data.splits import loader
from dyme.errors import DataError
from dyme.tasks.geometry import geo170k, mathverse, statements
from dyme.tasks.task import Task


def normalise(row: Mapping[str, Any], where: str, config: TaskConfig) -> dict[str, Any]:
    """Return the row of any of the data sets in the fields of `jsonl.py`."""
    if "conversations" in row:
        return geo170k.normalise(row, where)
    if "question_type" in row or "problem_version" in row:
        return mathverse.normalise(row, where)
    images = row.get("images")
    answer, choices = _free_answer(row) if "problem" in row else (row.get("answer"), row.get("choices") or None)
    question = row.get("problem_text", row.get("question", row.get("problem")))
    goal = row.get("problem_type_goal")
    return {
        "id": row.get("id"),
        "image": None if images else row.get("image"),
        "images": images or None,
        "question": question,
        "answer": answer,
        "choices": choices,
        "answer_kind": "choice" if choices else "math",
        "facts": [[fact.subject, fact.value] for fact in statements.facts(_statements(row, where))],
        "kind": str(goal[0]) if isinstance(goal, list) and goal else "Geometry3K",
    }


def _free_answer(row: Mapping[str, Any]) -> tuple[Any, list[Any] | None]:
    """Return the free answer of hiyouga/geometry3k (the text of the right choice, whose letter is `ground_truth`) and None; for an
    answer that is a letter, the letter and the choices.
    """
    answer, letter, choices = row.get("answer"), row.get("ground_truth"), row.get("choices") or []
    if answer is None and isinstance(letter, str) and len(letter) == 1 and letter in LETTERS[: len(choices)]:
        return choices[LETTERS.index(letter)], None
    answer = letter if answer is None else answer
    return answer, list(choices) if choices and isinstance(answer, str) and answer in LETTERS[: len(choices)] else None


def _statements(row: Mapping[str, Any], where: str) -> list[str]:
    """Return the formal statements about the diagram, those about its picture first."""
    logic = row.get("logic_form")
    lists = {
        "image_cdl": row.get("image_cdl"),
        "construction_cdl": row.get("construction_cdl"),
        "diagram_logic_form": logic.get("diagram_logic_form") if isinstance(logic, dict) else None,
    }
    found: list[str] = []
    for name, listed in lists.items():
        if not isinstance(listed, list | None) or not all(isinstance(one, str) for one in listed or []):
            raise DataError(f"{where}: {name} is not a list of texts; write one statement a text")
        found += listed or []
    return found


def _problem(file: Path, base: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the one problem of a folder."""
    folder = file.parent
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
        logic = folder / "logic_form.json"
        form = json.loads(logic.read_text(encoding="utf-8")) if logic.is_file() else row.get("logic_form")
    except (ValueError, AttributeError) as error:
        raise DataError(f"{file}: not valid JSON ({error}); fetch the file again") from error
    yield "1", row | {"id": f"{folder.parent.name}/{folder.name}", "image": str(folder / "img_diagram.png"), "logic_form": form}


PUBLISHED = Published(
    normalise=normalise,
    layouts=(
        Layout(
            expects="train/, val/ and test/ with a folder for each problem (data.json, img_diagram.png, logic_form.json; Geometry3K)",
            files={"train": ("train/*/data.json",), "validation": ("val/*/data.json",), "test": ("test/*/data.json",)},
            read=_problem,
        ),
        geo170k.LAYOUT,
        mathverse.LAYOUT,
    ),
    configurations={"AI4Math/MathVerse": "testmini"},
)
TASK = Task(
    name="geometry",
    summary="questions about diagrams: Geometry3K and Geo170K to train on, MathVerse to report on",
    metric="accuracy; free answers as mathematics",
    tolerance=0.0,
    load=loader(PUBLISHED),
    status="real rows; Geo170K: fixtures",
    published=PUBLISHED,
)
