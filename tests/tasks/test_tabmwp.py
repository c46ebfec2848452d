"""TabMWP rows: cells as facts, the solution as rationale, choices, and rows of the real data."""

import json
from pathlib import Path

import pytest
from published import picture

from dyme.config import TaskConfig
from dyme.errors import DataError
from dyme.supervise.local.derivation import derive
from dyme.tasks import TASKS, tabmwp
from dyme.types import Fact, Sample
from dyme.verify.answers import fault, matches

DATA = Path(__file__).parents[3] / "shared/data/tabmwp"
ROW = {
    "image": "7.png",
    "question": "How much more does a lamp cost than a mug?",
    "answer": "9",
    "choices": None,
    "unit": "$",
    "ans_type": "integer_number",
    "solution": "Subtract the price of a mug from the price of a lamp:\n\n$12 - $3 = $9\n\nA lamp costs $9 more than a mug.",
    "table": "lamp | $12\nmug | $3",
    "table_title": None,
}


def write(folder: Path, *rows: dict[str, object]) -> Path:
    picture(folder / "7.png")
    file = folder / "rows.jsonl"
    file.write_text("\n".join(json.dumps(ROW | row) for row in rows), encoding="utf-8")
    return file


def read(file: Path) -> list[Sample]:
    return tabmwp.TASK.load(TaskConfig(name="tabmwp", test=str(file)), "test")


def test_a_row(tmp_path: Path) -> None:
    (row,) = read(write(tmp_path, {}))
    assert row.facts == (Fact("lamp", "$12"), Fact("mug", "$3")) and row.kind == "integer_number" and row.answer == "9"
    assert row.rationale == "Subtract the price of a mug from the price of a lamp:\n$12 - $3 = $9\nA lamp costs $9 more than a mug."


@pytest.mark.parametrize(
    ("table", "facts"),
    [
        ("Fruit | Price\nlime | $2\nkiwi | $3", [("lime", "$2"), ("kiwi", "$3")]),
        ("Fruit | Mon | Tue\nlime | 1 | 2", [("lime, Mon", "1"), ("lime, Tue", "2")]),
        ("State | 1990 | 2000\nUtopia | 7 | 8", [("Utopia, 1990", "7"), ("Utopia, 2000", "8")]),
        ("Stem | Leaf \n3 | 2, 5\n4 | ", [("Stem 3", "2, 5")]),
        ("Goals | Frequency\n0 | 19\n1 | 16", [("Goals 0", "19"), ("Goals 1", "16")]),
        (" | Blue | Red\nsmall | 4 | 3", [("small, Blue", "4"), ("small, Red", "3")]),
        ("park | 9:45 A.M. | 10:45 A.M.\nquay | 10:00 A.M.", [("park", "9:45 A.M."), ("park", "10:45 A.M."), ("quay", "10:00 A.M.")]),
        ("Boxes | Pens\n1 | 5\n2 | ?", [("Boxes 1", "5")]),
        ("", []),
    ],
)  # fmt: skip
def test_tables(table: str, facts: list[tuple[str, str]]) -> None:
    assert [(fact.subject, fact.value) for fact in tabmwp.table_facts(table)] == facts


def test_choices_and_a_closing_answer(tmp_path: Path) -> None:
    (row,) = read(write(tmp_path, {"choices": ["yes", "no"], "answer": "yes", "solution": "12 is more than 3.\n\nThe answer is yes."}))
    assert row.question.endswith("mug?\nChoices:\n(A) yes\n(B) no") and row.rationale == "12 is more than 3."
    assert (row.answer, row.answer_kind, row.choices, row.answer_text, row.unit) == ("A", "choice", ("yes", "no"), "yes", "$")


@pytest.mark.parametrize(
    ("answer", "kind"),
    [("9", "number"), (9, "number"), ("-5", "number"), ("$1,234.50", "number"), ("1/4", "number"), (".5", "number"), ("surplus", "text"),
     ("1:45 P.M.", "text"), ("4 racks", "text"), ("1,00", "text"), ("3/0", "text")],
)  # fmt: skip
def test_free_answers_are_numbers_or_texts(tmp_path: Path, answer: object, kind: str) -> None:
    (row,) = read(write(tmp_path, {"answer": answer}))
    assert (row.answer_kind, row.answer) == (kind, str(answer))
    assert fault(row) == ""


@pytest.mark.parametrize(("field", "value"), [("table", 3), ("solution", ["a"]), ("choices", "yes"), ("answer", None)])
def test_a_bad_row_is_named(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(DataError, match=rf"rows\.jsonl:1: {field}"):
        read(write(tmp_path, {field: value}))


def test_the_metric_is_exact() -> None:
    task = TASKS["tabmwp"]
    assert task.tolerance == 0 and matches("$9.00", "9") and not matches("9.1", "9", tolerance=task.tolerance) and not matches("yes", "no")


def test_a_split_without_a_file() -> None:
    with pytest.raises(DataError, match="task tabmwp has no train data"):
        tabmwp.TASK.load(TaskConfig(name="tabmwp"), "train")


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data/tabmwp beside the repository")
def test_real_rows() -> None:
    config = TaskConfig(name="tabmwp", train=str(DATA / "train.jsonl"), test=str(DATA / "eval.jsonl"))
    rows = [*TASKS["tabmwp"].load(config, "train"), *TASKS["tabmwp"].load(config, "validation")]
    assert len(rows) == 160 and all(row.facts and row.rationale and row.images and row.answer for row in rows)
    assert sum(derive(row) is not None for row in rows) >= 115
