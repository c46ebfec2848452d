"""Whatever a user, a row or a model writes is shown as text; signs and words stand beside colours."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from dyme.facts.chart_text import Text
from dyme.play import shown
from dyme.play.asking import Answered, Asked
from dyme.play.routing import Routed
from dyme.types import Completion, Fact, Group, Route, Sample, Verdict

HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</textarea></section>", "${alert(1)} `x` {{7*7}}", "\x1b[31mred\x1b[0m",
    "nul \x00 here", "\u202egnp.exe\u202c", "a" * 100_000, "<b>" * 7_000, "# head [link](javascript:alert(1))", "\ud800 half", "&lt;i&gt;",
]  # fmt: skip
KNOWN = {
    "section", "p", "b", "span", "bdi", "div", "mark", "sup", "details", "summary", "ol", "li", "table", "caption", "tbody", "tr", "th",
    "td", "h2", "h3", "img", "svg", "rect", "text",
}  # fmt: skip


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.said = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.said += data


def read(page: str) -> Elements:
    found = Elements()
    found.feed(page)
    found.close()
    return found


def everywhere(value: str) -> str:
    """All parts of the page, with `value` wherever a text of others can stand."""
    facts = (Fact(value, "82"), Fact("fig", value))
    sample = Sample(id=value, question=value, answer=value, facts=facts)
    asked = Asked(sample=sample, known=True)
    whole = Answered(style="think", text=f"{value} fig 82", whole=True, thinking=f"{value} fig 82", answer=value, right=False, reason=value)
    verdict = Verdict(parsed=True, correct=True, answer=value, thinking=value, reason=value)
    group = Group(sample=sample, completions=(Completion(text=value, token_ids=()),), verdicts=(verdict,), prefix=value)
    picture = Image.new("RGB", (20, 20))
    texts = [Text(text="fig", left=1, top=1, right=5, bottom=5)]
    return "".join([
        shown.line(value, wrong=True), shown.panel(value, ""), shown.facts(facts, value), shown.picture(picture, about=value),
        shown.answered(whole, asked, texts, picture), shown.answered(Answered(style="think", text=value), asked, [], None),
        shown.answered(Answered(style="direct", text=value, whole=True, answer="7", right=None), asked, [], None),
        shown.routes([Routed(stage=value, group=group, route=Route(mode="explore", reason=value))] * 2, asked, 1.0),
    ])  # fmt: skip


@pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_text_adds_no_element_and_no_attribute(value: str) -> None:
    page = everywhere(value)
    found, usual = read(page), read(everywhere("word"))
    assert set(found.names) <= KNOWN
    assert {name for name, _ in found.attributes} == {name for name, _ in usual.attributes}
    assert not any(name.startswith("on") for name, _ in found.attributes)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", page), "and nothing that cannot be seen"
    assert "${" not in page and "{{" not in page and "`" not in page, "gradio's templates find nothing"
    assert len(page) < 3_000_000


def test_a_text_is_shown_as_it_was_written() -> None:
    for value in ("<script>alert(1)</script>", "${x} {{y}} `z` & \"q\" 'r'", "a\n  b\tc"):
        assert read(shown.text(value)).said == value
    assert read(shown.text("\x1b[0m\x00\x7f\u202e")).said == "\u241b[0m\u2400\u2421\u27e8U+202E\u27e9"
    assert "(96,000 more characters)" in shown.text("x" * 100_000) and "more characters" not in shown.text("x" * 4000)


FACTS = (Fact("fig", "82"), Fact("oat", "13"))
ASKED = Asked(sample=Sample(id="1", question="How much more is fig than oat?", answer="69", facts=FACTS), known=True)
TEXTS = [
    Text(text="82", left=2, top=1, right=8, bottom=5), Text(text="fig", left=2, top=30, right=8, bottom=35),
    Text(text="13", left=22, top=20, right=28, bottom=25), Text(text="oat", left=22, top=30, right=28, bottom=35),
]  # fmt: skip


def test_statements_are_marked_by_sign_and_word_and_outlined_where_they_look() -> None:
    thinking = "fig 82, oat 14, 82 - 14 = 69, nut 5."
    found = Answered(style="think", text=f"{thinking} Answer: 69", whole=True, thinking=thinking, answer="69", right=True)
    page = shown.answered(found, ASKED, TEXTS, Image.new("RGB", (40, 40)))
    marks = re.findall(r'<mark class="(\w+)">([^<]+)<sup title="(\w+)">(.)(\d)</sup>', page)
    assert marks == [
        ("yes", "fig 82", "true", "\u2713", "1"), ("no", "oat 14", "false", "\u2717", "2"), ("no", "82 - 14 = 69", "false", "\u2717", "3"),
        ("open", "nut 5", "unknown", "?", "4"),
    ]  # fmt: skip
    said = read(page).said
    assert "\u2713 right" in said and "4 statements in the thinking: 1 true, 2 false, 1 unknown" in said
    assert f"{thinking} Answer: 69" in re.sub("[\u2713\u2717?]\\d", "", said), "nothing of the completion is lost"
    outlines = re.findall(r'<rect class="(\w+)" x="([\d.]+)"', page)
    assert outlines == [("yes", "1.6"), ("no", "21.6"), ("no", "1.6")], "fig, oat, and fig again, of which the false equation speaks"
    assert "\u27131" in said and "\u27172" in said, "the outlines have sign and number of their statements"
    assert "<rect" not in shown.answered(found, ASKED, [], None)


def test_what_is_not_known_is_said() -> None:
    free = Asked(sample=Sample(id="1", question="What is it?", answer=""), known=False)
    found = Answered(style="think", text="It is 7. Answer: 7", whole=True, thinking="It is 7.", answer="7")
    said = read(shown.answered(found, free, [], None)).said
    assert "not judged: the right answer is not known" in said and "no facts of this picture are known" in said
    cut = Answered(style="think", text="It", whole=True, thinking="It", reason="cut off", right=False)
    assert (
        "no answer" in read(shown.answered(cut, ASKED, [], None)).said
        and "\u2717 wrong: cut off" in read(shown.answered(cut, ASKED, [], None)).said
    )
    verdicts = (
        Verdict(parsed=True, correct=False, answer="7", thinking="a"),
        Verdict(parsed=False, correct=False, answer=None, thinking="b", reason="cut off"),
    )
    said = read(
        shown.routes(
            [
                Routed(
                    stage="",
                    group=Group(sample=free.sample, completions=(Completion(text="a", token_ids=()),) * 2, verdicts=verdicts),
                    route=None,
                )
            ],
            free,
            1.0,
        )
    ).said
    assert said.count("not judged") == 2 and "there is no route" in said and "wrong" not in said
    empty = read(
        shown.routes([Routed(stage="sft", group=Group(sample=ASKED.sample), route=Route(mode="memorize", reason="all"))], ASKED, 1)
    ).said
    assert "memorize" in empty and "samples nothing" in empty


def test_a_large_picture_is_made_small_and_a_small_one_stays_sharp() -> None:
    assert len(shown.picture(Image.new("RGB", (8000, 8000), "white"))) < 100_000
    assert "sharp" in shown.picture(Image.new("RGB", (96, 96))) and "sharp" not in shown.picture(Image.new("RGB", (960, 96)))
