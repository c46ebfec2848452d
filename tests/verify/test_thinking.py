"""Reading statements and equations, and the two F1 scores, pinned by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dyme.types import Fact
from dyme.verify.thinking import _located, fact_f1, marked, plain, statements, token_f1, true_statements

FACTS = (Fact("ham", "47"), Fact("fig", "82"), Fact("oat", "13"))
SUBJECTS = tuple(fact.subject for fact in FACTS)


def stated(text: str, subjects: tuple[str, ...] = SUBJECTS) -> list[tuple[str, str]]:
    return [(fact.subject, fact.value) for fact in statements(text, subjects).facts]


def equations(text: str) -> dict[str, bool]:
    return {equation.text: equation.holds for equation in statements(text, SUBJECTS).equations}


@pytest.mark.parametrize(
    "text",
    ["fig 82", "fig is 82", "fig at 82", "fig has 82", "fig = 82", "fig: 82", "Fig=82", "FIG  is\t82.", "(fig 82)", "fig 82, or so"],
)
def test_name_and_value(text: str) -> None:
    assert stated(text) == [("fig", "82")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "fig",
        "fig, 82",
        "figs 82",
        "prefig 82",
        "fig82",
        "fig-82",
        "fig is not 82",
        "fig 82nd",
        "fig 8.2x",
        "fig\n82",
        "82 fig",
        "egg 82",
    ],
)
def test_no_name_and_value(text: str) -> None:
    assert stated(text) == []


def test_a_step_of_arithmetic_states_no_value() -> None:
    assert stated("fig is 82 - 13 = 69") == []
    assert stated("fig 82 - oat 13 = 69") == [("fig", "82"), ("oat", "13")]


def test_values_of_all_kinds() -> None:
    assert stated("fig 1,000, ham -4.5. oat is $5") == [("fig", "1,000"), ("ham", "-4.5"), ("oat", "$5")]
    assert stated("fig \u22125 ham 12%, oat 3.") == [("fig", "-5"), ("ham", "12%"), ("oat", "3")]


def test_subjects_with_several_words_and_odd_characters() -> None:
    subjects = ("apple", "Red  Apple", "C++ (new)", "2019", "")
    assert stated("red apple 5, apple: 6", subjects) == [("Red  Apple", "5"), ("apple", "6")]
    assert stated("c++ (new) has 7; 2019 is 45", subjects) == [("C++ (new)", "7"), ("2019", "45")]
    assert stated("Q1 2019 45, Q1 50", ("Q1", "Q1 2019")) == [("Q1 2019", "45"), ("Q1", "50")]
    assert stated("fig 2019 45", ("fig", "2019")) == [("fig", "2019")]
    assert stated("fig 82", ()) == []


def test_a_repeated_statement_is_one() -> None:
    assert stated("fig 82, fig is 82.0, FIG = 82, fig 83") == [("fig", "82"), ("fig", "83")]
    assert equations("1 + 2 = 3, 1+2=3, 1 + 2 = 4") == {"1+2=3": True, "1+2=4": False}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("82 - 13 = 69", True),
        ("so 82-13=69.", True),
        ("82 \u2212 13 = 69", True),
        ("- 82 - 13 = 69", True),  # a bullet
        ("1 + 2 + 3 = 6", True),
        ("1 + 2 + 3 = 3 + 3 = 6", True),
        ("2 + 3 * 4 = 14", True),
        ("2 × 3 = 6", True),
        ("9 ÷ 2 / 3 = 1.5", True),
        ("0.1 + 0.2 = 0.3", True),
        ("1,000 + 500 = 1500", True),
        ("13 - 82 = -69", True),
        ("-5 - -3 = -2", True),
        ("82 - 13 = 70", False),
        ("1 + 2 + 3 = 5", False),
        ("5 + 3 = 8 + 2 = 10", False),
        ("1 / 0 = 0", False),
        ("1 / 3 = 0.33", False),
        (f"1 + 1 = {'9' * 100}", False),
    ],
)
def test_equations(text: str, holds: bool) -> None:
    assert list(equations(text).values()) == [holds]


@pytest.mark.parametrize(
    "text", ["", "5 = 5", "82 - 13", "fig + 13 - 5 = 90", "x - 3 + 4 = 1", "1 / 8 = 12.5%", "13 < 47 < 82", "2x + 1 = 5x"]
)
def test_no_equation(text: str) -> None:
    assert equations(text) == {}


def test_true_statements() -> None:
    assert true_statements("ham 47, fig 82, oat 13. 82 - 13 = 69.", FACTS) == (4, 4)
    assert true_statements("I see fig at 85, oat at 13 so 85 - 13 = 69.", FACTS) == (1, 3)
    assert true_statements("fig 82, fig 82, fig is 82.00", FACTS) == (1, 1)
    assert true_statements("the bars look nice", FACTS) == (0, 0)


def test_fact_f1_by_hand() -> None:
    assert fact_f1("ham 47, fig 82, oat 13", FACTS) == 1.0
    assert fact_f1("Oat = 13.0. Fig: $82. ham has 47%. 82 - 13 = 69", FACTS) == 1.0
    assert fact_f1("ham 47, fig 82", FACTS) == pytest.approx(2 * 2 / (2 + 3))
    assert fact_f1("ham 47, fig 85, oat 13", FACTS) == pytest.approx(2 * 2 / (3 + 3))
    assert fact_f1("ham 47, fig 82, oat 13. 82 - 13 = 70", FACTS) == pytest.approx(2 * 3 / (4 + 3))
    assert fact_f1("82 - 13 = 69", FACTS) == 0.0
    assert fact_f1("", FACTS) == fact_f1("fig 82", ()) == 0.0


def test_a_subject_may_have_several_facts() -> None:
    facts = (Fact("2019", "5"), Fact("2019", "7"))
    assert fact_f1("2019: 5, 2019: 7", facts) == 1.0
    assert fact_f1("2019: 5", facts) == pytest.approx(2 / 3)


def test_fact_f1_cannot_be_farmed() -> None:
    honest = fact_f1("ham 47, fig 85, oat 13", FACTS)
    safe = fact_f1("fig 82", FACTS)
    assert safe == 0.5 < honest
    assert fact_f1("fig 82. " * 20, FACTS) == safe
    assert fact_f1("fig 82. 1 + 1 = 2. 2 + 2 = 4. 3 + 3 = 6.", FACTS) == safe
    assert fact_f1(" ".join(f"{name} {value}" for name in SUBJECTS for value in range(10, 100)), FACTS) < 0.03


def test_token_f1_by_hand() -> None:
    assert token_f1("Fig is 82.", "fig IS 82") == 1.0
    assert token_f1("fig fig fig", "fig is 82") == pytest.approx(2 * 1 / (3 + 3))
    assert token_f1("fig is 85", "fig is 82, oat 13") == pytest.approx(2 * 2 / (3 + 5))
    assert token_f1("82-13", "82 13") == 1.0
    assert token_f1("1,000.5", "1 000 5") == 0.0
    assert token_f1("", "fig") == token_f1("fig", "") == token_f1("...", "...") == 0.0


pieces = [*"\n :=+-*/×%$İ²٣x(0", "fig", "oat", "red fig", "is", "82", "1,000", "8.5", "9" * 70]
some = st.lists(st.sampled_from(pieces), max_size=30)
texts = st.text() | some.map("".join) | some.map(" ".join)


@given(texts, st.lists(st.sampled_from(["fig", "oat", "red fig", "İ", "ß", "(", "", " "]) | st.text(max_size=5), max_size=4))
def test_no_text_crashes(thinking: str, subjects: list[str]) -> None:
    facts = [Fact(subject, "82") for subject in subjects]
    true, total = true_statements(thinking, facts)
    assert 0 <= true <= total
    assert {fact.subject for fact in statements(thinking, subjects).facts} <= set(subjects)
    assert 0.0 <= fact_f1(thinking, facts) <= 1.0
    assert 0.0 <= token_f1(thinking, "fig is 82") <= 1.0


@pytest.mark.parametrize("piece", ["1+", "1 + 1 ", "1+1=", "fig ", "fig 1 ", "- ", " ", "9", "1,", "1,000", "0.", "(", "-", "\n"])
def test_long_texts_do_not_hang(piece: str) -> None:
    statements(piece * 10_000, SUBJECTS)
    statements(f"fig{piece * 10_000}x", SUBJECTS)


def test_statements_are_marked_where_they_stand() -> None:
    facts = (Fact("Fig", "82"), Fact("oat", "13"), Fact("ham ß", "1,640"))
    text = "\u2022 FIG:  82, oat is 14,\n kiwi 20; Ham SS at 1640. 82 \u2212 13 = 69 so 85 - 13 = 72 and 69 + 1 = 80; 5/0 = 3, total 69"
    found = marked(text, facts)
    assert [(text[m.start : m.end], m.holds, m.known) for m in found] == [
        ("FIG:  82", True, "fact: Fig 82"),
        ("oat is 14", False, "fact: oat 13"),
        ("kiwi 20", None, "the facts do not name kiwi"),
        ("Ham SS at 1640", True, "fact: ham ß 1,640"),
        ("82 \u2212 13 = 69", True, "the arithmetic is right"),
        ("85 - 13 = 72", True, "the arithmetic is right, but 85 is no fact"),
        ("69 + 1 = 80", False, "69 + 1 is 70"),
        ("5/0 = 3", None, "cannot be computed"),
    ]
    assert true_statements(text, facts) == (sum(bool(m.holds) for m in found), 7), "what evaluations count: all but the name without a fact"
    assert [(m.start, m.end, m.known) for m in marked("fig 3 and 2+2=4", ())] == [(10, 15, "the arithmetic is right")]


@pytest.mark.parametrize("text", ["", " \n ", "İx ﬁg 82", "- a\n* b  c", "ΑΣ ΑΣ\t", "x \u2212 1"])
def test_places_are_those_of_plain_text(text: str) -> None:
    found, places = _located(text)
    assert found == plain(text)
    assert all(plain(text[k]).startswith(one) or one in text[k].casefold() or one in " -" for one, k in zip(found, places, strict=False))
