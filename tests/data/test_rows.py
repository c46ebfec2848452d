"""Rows with choices, several answers, an answer kind or a unit: what is read, and what is refused with its line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dyme.config import TaskConfig
from dyme.data.rows import MANIFEST, load, read_rows
from dyme.errors import DataError
from dyme.types import Sample

ROW = {"question": "Which is red?", "answer": "plum"}


def one(folder: Path, **fields: Any) -> Sample:
    file = folder / "train.jsonl"
    file.write_text(json.dumps(ROW | fields), encoding="utf-8")
    return read_rows(file)[0]


def test_choices(tmp_path: Path) -> None:
    sample = one(tmp_path, choices=["lime", "plum"], unit="pieces")
    assert (sample.answer, sample.answer_kind, sample.choices, sample.unit) == ("B", "choice", ("lime", "plum"), "pieces")
    assert sample.question == "Which is red?\nChoices:\n(A) lime\n(B) plum"
    assert sample.answer_text == "plum"
    assert one(tmp_path, choices=["A: 1", "B: 2"], answer=2).answer == "B"
    assert one(tmp_path, choices=[], answers=[]) == one(tmp_path)


def test_the_answer_in_words() -> None:
    sample = Sample(id="", question="", answer="C", choices=("lime", "plum"))
    assert sample.answer_text == "C"
    assert Sample(id="", question="", answer="A").answer_text == "A"
    assert Sample(id="", question="", answer="A and B", choices=("lime", "plum")).answer_text == "A and B"


def test_answers_of_several_annotators(tmp_path: Path) -> None:
    sample = one(tmp_path, answer=None, answers=["plum", "fig", "fig"])
    assert (sample.answer, sample.answers, sample.answer_kind) == ("fig", ("plum", "fig", "fig"), "vqa")
    assert one(tmp_path, answers=["plum", "fig", "fig"]).answer == "plum"


@pytest.mark.parametrize(
    ("kind", "answer"),
    [("auto", "5"), ("number", "5 cm"), ("text", "plum"), ("yes_no", "Yes."), ("list", "a, b"), ("math", "\\pi"), ("open", "x")],
)
def test_answer_kinds(tmp_path: Path, kind: str, answer: str) -> None:
    assert one(tmp_path, answer_kind=kind, answer=answer).answer_kind == kind


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"answer_kind": "choice"}, "answer_kind choice needs choices; add a list of texts"),
        ({"choices": ["lime", "fig"]}, "answer 'plum' is neither a letter from A to B nor one of the choices"),
        ({"choices": ["lime", "plum"], "answer": "C"}, "answer 'C' is neither a letter"),
        ({"choices": ["lime", "plum"], "answer_kind": "text"}, "choices go with answer_kind choice, not with text"),
        ({"choices": ["plum"]}, "choices has 1 entries; write 2 to 26"),
        ({"choices": ["plum"] * 27}, "choices has 27 entries"),
        ({"choices": "plum"}, "choices is text; write a list of texts"),
        ({"choices": ["plum", None]}, "choices: entry 2 is null"),
        ({"choices": ["plum", " "]}, "choices: entry 2 is empty"),
        ({"answer_kind": "vqa"}, "answer_kind vqa needs answers"),
        ({"answers": ["plum"], "answer_kind": "open"}, "answers go with answer_kind vqa, not with open"),
        ({"answers": {"plum": 3}}, "answers is an object"),
        ({"answer_kind": "exact"}, "answer_kind is 'exact'; choose from auto, number, text"),
        ({"answer_kind": ["text"]}, "answer_kind is \\['text'\\]"),
        ({"answer_kind": "yes_no"}, "answer 'plum' is neither yes nor no"),
        ({"answer_kind": "number"}, "answer 'plum' is no number"),
        ({"unit": 3}, "unit is a number; write text"),
    ],
)
def test_refused(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=rf"train\.jsonl:1: {reason}") as caught:
        one(tmp_path, **fields)
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value), "says what to do"


def test_pictures_of_a_prepared_folder_are_not_decoded_again(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    one(tmp_path, image="a.png")
    config = TaskConfig(test=str(tmp_path / "train.jsonl"))
    with pytest.raises(DataError, match="not a picture"):
        load(config, "test")
    (tmp_path / MANIFEST).write_text("{}", encoding="utf-8")
    assert len(load(config, "test")) == 1
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match="does not exist"):
        load(config, "test")


# Where the picture goes, and what it is called


@pytest.mark.parametrize(
    ("question", "read"),
    [
        ("<image>\nHow much?", "How much?"),
        ("<image> <image>How much?", "How much?"),
        ("How much?\n<image>\n", "How much?"),
        ("Is <image> larger?", "Is the image larger?"),
        ("<image> Is the <image1> larger?", "Is the image larger?"),
        ("Compare it with <image 1>", "Compare it with the image"),
    ],
)
def test_placeholders_around_a_question(question: str, read: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert one(tmp_path, question=question, image="a.png").question == read
    around = "1 questions begin or end in <image>, which is left out: pictures precede the question anyway"
    within = '1 rows hold <image> within a text, which is written as "the image", or as "image 2" where there are several'
    told = [around] * ("<image>" in question and not question.startswith("Is")) + [within] * (read != "How much?")
    assert caplog.messages == [f"{tmp_path / 'train.jsonl'}: {note}" for note in told]
    with pytest.raises(DataError, match="a place for a picture .<image>., but the row has no picture; name it in image"):
        one(tmp_path, question=question)


def test_placeholders_of_several_pictures(tmp_path: Path) -> None:
    fields: dict[str, Any] = {"images": ["a.png", "b.png"], "choices": ["<image 1>", "<image 2>"], "answer": "B"}
    sample = one(tmp_path, question="<image 1>Is <image> or <image2> larger?", rationale="Look at <image 2>.", **fields)
    assert sample.question == "Is image 1 or image 2 larger?\nChoices:\n(A) image 1\n(B) image 2"
    assert sample.rationale == "Look at image 2."
    with pytest.raises(DataError, match="the text holds <image3>, but the row has 2 pictures; name all of them"):
        one(tmp_path, question="Is <image 3> larger?", **fields)


@pytest.mark.parametrize("name", ["image_path", "img", "Image", "picture", "file_name"])
@pytest.mark.parametrize("value", ["images/1.PNG", ["a.jpg", "b.jpg"], {"bytes": None, "path": "x"}])
def test_a_picture_in_a_field_that_is_not_read(name: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf":1: has no image, but its field '{name}' looks like one; name that field image, or remove it"):
        one(tmp_path, **{name: value})
    assert one(tmp_path, image="a.png", **{name: value}).images


def test_other_fields_are_no_pictures(tmp_path: Path) -> None:
    assert one(tmp_path, image_id=5, img="none", caption="as in a.png", source=["a.png"], path="data/rows.csv", size={"path": 3}) == one(
        tmp_path
    )
