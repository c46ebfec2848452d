"""What one open page holds, and what its buttons do: pictures and questions in, parts of the page out. No gradio here."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL import Image

from dyme.errors import DymeError
from dyme.evaluation.items import STYLES
from dyme.facts.chart_pairs import chart_facts
from dyme.facts.chart_text import Text
from dyme.facts.ocr import OcrExtractor
from dyme.model.loading import first_line
from dyme.pictures import ImageSource, Picture
from dyme.play import shown
from dyme.play.asking import Answered, Asked, Play, answers, question_of
from dyme.play.routing import routed
from dyme.types import Fact, Sample

KEPT_EDGE = 2000
"""Longer edge, in pixels, of the copy of a picture that is shown and read by OCR; the model gets the picture itself."""
WAYS = ("told to think", "told to answer at once")
"""What the page calls the two styles of a prompt, in their order."""
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Session:
    """The state of one open page."""

    chosen: Sample | None = None
    """The sample whose picture is shown; None: the picture was uploaded, or there is none."""
    pictures: tuple[ImageSource, ...] = ()
    copies: list[Image.Image] = field(default_factory=list)
    """Copies of the pictures of at most KEPT_EDGE."""
    facts: tuple[Fact, ...] = ()
    source: str = ""
    """Where the facts come from, in words."""
    texts: list[Text] = field(default_factory=list)
    """Texts that OCR read in the first of `copies`."""
    asked: Asked | None = None
    found: dict[int, Answered] = field(default_factory=dict)
    """Answers to `asked`, by the place of their panel."""
    turn: int = 0
    """Increased when the picture changes or Stop is pressed: what belongs to an earlier turn ends."""

    @property
    def shown(self) -> Image.Image | None:
        """Return the picture in which texts were read."""
        return self.copies[0] if self.texts and self.copies else None

    def look_at(self, pictures: tuple[ImageSource, ...], chosen: Sample | None) -> None:
        """Take other pictures, and drop what belonged to the earlier ones. Raises DataError for one that cannot be read."""
        copies = [_copy(source.load()) for source in pictures]
        self.chosen, self.pictures, self.copies = chosen, pictures, copies
        self.facts = chosen.facts if chosen else ()
        self.source = "As the data have them" if self.facts else ""
        self.texts, self.asked, self.found = [], None, {}
        self.turn += 1


@dataclass(frozen=True, slots=True)
class Desk:
    """The page's buttons, for any number of sessions; only one of them may work with a model at a time."""

    play: Play
    reader: list[OcrExtractor] = field(default_factory=list)
    """The OCR engine, once it is loaded."""

    @property
    def titles(self) -> list[str]:
        """Return the titles of the panels: two of each model."""
        return [f"{model.name}, {way}" for model in self.play.models for way in WAYS]

    def upload(self, session: Session, content: bytes) -> None:
        """Show an uploaded picture. Raises DataError, which leaves the session as it was, for what is no picture."""
        session.look_at((Picture(content),), None)

    def ask(self, session: Session, typed: str, reference: str) -> Iterator[dict[int, str]]:
        """Yield the panels that have changed, by place, until all models have answered in both ways, or the turn is over.

        Raises DataError for an empty question; an error of one model is shown in its panel.
        """
        turn = session.turn
        session.asked, session.found = question_of(typed, reference, session.pictures, session.facts, session.chosen), {}
        yield {place: shown.panel(title, shown.answered(None, None, (), None, waiting=True)) for place, title in enumerate(self.titles)}
        for place, title in enumerate(self.titles):
            try:
                for found in answers(self.play, self.play.models[place // 2], session.asked, STYLES[place % 2]):
                    if session.turn != turn:
                        session.found = {place: one for place, one in session.found.items() if one.whole}
                        yield self.drawn(session)
                        return
                    session.found[place] = found
                    yield {place: self.panel(session, place)}
            except Exception as error:
                yield {place: shown.panel(title, shown.line(told(error), wrong=True))}

    def panel(self, session: Session, place: int) -> str:
        """Return the panel at a place as it is now."""
        found = session.found.get(place)
        return shown.panel(self.titles[place], shown.answered(found, session.asked, session.texts, session.shown))

    def drawn(self, session: Session) -> dict[int, str]:
        """Return all panels as they are now."""
        return {place: self.panel(session, place) for place in range(len(self.titles))}

    def route(self, session: Session, typed: str, reference: str) -> str:
        """Return the samples of the first model for a question, with the route that training would take."""
        asked = question_of(typed, reference, session.pictures, session.facts, session.chosen)
        config = self.play.config
        found = routed(self.play.models[0].policy, asked, config, self.play.rules)
        return shown.routes(found, asked, config.rollout.temperature)

    def read(self, session: Session) -> str:
        """Read the texts of the first picture by OCR, and return what that found; without other facts it gives the facts too.

        Raises ConfigError without the OCR engine, DataError without a picture, SupervisionError if the engine fails.
        """
        if not session.copies:
            return "there is no picture to read"
        if not self.reader:
            self.reader.append(OcrExtractor())
        turn, picture = session.turn, session.copies[0]
        texts = self.reader[0].read(picture)
        if session.turn != turn:
            return "the picture was changed meanwhile; read it again"
        session.texts = texts
        if texts and not session.facts:
            session.facts, session.source = chart_facts(texts), "Read from the picture by OCR, which can misread"
        return (
            f"{len(texts)} texts read in the picture; statements about them are outlined in it" if texts else "no text found in the picture"
        )


def told(error: Exception) -> str:
    """Return the line about an error; one that is not expected is logged in full."""
    if not isinstance(error, DymeError):
        _log.error("dyme play: %s", error, exc_info=error)
        return f"{type(error).__name__}: {first_line(error)}"
    return str(error)


def _copy(picture: Image.Image) -> Image.Image:
    picture.thumbnail((KEPT_EDGE, KEPT_EDGE))
    return picture
