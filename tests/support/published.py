"""Small data sets in the layouts in which the real ones are published: made-up rows, drawn pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

Rows = Sequence[Mapping[str, Any]]


def picture(file: Path, number: int = 0) -> Path:
    """A picture with a bar whose place tells it from the others."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (48, 32), (250, 250, 240))
    ImageDraw.Draw(image).rectangle((number % 40, 4, number % 40 + 6, 28), fill=(10, 40 + number % 200, 160))
    image.save(file)
    return file


def dump(file: Path, value: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(value, ensure_ascii=False, indent=1), encoding="utf-8")
    return file


def lines(file: Path, rows: Rows) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def chartqa(folder: Path) -> Path:
    """Two charts to train on, one of them with a table; a person's and a model's questions; one for validation, one for the test."""
    base = folder / "ChartQA Dataset"
    for split, names in {"train": ("41", "42"), "val": ("43",), "test": ("44",)}.items():
        for name in names:
            picture(base / split / "png" / f"{name}.png", int(name))
    table = "Year,Exports,Imports\n2018,48,60\n2019,62,\n"
    (base / "train/tables").mkdir()
    (base / "train/tables/41.csv").write_text(table, encoding="utf-8")
    human = [
        {"imgname": "41.png", "query": "What is the difference between exports and imports in 2018?", "label": "12"},
        {"imgname": "42.png", "query": "Which bar is the tallest?", "label": "[Left, Right]"},
    ]
    dump(base / "train/train_human.json", human)
    dump(base / "train/train_augmented.json", [{"imgname": "41.png", "query": "What were the exports in 2019?", "label": "62"}])
    dump(base / "val/val_human.json", [{"imgname": "43.png", "query": "How many bars are there?", "label": "1"}])
    dump(base / "test/test_augmented.json", [{"imgname": "44.png", "query": "Is there a bar?", "label": "Yes"}])
    return folder


def slake(folder: Path) -> Path:
    """Six English questions and a Chinese one."""

    def row(qid: int, image: int, **fields: Any) -> dict[str, Any]:
        common = {"img_id": image, "img_name": f"xmlab{image}/source.jpg", "q_lang": "en", "content_type": "Organ", "qid": qid}
        return common | {"triple": ["vhead", "_", "_"], "base_type": "vqa"} | fields

    for image in (1, 2, 3):
        picture(folder / f"imgs/xmlab{image}/source.jpg", image)
    train = [
        row(1, 1, question="Is the liver enlarged?", answer="Yes", answer_type="CLOSED"),
        row(2, 1, question="Which organs are shown?", answer="Liver, Spleen", answer_type="OPEN"),
        row(3, 1, question="肝脏在哪里?", answer="右侧", answer_type="OPEN", q_lang="zh"),
        row(4, 2, question="Is it in the left or right lung?", answer="Left", answer_type="CLOSED"),
        row(5, 2, question="How many kidneys are there?", answer="", answer_type="OPEN"),
    ]
    dump(folder / "train.json", train)
    dump(folder / "validate.json", [row(6, 3, question="Is this a CT?", answer="No", answer_type="CLOSED")])
    dump(folder / "test.json", [row(7, 3, question="What is in the middle?", answer="Heart", answer_type="OPEN")])
    return folder


def vqa_rad(folder: Path) -> Path:
    """One file for both splits, told apart by phrase_type."""

    def row(qid: int, image: str, answer: str, kind: str, phrase: str) -> dict[str, Any]:
        question = f"Question {qid} about {image}?"
        return {"qid": qid, "image_name": image, "image_organ": "HEAD", "question": question, "answer": answer} | {
            "answer_type": kind,
            "question_type": "PRES",
            "phrase_type": phrase,
            "question_rephrase": "NULL",
        }

    for k in range(3):
        picture(folder / f"VQA_RAD Image Folder/synpic{k}.jpg", k)
    rows = [
        row(1, "synpic0.jpg", "Yes", "CLOSED ", "freeform"),
        row(2, "synpic1.jpg", "in the left lobe", "OPEN", "para"),
        row(3, "synpic2.jpg", "No", "CLOSED", "test_freeform"),
        row(4, "synpic2.jpg", "CT", "CLOSED", "test_para"),
    ]
    dump(folder / "VQA_RAD Dataset Public.json", rows)
    return folder


def geometry3k(folder: Path) -> Path:
    """Problems in folders of their own; the second has no diagram."""
    for split, number in (("train", 9), ("train", 10), ("val", 2401), ("test", 2701)):
        place = folder / split / str(number)
        if number != 10:
            picture(place / "img_diagram.png", number)
        row = {"problem_text": "Find x.", "choices": ["3", "2 \\sqrt { 5 }", "6", "7"], "answer": "B", "id": number, "data_type": split}
        dump(place / "data.json", row | {"problem_type_graph": ["Triangle"], "problem_type_goal": ["Length"]})
        logic = ["Equals(LengthOf(Line(A, B)), 4)", "Perpendicular(Line(A, B), Line(B, C))", "PointLiesOnLine(D, Line(A, B))"]
        dump(place / "logic_form.json", {"diagram_logic_form": logic, "line_instances": ["AB"]})
    return folder


GEO170K_PROMPT = "<image>\nFirst perform reasoning, then finally select the question from the choices in the following format: Answer: xxx."


def geo170k_rows() -> list[dict[str, Any]]:
    """Two questions, a caption, and one whose answer is beyond its choices."""

    def row(image: str, question: str, choices: str, solution: str) -> dict[str, Any]:
        asked = f"{GEO170K_PROMPT}\nQuestion:{question}\nChoices:\n{choices}"
        return {"image": image, "conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": solution}]}

    caption = [{"from": "human", "value": "Render a description of the image.\n<image>"}, {"from": "gpt", "value": "A triangle ABC."}]
    return [
        row("geoqa_plus/1.png", "Angle A is 60 and B is 70, then C is ()", "A:40°\nB:50°", "They sum to 180, so C is 50.\nAnswer:B"),
        row("geoqa_plus/2.png", "What is AB? ()", "A:3cm\nB:4cm\nC:5cm\nD:2√{3}cm", "By Pythagoras AB = 5.\nSo it is C.\nAnswer:C"),
        {"image": "geoqa_plus/2.png", "conversations": caption},
        row("geoqa_plus/2.png", "What is BC? ()", "A:3cm\nB:4cm", "It is none of them.\nAnswer:E"),
    ]


def geo170k(folder: Path) -> Path:
    for k in (1, 2):
        picture(folder / f"images/geoqa_plus/{k}.png", k)
    dump(folder / "qa_tuning.json", geo170k_rows())
    return folder


def mathverse(folder: Path) -> Path:
    """Free answers, choices in the question, in the picture, nowhere; and one without a picture."""

    def row(index: int, version: str, kind: str, question: str, answer: str, image: str = "images_version_1-4/1.png") -> dict[str, Any]:
        return {"sample_index": str(index), "problem_version": version, "question": question, "answer": answer, "image": image} | {
            "question_type": kind,
            "metadata": {"subject": "Plane Geometry"},
            "query_wo": "...",
        }

    picture(folder / "images/images_version_1-4/1.png", 1)
    rows = [
        row(1, "Text Dominant", "multi-choice", "Angle A is 40. Find angle B.\nChoices:\nA:40\nB:50", "B"),
        row(2, "Text Lite", "free-form", "Find the area.", "9\\pi"),
        row(3, "Vision Only", "multi-choice", "", "A"),
        row(4, "Vision Only", "free-form", "", "7"),
        row(5, "Text Lite", "multi-choice", "Which one is it?", "A"),
        row(6, "Text Only", "free-form", "Find x.", "3", image=""),
    ]
    dump(folder / "testmini.json", rows)
    return folder


def aokvqa(folder: Path) -> Path:
    """Photographs by COCO's names; one question is marked difficult, and the test split has no answers."""

    def row(number: int, **fields: Any) -> dict[str, Any]:
        return (
            {"split": "train", "image_id": number, "question_id": f"q-{number}", "question": "What will the man do?"}
            | {
                "choices": ["fish", "sleep", "paint", "drive"],
                "correct_choice_idx": 1,
                "direct_answers": ["sleep"] * 6 + ["nap"] * 3 + ["rest"],
                "difficult_direct_answer": False,
                "rationales": ["He lies in a bed.", "It is dark.", "He yawns."],
            }
            | fields
        )

    for number in (42, 43, 44):
        picture(folder / f"coco/train2017/{number:012}.jpg", number)
    picture(folder / f"coco/val2017/{45:012}.jpg", 45)
    dump(folder / "aokvqa_v1p0_train.json", [row(42), row(43, difficult_direct_answer=True), row(44)])
    dump(folder / "aokvqa_v1p0_val.json", [row(45)])
    withheld = {"direct_answers": None, "correct_choice_idx": None, "rationales": None}
    dump(folder / "aokvqa_v1p0_test.json", [{k: v for k, v in (row(46) | withheld).items() if v is not None}])
    return folder


def gsm8k(folder: Path) -> Path:
    eggs = {"question": "A box holds 6 eggs. How many are in 300 boxes?", "answer": "300 * 6 = <<300*6=1800>>1800 eggs.\n#### 1,800"}
    pens = {"question": "Two pens cost $3. What do four cost?", "answer": "Twice <<4/2=2>>2 is $<<2*3=6>>6.\n#### 6"}
    lines(folder / "train.jsonl", [eggs, pens, {"question": "How many?", "answer": "There is no mark here: 7"}])
    lines(folder / "test.jsonl", [pens])
    return folder


def tabmwp(folder: Path) -> Path:
    def row(**fields: Any) -> dict[str, Any]:
        return (
            {"question": "What does a lamp cost?", "answer": "12", "choices": None, "unit": "$", "ans_type": "integer_number"}
            | {
                "table": "lamp | $12\nmug | $3",
                "table_title": None,
                "solution": "The lamp costs $12.\n\nThe answer is 12.",
            }
            | fields
        )

    for k in (7, 8, 9, 10):
        picture(folder / f"tables/{k}.png", k)
    several = row(question="Which is cheaper?", answer="mug", choices=["lamp", "mug"], unit=None, ans_type="extractive_text")
    dump(folder / "problems_train.json", {"7": row(), "8": several})
    dump(folder / "problems_dev.json", {"9": row()})
    dump(folder / "problems_test.json", {"10": row(answer="kettle", choices=["lamp", "mug"]), "11": row(), "9": row()})
    return folder


WRITERS: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "chartqa": ("chartqa", chartqa),
    "slake": ("slake", slake),
    "vqa_rad": ("vqa_rad", vqa_rad),
    "geometry3k": ("geometry", geometry3k),
    "geo170k": ("geometry", geo170k),
    "mathverse": ("geometry", mathverse),
    "aokvqa": ("aokvqa", aokvqa),
    "gsm8k": ("gsm8k", gsm8k),
    "tabmwp": ("tabmwp", tabmwp),
}
"""Data set -> its task, and what writes it."""
