"""Samples given in Python: dicts in any of the usual words, pictures of any kind, and every fault in one line before anything long."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from dyme.config import Config, SupervisionConfig, TaskConfig
from dyme.errors import DataError
from dyme.pictures import ImageFile, Picture
from dyme.samples import given
from dyme.types import Fact, Sample

CONFIG = Config(task=TaskConfig(name="jsonl"))
PICTURE = Image.new("RGB", (8, 6), (200, 30, 30))
ROW: Mapping[str, Any] = {"question": "How many?", "answer": 3}


def one(**fields: Any) -> Sample:
    """The sample of a dict."""
    [sample], trouble = given([{**ROW, **fields}], CONFIG)
    assert trouble == ""
    return sample


def content() -> bytes:
    file = io.BytesIO()
    PICTURE.save(file, "PNG")
    return file.getvalue()


def refused(rows: Any, config: Config = CONFIG) -> str:
    """The one line about samples that cannot be used."""
    with pytest.raises(DataError) as caught:
        given(rows, config)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_dict_is_a_row_of_ones_own_data(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        [sample], _ = given(
            [{"problem": "How many?", "gold": 3, "cot": "One, two, three.", "img": PICTURE, "facts": {"cars": 3}, "choices": None}], CONFIG
        )
    assert (sample.id, sample.question, sample.answer, sample.rationale) == ("samples:0", "How many?", "3", "One, two, three.")
    assert sample.facts == (Fact("cars", "3"),) and [type(image) for image in sample.images] == [Picture]
    assert "answer is read from the field 'gold' (1 rows)" in caplog.text


def test_values_of_numpy_and_pandas_are_plain_ones() -> None:
    sample = one(
        answer=numpy.int64(3), choices=None, unit=math.nan, rationale=numpy.float64("nan"), answers=numpy.array(["3", "3", "2"]),
        facts=[Fact("cars", "3"), ("vans", numpy.float32(2.5))], embedding=numpy.zeros(9),
    )  # fmt: skip
    assert (sample.answer, sample.rationale, sample.unit) == ("3", None, "")
    assert sample.answers == ("3", "3", "2") and sample.facts == (Fact("cars", "3"), Fact("vans", "2.5"))
    assert one(choices=("a", "b"), answer="b").answer == "B"


def test_pictures_of_any_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PICTURE.save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    array = numpy.asarray(PICTURE)
    for picture in (PICTURE, array, content(), {"bytes": content(), "path": "x.png"}, Picture(PICTURE)):
        [image] = one(image=picture).images
        assert isinstance(image, Picture) and image.load().tobytes() == PICTURE.tobytes()
    for path in ("a.png", Path("a.png"), tmp_path / "a.png", {"bytes": None, "path": "a.png"}):
        [image] = one(image=path).images
        assert isinstance(image, ImageFile) and image.load().tobytes() == PICTURE.tobytes()
    assert len(one(images=[PICTURE, "a.png", array]).images) == 3
    assert len(one(image_1=PICTURE, image_2=array).images) == 2
    assert one(question="<image>\nHow many?", image=PICTURE).question == "How many?"


def test_samples_and_dicts_may_be_mixed_and_come_from_a_generator() -> None:
    rows = [Sample(id="a", question="?", answer="1"), {**ROW, "id": "b"}, ROW]
    assert [sample.id for sample in given((row for row in rows), CONFIG)[0]] == ["a", "b", "samples:2"]
    assert [s.id for s in given([ROW], CONFIG, "validation")[0]] == ["validation:0"]


def test_facts_that_the_recipe_asks_for_are_read_from_pictures_in_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    import dyme.samples

    asked: list[Any] = []
    monkeypatch.setattr(dyme.samples, "gather_facts", lambda samples, config, progress: asked.append(samples) or pytest.skip("asked"))
    with pytest.raises(pytest.skip.Exception):
        given([{**ROW, "image": PICTURE}], Config(supervision=SupervisionConfig(facts="ocr")))
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "samples is empty; give at least one"),
        (3, "samples is int; give a list"),
        ("rows.jsonl", "samples is str; give a list"),
        (ROW, "samples is dict; give a list"),
        ([ROW, "x"], "samples[1] is str; give a Sample, or a dict"),
        ([{"answer": 1}], "samples[0]: question is missing"),
        ([{"question": "?", "answer": math.nan}], "samples[0]: answer is missing"),
        ([{"question": "?", "answer": math.inf}], "samples[0]: answer is beyond the range of numbers"),
        ([{**ROW, "id": 7}, ROW, {**ROW, "id": "7"}], "samples[2]: id '7' is also that of samples[0]"),
        ([{**ROW, "image": numpy.zeros((3, 3))}], "samples[0]: image: image is an array of float64"),
        ([{**ROW, "image": "https://a.b/c.png"}], "samples[0]: image is an address on the web"),
        ([{**ROW, "image": "nowhere.png"}], "samples[0] (id samples:0): image 'nowhere.png' does not exist"),
        ([{**ROW, "image": 7}], "samples[0]: images is int"),
        ([{**ROW, "image": PICTURE, "images": [PICTURE]}], "has both image and images"),
        ([{**ROW, "screenshot": PICTURE}], "samples[0]: has no image, but its field 'screenshot' looks like one"),
        ([{**ROW, "question": "<image> and <image2>?", "image": PICTURE}], "samples[0]: the text holds <image2>"),
        ([{**ROW, "answer_kind": "nummer"}], "samples[0]: answer_kind is 'nummer'; choose from"),
        ([Sample(id="a", question=" ", answer="1")], "samples[0]: question is empty"),
        ([Sample(id="a", question="?", answer=3)], "samples[0]: answer is a number; write text in quotes"),  # type: ignore[arg-type]
        ([Sample(id="", question="?", answer="3")], "samples[0]: id is empty"),
        ([Sample(id="a", question="?", answer="3", facts=(("a", "b"),))], "samples[0]: facts is"),  # type: ignore[arg-type]
        ([Sample(id="a", question="?", answer="3", answer_kind="x")], "samples[0]: answer_kind is 'x'"),  # type: ignore[arg-type]
        ([Sample(id="a", question="?", answer="Answer: 3")], "row a: answer 'Answer: 3' cannot be given"),
    ],
)
def test_faults_are_one_line_with_their_place(rows: Any, said: str) -> None:
    assert said in refused(rows)


def test_a_data_frame_is_told_what_to_give() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame([{**ROW, "unit": None}, {**ROW, "unit": "m"}])
    assert 'give .to_dict("records")' in refused(frame)
    assert [sample.unit for sample in given(frame.to_dict("records"), CONFIG)[0]] == ["", "m"]
