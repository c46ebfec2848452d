"""The published data sets as samples: each task's fields, kinds and facts, in the layouts and in the rows that its file shows."""

from __future__ import annotations

import ast
import json
from collections import Counter
from pathlib import Path
from typing import Any

import published
import pytest
from published import WRITERS, picture

from dyme.config import TaskConfig
from dyme.data import tables
from dyme.data.prepare import Report, prepare
from dyme.errors import DataError
from dyme.tasks import TASKS, aokvqa, chartqa, geometry, gsm8k, slake, tabmwp, vqa_rad
from dyme.tasks.geometry import geo170k, mathverse
from dyme.types import Fact, Sample

CONFIG = TaskConfig()
FILES = {"chartqa": chartqa, "slake": slake, "vqa_rad": vqa_rad, "geometry": geometry, "aokvqa": aokvqa, "gsm8k": gsm8k, "tabmwp": tabmwp}


def made(name: str, folder: Path, **settings: Any) -> tuple[Report, dict[str, list[Sample]]]:
    """The report on a data set in its published layout, and its samples by split."""
    task, write = WRITERS[name]
    published_set = TASKS[task].published
    assert published_set is not None
    report = prepare(published_set, TaskConfig(name=task, **settings), str(write(folder / "src")), folder / "out")
    config = TaskConfig(name=task, path=str(folder / "out"))
    return report, {split: TASKS[task].load(config, split) for split in report.rows}


def counts(report: Report) -> dict[str, int]:
    return {reason: one.count for reason, one in report.dropped.items()}


# Each layout


def test_chartqa(tmp_path: Path) -> None:
    report, splits = made("chartqa", tmp_path)
    assert (report.rows, report.images, counts(report)) == ({"train": 3, "validation": 1, "test": 1}, 4, {})
    augmented, human, bare = splits["train"]
    assert (human.question, human.answer) == ("What is the difference between exports and imports in 2018?", "12")
    assert human.facts == augmented.facts == (Fact("2018, Exports", "48"), Fact("2018, Imports", "60"), Fact("2019, Exports", "62"))
    assert (human.kind, augmented.kind, bare.facts) == ("human", "augmented", ())
    assert {sample.answer_kind for sample in splits["train"]} == {"auto"}


def test_slake(tmp_path: Path) -> None:
    report, splits = made("slake", tmp_path)
    assert report.rows == {"train": 3, "validation": 1, "test": 1}
    assert counts(report) == {"the question is in language zh, not en": 1, "answer is empty": 1}
    kinds = [(sample.answer, sample.answer_kind, sample.kind) for sample in splits["train"]]
    assert kinds == [("Yes", "yes_no", "closed"), ("Liver, Spleen", "open", "open"), ("Left", "text", "closed")]
    assert made("slake", tmp_path / "zh", language="zh")[1]["train"][0].answer == "右侧"


def test_vqa_rad(tmp_path: Path) -> None:
    report, splits = made("vqa_rad", tmp_path)
    assert report.rows == {"train": 1, "validation": 1, "test": 2}
    assert [(sample.id, sample.answer_kind, sample.kind) for sample in splits["test"]] == [
        ("3", "yes_no", "closed"),
        ("4", "text", "closed"),
    ]
    assert splits["validation"][0].answer_kind == "open"


def test_geometry3k(tmp_path: Path) -> None:
    report, splits = made("geometry3k", tmp_path)
    assert (report.rows, counts(report)) == ({"train": 1, "validation": 1, "test": 1}, {"image does not exist": 1})
    (sample,) = splits["test"]
    assert (sample.id, sample.answer, sample.answer_kind, sample.kind) == ("test/2701", "B", "choice", "Length")
    assert sample.choices == ("3", "2 \\sqrt { 5 }", "6", "7")
    assert sample.question == "Find x.\nChoices:\n(A) 3\n(B) 2 \\sqrt { 5 }\n(C) 6\n(D) 7"
    assert sample.facts == (Fact("length of AB", "4"), Fact("AB", "perpendicular to BC"), Fact("D", "on line AB"))


def test_geo170k(tmp_path: Path) -> None:
    report, splits = made("geo170k", tmp_path)
    assert report.rows == {"train": 1, "validation": 1}
    assert counts(report) == {
        "the conversation ends in no Answer:, as captions do": 1,
        "answer is neither a letter from A to B nor one of the choices": 1,
    }
    (sample,) = splits["train"]
    assert sample.question == "Angle A is 60 and B is 70, then C is ()\nChoices:\n(A) 40°\n(B) 50°"
    assert (sample.answer, sample.rationale, sample.kind) == ("B", "They sum to 180, so C is 50.", "Geo170K")


def test_geo170k_reasons_up_to_the_last_answer() -> None:
    row = published.geo170k_rows()[0]
    row["conversations"][1]["value"] = "180 - 130 = 50.\nAnswer:50.\nThat is option B.\nAnswer: B"
    out = geo170k.normalise(row, "here")
    assert (out["answer"], out["rationale"]) == ("B", "180 - 130 = 50. 50.\nThat is option B.")


def test_several_letters_of_a_pictured_question_stand_on_one_line() -> None:
    row = {"problem_version": "Vision Only", "question": "", "question_type": "multi-choice", "answer": "C\nD", "image": "7.png"}
    assert mathverse.normalise(row, "here")["answer"] == "C D"


def test_mathverse(tmp_path: Path) -> None:
    report, splits = made("mathverse", tmp_path)
    assert counts(report) == {
        "question_type is multi-choice, but the row has no choices": 1,
        "has no picture, and geometry asks about pictures": 1,
    }
    choice, free, pictured, open_one = splits["test"]
    assert (choice.question, choice.answer) == ("Angle A is 40. Find angle B.\nChoices:\n(A) 40\n(B) 50", "B")
    assert (free.answer_kind, free.answer, free.kind) == ("math", "9\\pi", "Text Lite")
    assert (pictured.answer_kind, pictured.answer, pictured.choices) == ("letter", "A", ())
    assert "letter" in pictured.question
    assert (open_one.answer_kind, open_one.question) == ("math", "Answer the question in the picture.")


def test_aokvqa(tmp_path: Path) -> None:
    report, splits = made("aokvqa", tmp_path)
    assert report.rows == {"train": 2, "validation": 1}
    assert counts(report) == {"is marked difficult_direct_answer": 1, "has no direct_answers, as in the test split": 1}
    (sample,) = splits["validation"]
    assert (sample.id, sample.answer, sample.answer_kind, sample.rationale) == ("q-45", "sleep", "vqa", "He lies in a bed.")
    assert Counter(sample.answers) == {"sleep": 6, "nap": 3, "rest": 1}
    (choice,) = made("aokvqa", tmp_path / "choice", form="choice")[1]["validation"]
    assert (choice.answer, choice.answer_kind, choice.answers) == ("B", "choice", ())
    assert choice.question.endswith("\n(A) fish\n(B) sleep\n(C) paint\n(D) drive")


def test_gsm8k(tmp_path: Path) -> None:
    report, splits = made("gsm8k", tmp_path)
    assert (report.rows, counts(report)) == ({"train": 1, "validation": 1, "test": 1}, {"answer has no ####": 1})
    (sample,) = splits["train"]
    assert (sample.answer, sample.answer_kind, sample.rationale, sample.images) == ("1,800", "number", "300 * 6 = 1800 eggs.", ())


def test_tabmwp(tmp_path: Path) -> None:
    report, splits = made("tabmwp", tmp_path)
    assert report.rows == {"train": 2, "validation": 1, "test": 1}
    assert counts(report) == {"answer is neither a letter from A to B nor one of the choices": 1, "image does not exist": 1}
    one, several = splits["train"]
    assert (one.id, one.answer, one.unit, one.rationale) == ("7", "12", "$", "The lamp costs $12.")
    assert one.facts == (Fact("lamp", "$12"), Fact("mug", "$3"))
    assert (several.answer, several.choices) == ("B", ("lamp", "mug"))


@pytest.mark.parametrize("name", WRITERS)
def test_the_folder_in_which_it_was_unpacked_will_do(name: str, tmp_path: Path) -> None:
    """An archive's own folder, whether the path names it or the one that it is in."""
    task, write = WRITERS[name]
    published_set = TASKS[task].published
    assert published_set is not None
    write(tmp_path / "src" if name == "chartqa" else tmp_path / "src/Archive")
    above = prepare(published_set, TaskConfig(name=task), str(tmp_path / "src"), tmp_path / "a")
    within = prepare(published_set, TaskConfig(name=task), str(next((tmp_path / "src").iterdir())), tmp_path / "b")
    assert above.rows == within.rows


@pytest.mark.parametrize("name", WRITERS)
def test_a_wrong_folder_says_what_was_expected(name: str, tmp_path: Path) -> None:
    task, _ = WRITERS[name]
    published_set = TASKS[task].published
    assert published_set is not None
    picture(tmp_path / "photos/1.png")
    for path, what in (
        (tmp_path / "photos", "is not a data set of task"),
        ("no", "does not exist"),
    ):
        with pytest.raises(DataError, match=f"{what}.*; expected ") as caught:
            prepare(published_set, TaskConfig(name=task), str(path), tmp_path / "out")
        text = str(caught.value)
        assert "\n" not in text
        assert all(layout.expects in text for layout in published_set.layouts)
        assert "train.jsonl" in text
    assert not (tmp_path / "out").exists()


# The rows that the files open with


def shown(module: Any) -> dict[str, Any]:
    """The row in a module's docstring: the first indented block."""
    lines = (module.__doc__ or "").splitlines()
    start = next(k for k, line in enumerate(lines) if line.startswith("    {"))
    end = next(k for k in range(start, len(lines)) if not lines[k].strip())
    row: dict[str, Any] = json.loads(" ".join(line.strip() for line in lines[start:end]))
    return row


@pytest.mark.parametrize("name", FILES)
def test_the_row_of_the_docstring(name: str) -> None:
    module = FILES[name]
    out = module.normalise(shown(module), "here", CONFIG)
    assert out["question"] and (out.get("answer") or out.get("answers"))
    for word in ("Licence:", "Metric:", "published fields"):
        assert word in (module.__doc__ or "")
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    assert (ast.get_docstring(tree) or "").strip()


def test_rows_of_the_other_docstrings() -> None:
    row = geo170k.normalise(shown(geo170k), "here")
    assert (row["answer"], row["choices"], row["question"]) == (
        "B",
        ["40", "50"],
        "In triangle ABC, angle A is 60 and angle B is 70, then angle C is ()",
    )
    row = mathverse.normalise(shown(mathverse), "here")
    assert (row["answer"], row["choices"], row["answer_kind"], row["kind"]) == ("B", ["40", "50"], "choice", "Text Lite")


# Rows that are not what they should be


@pytest.mark.parametrize(
    ("name", "row", "reason"),
    [
        ("chartqa", {"label": [1]}, "label is not a list of texts"),
        ("slake", {"q_lang": "zh"}, "language zh, not en"),
        ("gsm8k", {"answer": "7"}, "answer has no ####"),
        ("gsm8k", {"answer": "7", "rationale": 7}, "rationale is not text"),
        ("tabmwp", {"table": 3}, "table is not text"),
        ("geometry", {"image_cdl": "Equal(x,3)"}, "image_cdl is not a list of texts"),
        ("geometry", {"image_cdl": [3]}, "image_cdl is not a list of texts"),
        ("geometry", {"conversations": "hello"}, "conversations are not a question and its answer"),
        ("geometry", {"conversations": [{"value": "Q"}, {"value": "It is so."}]}, "ends in no Answer:"),
        ("geometry", {"question_type": "multi_choice", "question": "Which?"}, "question_type is multi_choice, but the row has no choices"),
        ("aokvqa", {"direct_answers": "a, b"}, "direct_answers is text that is no list"),
        ("aokvqa", {"direct_answers": {"a": 1}}, "direct_answers is no list"),
        ("aokvqa", {}, "has no direct_answers"),
    ],
)
def test_bad_rows(name: str, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=f"^here:? .*{reason}.*;"):
        FILES[name].normalise(row, "here", CONFIG)


@pytest.mark.parametrize("index", [None, -1, 4, "1"])
def test_a_choice_beyond_the_choices(index: object) -> None:
    row = {"question": "Which?", "choices": ["a", "b", "c", "d"], "correct_choice_idx": index}
    with pytest.raises(DataError, match="has no correct_choice_idx among its choices"):
        aokvqa.normalise(row, "here", TaskConfig(form="choice"))


def test_a_row_of_a_file_that_a_task_has_no_use_for(tmp_path: Path) -> None:
    """Named as task.train, not prepared: the line is named."""
    file = published.lines(
        tmp_path / "train.jsonl", [{"question": "Which?", "answer": "A", "question_type": "multi_choice", "image": "a.png"}]
    )
    with pytest.raises(DataError, match=r"train\.jsonl:1: question_type is multi_choice"):
        TASKS["geometry"].load(TaskConfig(name="geometry", test=str(file)), "test")
    file = published.lines(tmp_path / "train.jsonl", [{"question": "Which?", "answer": "A", "image": ""}])
    with pytest.raises(DataError, match=r"train\.jsonl:1: has no picture, and chartqa asks about pictures"):
        TASKS["chartqa"].load(TaskConfig(name="chartqa", test=str(file)), "test")
    file = published.lines(tmp_path / "train.jsonl", [{"question": "Which?", "answer": "#### 1", "rationale": "", "image": "a.png"}])
    assert TASKS["gsm8k"].load(TaskConfig(name="gsm8k", test=str(file)), "test")[0].images == ()


# Tables


@pytest.mark.parametrize(
    ("table", "facts"),
    [
        ("Entity,Share\nSpain,12\nChile,\n", [("Spain", "12")]),
        ("Year,Exports,Imports\n2018,48,60\n", [("2018, Exports", "48"), ("2018, Imports", "60")]),
        ('Country,"Cost, $"\n"Korea, South","1,200"\n', [("Korea, South", "1,200")]),
        ("Year,A\n", []),
        ("", []),
    ],
)
def test_tables_of_charts(table: str, facts: list[tuple[str, str]]) -> None:
    assert [(fact.subject, fact.value) for fact in chartqa.table_facts(table)] == facts


def test_numbers_as_labels() -> None:
    header, body = ["Stem", "Leaf"], [["3", "2, 5"]]
    assert tables.facts(header, body) == (Fact("Stem 3", "2, 5"),)
    assert tables.facts(header, body, heading=False) == (Fact("3", "2, 5"),)
    assert tables.facts([], []) == ()
