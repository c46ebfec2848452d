"""What the buttons of the page do, without a browser."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from PIL import Image

from dyme.errors import DataError
from dyme.facts.chart_text import Text
from dyme.play import session as sessions
from dyme.play.asking import Model, Play
from dyme.play.session import Desk, Session, told


def encoded(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("L", (width, height), 255).save(file, "PNG")
    return file.getvalue()


def chosen(play: Play, place: int = 0) -> Session:
    session = Session()
    session.look_at(play.samples[place].images, play.samples[place])
    return session


def test_a_sample_is_asked_in_both_ways_and_its_statements_are_marked(play: Play, desk: Desk) -> None:
    session, sample = chosen(play), play.samples[0]
    changes = list(desk.ask(session, sample.question, sample.answer))
    assert list(changes[0]) == [0, 1] and "Waiting" in changes[0][1]
    assert {place for change in changes[1:] for place in change} == {0, 1}
    drawn = desk.drawn(session)
    assert "embedded, told to think" in drawn[0] and "<mark" in drawn[0] and "verdict" in drawn[1] and "<mark" not in drawn[1]
    assert "right" in desk.route(session, sample.question, sample.answer) or "wrong" in desk.route(session, sample.question, sample.answer)


def test_another_picture_or_stop_ends_what_is_being_written(play: Play, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dyme.play.asking.PAUSE", 0.0)
    session = chosen(play)
    asking = desk.ask(session, play.samples[0].question, play.samples[0].answer)
    next(asking), next(asking)
    session.look_at(play.samples[1].images, play.samples[1])
    [last] = list(asking)
    assert all("Ask, and the answer is written here" in part for part in last.values()), "nothing of the earlier question is left"


def test_an_error_of_one_model_leaves_the_other(play: Play) -> None:
    class Broken:
        takes_images, model = False, None

    both = Desk(replace(play, models=(Model(name="blind", policy=Broken()), *play.models)))  # type: ignore[arg-type]
    last: dict[int, str] = {}
    for change in both.ask(chosen(play), play.samples[0].question, play.samples[0].answer):
        last |= change
    assert "alert" in last[0] and "alert" in last[1] and "reads text only" in last[0]
    assert "verdict" in last[2] and "verdict" in last[3]


def test_pictures_that_cannot_be_used_are_refused_and_change_nothing(play: Play, desk: Desk) -> None:
    session = chosen(play)
    before = session.pictures
    for content, line in (
        (b"no picture", "not a picture"), (b"", "not a picture"), (encoded(50, 50)[:60], "cut off or damaged"),
        (encoded(9_000, 8_900), "too large"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=line):
            desk.upload(session, content)
    assert session.pictures == before and session.chosen is play.samples[0]
    desk.upload(session, encoded(8000, 500))
    assert session.chosen is None and session.facts == () and session.copies[0].size == (2000, 125)
    *_, last = desk.ask(session, "What is the highest value?", "")
    assert "verdict" in last[1], "the model reads 8,000 pixels by its own rules"


def test_texts_that_ocr_reads_give_regions_and_facts_where_there_are_none(play: Play, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    sample, session = play.samples[0], chosen(play)
    found = [Text(text=fact.value, left=24 * k, top=10, right=24 * k + 12, bottom=20) for k, fact in enumerate(sample.facts)]
    found += [Text(text=fact.subject, left=24 * k, top=85, right=24 * k + 12, bottom=95) for k, fact in enumerate(sample.facts)]

    class Reader:
        def read(self, picture: Image.Image) -> list[Text]:
            return found

    monkeypatch.setattr(sessions, "OcrExtractor", Reader)
    list(desk.ask(session, sample.question, sample.answer))
    assert "<rect" not in desk.panel(session, 0)
    assert "8 texts" in desk.read(session) and session.facts == sample.facts
    assert "<rect" in desk.panel(session, 0) and "Where these statements look" in desk.panel(session, 0)
    assert desk.read(Session()) == "there is no picture to read"
    desk.upload(session, encoded(96, 96))
    assert session.texts == []
    desk.read(session)
    assert {fact.subject for fact in sample.facts} <= {fact.subject for fact in session.facts} and "OCR" in session.source


def test_an_error_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    assert told(DataError("a; b")) == "a; b" and not caplog.records
    assert told(ValueError("a\nb")) == "ValueError: a" and caplog.records[0].exc_info
