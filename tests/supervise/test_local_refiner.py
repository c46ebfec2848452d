"""The local refiner: grounded, short, leading to the answer; and what it does when it cannot derive one."""

import pytest

from dyme.errors import SupervisionError
from dyme.supervise.local.checker import LocalChecker
from dyme.supervise.local.derivation import derive
from dyme.supervise.local.refiner import LocalRefiner
from dyme.supervise.roles import Template
from dyme.tasks import charts
from dyme.types import Fact, Sample

REFINER = LocalRefiner(marker="Answer:")
CHECKER = LocalChecker()
FACTS = (Fact("ham", "47"), Fact("fig", "82"), Fact("oat", "13"))


def refine(question: str, answer: str, facts: tuple[Fact, ...] = FACTS, rationale: str | None = None, template: str | None = None) -> str:
    about = Sample(id="1", question=question, answer=answer, facts=facts, rationale=rationale)
    return REFINER.refine(about, Template(text=template) if template else None)


@pytest.mark.parametrize(
    ("question", "answer", "work"),
    [
        ("How much larger is fig than oat?", "69", "fig 82, oat 13, 82 - 13 = 69."),
        ("What is the sum of oat and fig?", "95", "oat 13, fig 82, 13 + 82 = 95."),
        ("What is the value of ham?", "47", "ham is 47."),
        ("What is the highest value?", "82", "fig 82 is the highest."),
        ("Which item is the lowest and what is its value?", "oat, 13", "oat 13 is the lowest."),
        (
            "What is the difference between the highest and the lowest value?",
            "69",
            "fig 82 is the highest, oat 13 is the lowest, 82 - 13 = 69.",
        ),
        ("What is the order of the items from the lowest to the highest?", "oat, ham, fig", "oat 13 < ham 47 < fig 82."),
        ("How many items are above 20 and what is their total?", "2, 129", "ham 47, fig 82 above 20, 47 + 82 = 129."),
        ("How many items are above 60 and what is their total?", "1, 82", "fig 82 above 60."),
        (
            "What is the mean of ham, fig and oat, roughly?",
            "47.33",
            "ham 47, fig 82, oat 13, 47 + 82 = 129, 129 + 13 = 142, 142 / 3 = 142/3.",
        ),
        ("How many times as large as oat is fig?", "82/13", "fig 82, oat 13, 82 / 13 = 82/13."),
    ],
)
def test_operands_are_named_right_before_the_work(question: str, answer: str, work: str) -> None:
    assert refine(question, answer) == f"Observation: ham 47, fig 82, oat 13. Reasoning: {work}"


def test_every_embedded_chart_is_derived_short_and_graded_high() -> None:
    for about in charts.samples("train", 400, traces="low", seed=2):
        trace = REFINER.refine(about, None)
        assert CHECKER.check(about, [trace])[0].level == "high", (about, trace)
        assert len(trace.replace(",", " ,").replace(".", " .").replace(":", " :").split()) <= 42


def test_the_question_decides_between_readings_of_the_same_result() -> None:
    facts = (Fact("ham", "40"), Fact("fig", "80"), Fact("oat", "40"))
    found = derive(Sample(id="1", question="How much larger is fig than oat?", answer="40", facts=facts))
    assert found and (found.shape, [entry.name for entry in found.operands]) == ("difference", ["fig", "oat"])


def test_a_fitting_template_gives_the_wording() -> None:
    words = "I look for {name1} and {name2}. {name1} is {value1}, {name2} is {value2}, so {value1} - {value2} = {result1}."
    wanted = "I look for fig and oat. fig is 82, oat is 13, so 82 - 13 = 69."
    assert refine("How much larger is fig than oat?", "69", template=words) == wanted


@pytest.mark.parametrize("words", ["{name1} is {value1}.", "{name9} {value1} {value2} {result1}", "{value1} + {value2} = {result1}"])
def test_a_template_that_does_not_fit_is_left(words: str) -> None:
    assert refine("How much larger is fig than oat?", "69", template=words).startswith("Observation: ham 47")


def test_what_cannot_be_derived_keeps_the_true_sentences_of_the_rationale() -> None:
    rationale = "The bars differ in height. The bar of fig is at 85. The bar of ham is at 47. So it is a bar chart."
    trace = refine("What kind of chart is it?", "bar chart", rationale=rationale)
    assert "85" not in trace and "ham is at 47" in trace and trace.endswith("So it is a bar chart.")


def test_a_rationale_that_does_not_give_the_answer_is_closed_with_it() -> None:
    assert refine("What is it?", "a boat", facts=(), rationale="It floats.") == "It floats. So a boat."


def test_facts_alone_and_nothing_at_all() -> None:
    assert refine("What kind of chart is it?", "bar chart") == "Observation: ham 47, fig 82, oat 13. So bar chart."
    with pytest.raises(SupervisionError, match="neither facts nor a rationale"):
        refine("What is it?", "a boat", facts=())


def test_the_marker_is_never_written() -> None:
    assert "Answer:" not in refine("What is it?", "a boat", facts=(), rationale="It floats. Answer: boat.")


def test_ties_quotes_percent_and_years() -> None:
    ties = (Fact("fig", "10"), Fact("oat", "10"), Fact("ham", "20"))
    assert refine("Order the items from lowest to highest.", "fig, oat, ham", ties).endswith("fig 10 <= oat 10 < ham 20.")
    assert refine("Tim has $50. Does he have enough to buy a fig and a ham?", "'yes'", ties).endswith("30 < 50, so enough.")
    shares = (Fact("Blue", "30%"), Fact("Red", "40%"), Fact("Green", "55%"))
    assert refine("What is the difference between Red and Blue?", "10%", shares).endswith("Red 40%, Blue 30%, 40 - 30 = 10.")
    years = (Fact("2015", "30"), Fact("2016", "40"), Fact("2017", "55"))
    assert refine("In which year was the value highest?", "2017", years).endswith("2017 55 is the highest.")


def test_what_ocr_could_not_pair_is_observed_only_where_there_is_nothing_else() -> None:
    noise = (Fact("title", "Sales by fruit"), Fact("tick", "0"), Fact("tick", "100"), Fact("label", "fig"))
    assert refine("Which fruit has the highest sales?", "fig", (*FACTS, *noise)).startswith(
        "Observation: ham 47, fig 82, oat 13. Reasoning"
    )
    assert refine("Which fruit is it?", "fig", noise) == "Observation: title Sales by fruit, label fig. So fig."
    assert refine("What?", "7", noise).endswith("tick 0, tick 100, label fig. So 7.")
