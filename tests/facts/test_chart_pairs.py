"""Boxes made by hand: which value goes to which label, series, column or name, and what becomes of the rest."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dyme.facts.chart_pairs import LABEL, LEGEND, ROLES, TEXT, TICK, TITLE, X_AXIS, Y_AXIS, chart_facts
from dyme.facts.chart_text import Colour, Text, bare_number, cleaned, is_value, joined_lines, named_value, scales_of
from dyme.types import Fact

BLUE, NAVY, RED = (40, 118, 221), (15, 40, 62), (200, 30, 30)
HEIGHT = 16


def at(text: str, x: float, y: float, *, width: float | None = None, height: float = HEIGHT, **colours: Colour) -> Text:
    """A text centred at (x, y)."""
    half = (width or 8 * len(text)) / 2
    return Text(text=text, left=x - half, right=x + half, top=y - height / 2, bottom=y + height / 2, **colours)


def flush_right(text: str, right: float, y: float) -> Text:
    return at(text, right - 4 * len(text), y)


def pairs(texts: list[Text]) -> set[tuple[str, str]]:
    return {(fact.subject, fact.value) for fact in chart_facts(texts) if fact.subject not in ROLES}


def roles(texts: list[Text], role: str) -> set[str]:
    return {fact.value for fact in chart_facts(texts) if fact.subject == role}


TICKS = [at(str(value), 40, 420 - 4 * value) for value in (0, 20, 40, 60, 80)]
NAMES = ("tea", "jam", "rye", "oats")
VALUES = (31, 64, 12, 50)
UPRIGHT = [
    *TICKS,
    *(at(name, 120 + 100 * k, 440) for k, name in enumerate(NAMES)),
    *(at(str(value), 120 + 100 * k, 410 - 4 * value) for k, value in enumerate(VALUES)),
]
TABLE = {(name, str(value)) for name, value in zip(NAMES, VALUES, strict=True)}


def test_upright_bars() -> None:
    assert pairs(UPRIGHT) == TABLE
    assert roles(UPRIGHT, TICK) == {"0", "20", "40", "60", "80"}
    assert roles(UPRIGHT, LABEL) == set(NAMES)


def test_lying_bars() -> None:
    texts = [at(str(value), 150 + 4 * value, 440) for value in (0, 20, 40, 60, 80)]
    texts += [flush_right(name, 140, 60 + 90 * k) for k, name in enumerate(NAMES)]
    texts += [at(str(value), 170 + 4 * value, 60 + 90 * k) for k, value in enumerate(VALUES)]
    assert pairs(texts) == TABLE
    assert roles(texts, TICK) == {"0", "20", "40", "60", "80"}


@settings(deadline=None)
@given(st.randoms(use_true_random=False), st.floats(0.5, 3), st.floats(-0.15, 0.15))
def test_order_size_and_small_shifts_do_not_matter(rng: random.Random, scale: float, shift: float) -> None:
    def moved(t: Text) -> Text:
        dx = shift * HEIGHT * rng.choice((-1, 1))
        return Text(text=t.text, left=scale * (t.left + dx), right=scale * (t.right + dx), top=scale * t.top, bottom=scale * t.bottom)

    texts = [moved(t) for t in rng.sample(UPRIGHT, len(UPRIGHT))]
    assert pairs(texts) == TABLE


def test_years_are_labels_and_no_scale() -> None:
    texts = [*TICKS, *(at(str(2011 + k), 120 + 100 * k, 440) for k in range(4))]
    texts += [at(str(value), 120 + 100 * k, 410 - 4 * value) for k, value in enumerate(VALUES)]
    assert pairs(texts) == {(str(2011 + k), str(value)) for k, value in enumerate(VALUES)}


def test_a_year_that_the_axis_leaves_out() -> None:
    texts = [*TICKS, *(at(str(2010 + 2 * k), 120 + 100 * k, 440) for k in range(4))]
    texts += [at(str(value), 120 + 50 * k, 410 - 4 * value) for k, value in enumerate((31, 64, 12, 50, 35))]
    assert pairs(texts) == {("2010", "31"), ("2011", "64"), ("2012", "12"), ("2013", "50"), ("2014", "35")}


def grouped(*, sign: bool = True) -> list[Text]:
    texts = [*TICKS, *(at(name, 120 + 100 * k, 440) for k, name in enumerate(NAMES[:3]))]
    for k, (one, other) in enumerate(((30, 70), (55, 20), (14, 62))):
        texts.append(at(str(one), 100 + 100 * k, 410 - 4 * one, below=BLUE, before=NAVY))
        texts.append(at(str(other), 140 + 100 * k, 410 - 4 * other, below=NAVY, before=BLUE))
    colours: list[dict[str, Colour]] = [{"before": (44, 115, 224)}, {"before": NAVY}] if sign else [{}, {}]
    return [*texts, at("shop", 180, 470, **colours[0]), at("market", 260, 470, **colours[1])]


def test_series_by_the_colour_of_the_bar_below() -> None:
    found = pairs(grouped())
    assert {("shop tea", "30"), ("market tea", "70"), ("shop jam", "55"), ("market jam", "20"), ("market rye", "62")} < found
    assert len(found) == 6
    assert roles(grouped(), LEGEND) == {"shop", "market"}


def test_without_colours_two_series_contradict_each_other() -> None:
    assert pairs(grouped(sign=False)) == set()


def test_a_legend_of_other_colours_names_no_series() -> None:
    texts = [t for t in grouped(sign=False) if t.text not in ("shop", "market")]
    texts += [at("shop", 180, 470, before=RED), at("market", 260, 470, before=(20, 160, 20))]
    assert pairs(texts) == set()
    assert roles(texts, TEXT) >= {"shop", "market"}


def test_heads_of_a_table() -> None:
    texts = [at("Day", 60, 40), at("Cups", 160, 40), at("Cakes", 260, 40)]
    for k, (day, cups, cakes) in enumerate((("Monday", 3, 70), ("Friday", 9, 22), ("Sunday", 11, 65))):
        texts += [at(day, 60, 80 + 40 * k), at(str(cups), 160, 80 + 40 * k), at(str(cakes), 260, 80 + 40 * k)]
    assert pairs(texts) == {
        ("Cups Monday", "3"), ("Cups Friday", "9"), ("Cups Sunday", "11"),
        ("Cakes Monday", "70"), ("Cakes Friday", "22"), ("Cakes Sunday", "65"),
    }  # fmt: skip


def test_a_table_of_two_columns_needs_no_head() -> None:
    texts = [at("Day", 60, 40), at("Cups", 160, 40)]
    texts += [t for k, n in enumerate((3, 9, 11)) for t in (at(f"week {k}", 60, 80 + 40 * k), at(str(n), 160, 80 + 40 * k))]
    assert pairs(texts) == {("week 0", "3"), ("week 1", "9"), ("week 2", "11")}


def test_a_pie() -> None:
    texts = [at("Yes", 100, 100), at("63%", 100, 116), at("No", 220, 180), at("30%", 220, 196), at("Unsure 7%", 60, 240)]
    assert pairs(texts) == {("Yes", "63%"), ("No", "30%"), ("Unsure", "7%")}


def test_titles() -> None:
    texts = [at("Sales of the shop", 200, 20, width=300), *UPRIGHT, at("Kind of goods", 260, 470)]
    texts.append(Text(text="Pounds a day", left=4, right=20, top=150, bottom=290))
    assert (roles(texts, TITLE), roles(texts, X_AXIS), roles(texts, Y_AXIS)) == ({"Sales of the shop"}, {"Kind of goods"}, {"Pounds a day"})


def test_a_sign_read_as_a_number_is_nobodys_value() -> None:
    texts = [flush_right(name, 140, 60 + 90 * k) for k, name in enumerate(NAMES)]
    texts += [at(str(value), 170 + 4 * value, 60 + 90 * k) for k, value in enumerate(VALUES)]
    texts.append(at("99", 700, 148))
    assert pairs(texts) == TABLE
    assert "99" in roles(texts, TEXT)


def test_links_below_a_chart_are_no_labels() -> None:
    texts = [*UPRIGHT, at("Additional", 150, 520), at("Source", 390, 520)]
    assert pairs(texts) == TABLE


@settings(deadline=None)
@given(st.lists(st.tuples(st.text("ab1290.,% $\n", max_size=8), *[st.integers(0, 300)] * 4), max_size=14))
def test_nothing_read_is_lost(rows: list[tuple[str, int, int, int, int]]) -> None:
    texts = [Text(text=t, left=x, right=x + 1 + w, top=y, bottom=y + 1 + h) for t, x, y, w, h in rows]
    facts = chart_facts(texts)
    said = " ".join(part for fact in facts for part in (fact.subject, fact.value))
    for t in cleaned(texts):
        assert all(word in said for word in t.text.split())
    assert len(set(facts)) == len(facts)
    assert all(fact.subject and fact.value for fact in facts)


def test_no_texts_no_facts() -> None:
    assert chart_facts([]) == ()
    assert chart_facts([at("one", 5, 5)]) == (Fact(TEXT, "one"),)


@pytest.mark.parametrize("text", ["5", "1,200", "25 %", "$7.5 million", "-3.2%", "€ 4", ".5", "41.3 hours", "12*", "27.85% (2008)"])
def test_values(text: str) -> None:
    assert is_value(text)


@pytest.mark.parametrize("text", ["", "Q1 2020", "2019/20", "five", "18-24", "3 cats", "1.2.3", "%"])
def test_no_values(text: str) -> None:
    assert not is_value(text)


def test_bare_number() -> None:
    assert bare_number("$742.07 trillion") == "$742.07"
    assert bare_number("-3%") == "-3"
    assert bare_number("about 3") is None


@pytest.mark.parametrize(
    ("text", "named"),
    [("Rent: 40", ("Rent", "40")), ("Rent 40%", ("Rent", "40%")), ("- Rent, $4", ("Rent", "$4")), ("Debt: -5", ("Debt", "-5")),
     ("Sales in 2019", None), ("Figure 3", None), ("40%", None)],
)  # fmt: skip
def test_named_value(text: str, named: tuple[str, str] | None) -> None:
    assert named_value(text) == named


def test_numbers_are_put_right() -> None:
    assert [t.text for t in cleaned([at("2 500", 9, 9), at(" 12 345 678 ", 9, 40), at("  ", 9, 80), at("2019 2020", 9, 90)])] == [
        "2500", "12345678", "2019", "2020",
    ]  # fmt: skip
    left, right = cleaned([Text(text="115.31115.32", left=0, right=130, top=0, bottom=10)])
    assert (left.text, right.text) == ("115.31", "115.32")
    assert left.left == 0 and left.right < right.left and right.right == pytest.approx(130)


def test_lines_of_a_label_are_joined_but_not_rows() -> None:
    lines = [at("Europe, Middle East", 100, 100), at("and Africa", 100, 114)]
    assert [t.text for t in joined_lines(lines)] == ["Europe, Middle East and Africa"]
    apart = [at("Europe", 100, 100), at("Africa", 100, 130)]
    assert len(joined_lines(apart)) == 2
    rows = [t for k, name in enumerate(("Europe", "Africa")) for t in (at(name, 100, 100 + 15 * k), at("7", 300, 100 + 15 * k))]
    assert len(joined_lines(rows)) == 4, "each has its own value"


def test_scales() -> None:
    assert [{t.text for t in scale} for scale in scales_of(TICKS)] == [{"80", "60", "40", "20", "0"}]
    downwards = [at(str(value), 40, 20 + 4 * value) for value in (0, 20, 40, 60)]
    assert scales_of(downwards) == []
    values = [at(text, 40, 420 - 4 * float(text)) for text in ("45.37", "41.51", "38.49", "30.1")]
    assert scales_of(values) == [], "on the line, but no multiples of a step"
    named = [t for k in range(4) for t in (at(f"row {k}", 100, 60 + 30 * k), at(str(40 - 10 * k), 300, 60 + 30 * k))]
    assert scales_of(named) == [], "these have names"


# What is doubtful names no value


def along(*values: str, dx: dict[int, float] | None = None) -> list[Text]:
    """Upright bars without a scale, each value over its label, shifted by `dx`."""
    texts = [at(f"item {'abcdefgh'[k]}", 120 + 100 * k, 440) for k in range(len(values))]
    return texts + [at(v, 120 + 100 * k + (dx or {}).get(k, 0), 410 - 4 * float(v.split()[0])) for k, v in enumerate(values)]


def test_point_markers_read_as_zero_are_no_values() -> None:
    assert pairs([*UPRIGHT, at("0", 120, 200), at("0", 420, 180)]) == TABLE


def test_a_misread_value_is_not_where_the_others_say() -> None:
    texts = along("31", "64", "12", "50", "44", "22")
    wrong = [replace(t, text="4") if t.text == "44" else t for t in texts]
    assert ("item e", "44") in pairs(texts)
    assert {subject for subject, _ in pairs(wrong)} == {f"item {c}" for c in "abcdf"}


def test_a_value_beside_the_middle_of_its_label_lacks_a_digit() -> None:
    values = ("31", "64", "12", "50", "44", "22")
    assert len(pairs(along(*values))) == 6
    assert "item c" not in {subject for subject, _ in pairs(along(*values, dx={2: 5}))}


@pytest.mark.parametrize("unit", ["m³", "kg", "°C", " GW", " t", "MWh", " pts", "ml", " km²"])
def test_a_unit_does_not_stop_the_pairs(unit: str) -> None:
    texts = [t if t in TICKS or t.text in NAMES else replace(t, text=t.text + unit) for t in UPRIGHT]
    assert pairs(texts) == {(name, value + unit) for name, value in TABLE}


def test_a_tick_beside_an_axis_title_is_no_value() -> None:
    texts = [at(str(value), 150 + 4 * value, 440) for value in (0, 20, 40, 60, 80)] + [at("27...", 500, 440)]
    texts += [flush_right(name, 140, 60 + 90 * k) for k, name in enumerate(NAMES)]
    texts += [at(str(value), 170 + 4 * value, 60 + 90 * k) for k, value in enumerate(VALUES)]
    assert pairs([*texts, at("Share of those asked", 310, 457)]) == TABLE


@pytest.mark.parametrize(
    "note",
    [
        "Source: UN Food and Agriculture Organization",
        "CC BY",
        "PEW RESEARCH CENTER",
        "A title that is far too long to be the name of a value in a chart",
    ],
)
def test_titles_and_sources_name_no_value(note: str) -> None:
    assert pairs([at(note, 200, 40), at("43", 200, 57), at("2015", 400, 57), at("Fish", 400, 40)]) == set()


def test_a_value_between_two_names_is_neither_s() -> None:
    assert pairs([at("Mali", 200, 40), at("43", 200, 57), at("Peru", 200, 74), at("Chad", 400, 40), at("8", 400, 57)]) == {("Chad", "8")}


def test_the_values_of_a_pie_do_not_go_to_a_column_of_notes() -> None:
    texts = [at("Most would allow", 60, 40), at("Asked in May of last year", 95, 340)]
    for k, (name, value) in enumerate((("Fewer", "29%"), ("More", "13%"), ("None", "16%"), ("Same", "42%"))):
        texts += [at(name, 200 + 60 * k, 100 + 40 * k), at(value, 200 + 60 * k, 118 + 40 * k)]
    assert pairs(texts) == {("Fewer", "29%"), ("More", "13%"), ("None", "16%"), ("Same", "42%")}


def test_spaces_of_thousands_that_were_not_read() -> None:
    texts = [at(text, 100, 40 * k) for k, text in enumerate(("1 772 210", "8070 486", "12 419686", "2015 2016"))]
    assert [t.text for t in cleaned(texts)] == ["1772210", "8070486", "12419686", "2015", "2016"]
    assert [t.text for t in cleaned([at("8070 486", 100, 40)])] == ["8070", "486"], "nothing says that thousands are set apart here"


def test_years_that_are_not_evenly_spaced_name_only_what_stands_over_them() -> None:
    years, values = (2010, 2012, 2014, 2017), (31, 64, 12, 50)
    texts = [*TICKS, *(at(str(year), 120 + 100 * k, 440) for k, year in enumerate(years))]
    texts += [at(str(value), 120 + 100 * k, 410 - 4 * value) for k, value in enumerate(values)]
    assert pairs([*texts, at("22", 170, 322), at("71", 80, 126)]) == {(str(y), str(v)) for y, v in zip(years, values, strict=True)}
