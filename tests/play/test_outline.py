"""A statement's region in the picture, from texts with boxes as OCR gives them."""

from __future__ import annotations

from dyme.facts.chart_text import Text
from dyme.play.outline import Box, region, regions, spoken_of
from dyme.types import Fact

FACTS = (Fact("fig", "82"), Fact("oat", "40"), Fact("rye", "40"), Fact("pie chart", "1,640"))


def text(words: str, left: float, top: float, width: float = 20, height: float = 10) -> Text:
    return Text(text=words, left=left, top=top, right=left + width, bottom=top + height)


BARS = [text("82", 0, 10), text("40", 30, 50), text("40", 60, 50), text("fig oat rye", 0, 90, 80)]


def test_a_statement_speaks_of_the_facts_that_it_names_else_of_those_with_its_numbers() -> None:
    assert spoken_of("Fig 80", FACTS) == [FACTS[0]], "of the name, even if the value is wrong"
    assert spoken_of("82 - 40 = 42", FACTS) == list(FACTS[:3])
    assert spoken_of("the figs are 7", FACTS) == []
    assert spoken_of("pie  chart: 1640", FACTS) == [FACTS[3]]


def test_a_region_is_around_the_name_and_the_value_straight_above_it() -> None:
    assert region(FACTS[0], BARS) == Box(0, 10, 80 * 3 / 11, 100), "the name is a part of a text that holds three"
    oat, rye = region(FACTS[1], BARS), region(FACTS[2], BARS)
    assert oat is not None and rye is not None
    assert (oat.top, rye.top) == (50, 50) and oat.left < 50 <= rye.left, "of two equal values each name has its own"


def test_what_was_not_read_or_is_ambiguous_has_no_region() -> None:
    assert region(Fact("nut", "40"), BARS) is None, "two texts may be its value, and its name was not read"
    assert region(Fact("nut", "82"), BARS) == Box(0, 10, 20, 20)
    assert region(Fact("fig", "7"), BARS) == Box(0, 90, 80 * 3 / 11, 100)
    assert region(Fact("", ""), BARS) is None
    assert regions("fig 82, and fig 82 again", FACTS, BARS) == [region(FACTS[0], BARS)]
    assert regions("fig 82", FACTS, []) == []
