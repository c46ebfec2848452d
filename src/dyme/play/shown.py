"""The parts of the page as HTML. Every text of a user, a row or a model goes through `text`, which lets it be nothing but text.

A sign and a word stand beside each colour.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Sequence

from PIL import Image

from dyme.facts.chart_text import Text
from dyme.play.asking import Answered, Asked
from dyme.play.outline import Box, regions
from dyme.play.routing import Routed
from dyme.types import Fact, Verdict
from dyme.verify.thinking import Marked, marked

LONGEST, SHORT = 4000, 300
"""Most characters of a text that are shown: of a thinking as many as are read for statements, fewer of an answer and in a line."""
EDGE = 900
"""Longer edge of a shown picture in pixels, at most."""
SMALL = 200
"""Longer edge in pixels below which the pixels of an enlarged picture stay sharp."""
SIGNS = {True: ("yes", "\u2713", "true"), False: ("no", "\u2717", "false"), None: ("open", "?", "unknown")}
"""Class, sign and word of a statement that is true, false, or unknown."""
ROUTES = {
    "memorize": "Training would show it the reference thinking and answer, to imitate.",
    "explore": "Training would make the better of these samples likelier, and the worse ones less likely.",
    "mixed": "Training would do both: imitate the reference, and compare these samples with each other.",
    "skip": "Training would learn nothing from this prompt now, and leave the model as it is.",
}
"""What each mode means for the prompt."""
FAULTS = {
    "no marker": "does not mark an answer", "marker repeated": "marks two answers", "thinking too short": "answers without thinking",
    "empty answer": "marks no answer", "answer runs on": "an answer of several lines", "cut off": "cut off, as it was too long",
    "wrong answer": "",
}  # fmt: skip
"""What the reasons of a verdict mean."""
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]")
"""Characters that cannot be seen, or change how others are: controls (ANSI sequences begin with one), directions, half pairs."""
_ACTIVE = str.maketrans({"$": "&#36;", "{": "&#123;", "}": "&#125;", "`": "&#96;"})
"""Characters with which gradio's own templates begin."""


def plain(value: str, longest: int = LONGEST) -> str:
    """Return a text for a place that shows text alone: characters that cannot be seen by sign or number, and no more than `longest`."""
    cut = value if len(value) <= longest else f"{value[:longest]} \u2026 ({len(value) - longest:,} more characters)"
    return _UNSEEN.sub(_named, cut)


def text(value: str, longest: int = LONGEST) -> str:
    """Return a text as HTML that shows it as it is, and does nothing else."""
    return html.escape(plain(value, longest)).translate(_ACTIVE)


def _named(found: re.Match[str]) -> str:
    code = ord(found[0])
    return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else f"\u27e8U+{code:04X}\u27e9"


def line(message: str, *, wrong: bool = False) -> str:
    """Return a line for the user; a screen reader reads it when it appears, at once if something is `wrong`."""
    role, sign = ("alert", "<b>Not done:</b> ") if wrong else ("status", "")
    return (
        f'<p class="line {"wrong" if wrong else ""}" role="{role}">{sign}{text(message, SHORT)}</p>' if message else '<p role="status"></p>'
    )


def picture(image: Image.Image | None, boxes: Sequence[tuple[str, bool | None, Box]] = (), *, about: str = "") -> str:
    """Return a picture with numbered outlines: solid for true statements, dashed for false ones, dotted for others."""
    if image is None:
        return '<p class="quiet">No picture. Choose a sample, or upload one of your own.</p>'
    width, height = image.size
    small = image.copy()
    small.thumbnail((EDGE, EDGE))
    file = io.BytesIO()
    small.save(file, "PNG")
    encoded = base64.b64encode(file.getvalue()).decode()
    unit = max(width, height) / 100
    drawn = "".join(_outline(name, holds, box, unit) for name, holds, box in boxes)
    sharp = " sharp" if max(width, height) < SMALL else ""
    over = f'<svg viewBox="0 0 {width} {height}" aria-hidden="true">{drawn}</svg>' if boxes else ""
    return (
        f'<div class="picture{sharp}" style="--ratio:{width / height:.4f}">'
        f'<img src="data:image/png;base64,{encoded}" alt="{text(about)}">{over}</div>'
    )


def _outline(name: str, holds: bool | None, box: Box, unit: float) -> str:
    kind = SIGNS[holds][0]
    left, top, width, height = box.left - unit, box.top - unit, box.right - box.left + 2 * unit, box.bottom - box.top + 2 * unit
    return (
        f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{unit:.1f}"/>'
        f'<text class="{kind}" x="{left:.1f}" y="{max(top - unit, 5 * unit):.1f}" font-size="{6 * unit:.1f}">{SIGNS[holds][1]}{name}</text>'
    )


def panel(title: str, inside: str) -> str:
    """Return a panel under its title."""
    return f"<section><h2>{text(title)}</h2>{inside}</section>"


def legend() -> str:
    """Return what the marks in a thinking mean."""
    words = {True: "true by what is known of the picture", False: "false", None: "nothing is known to compare it with"}
    marks = ", ".join(f'<mark class="{SIGNS[holds][0]}">{SIGNS[holds][1]}</mark> {told}' for holds, told in words.items())
    return f'<p class="quiet">Marks in the thinking: {marks}.</p>'


def answered(found: Answered | None, asked: Asked | None, texts: Sequence[Text], image: Image.Image | None, waiting: bool = False) -> str:
    """Return the panel of an answer: its verdict, its thinking with marks, its statements, and where in the picture they are."""
    if found is None or asked is None:
        return f'<p class="quiet">{"Waiting for its turn." if waiting else "Ask, and the answer is written here."}</p>'
    if not found.whole:
        return f'<div class="written" aria-busy="true">{text(found.text)}<span class="caret" aria-hidden="true"></span></div>'
    marks = marked(found.thinking, asked.sample.facts) if found.thinking else []
    parts = [_verdict(found, asked)]
    if found.style == "think":
        parts.append(f'<div class="written">{_with_marks(found.text, marks)}</div>')
        parts.append(_statements(found.thinking, marks, asked))
    elif found.answer is None or found.text != found.answer:
        parts.append(f'<div class="written">{text(found.text)}</div>')
    if image is not None and (boxes := _boxes(found.thinking, marks, asked.sample.facts, texts)):
        shown = picture(image, boxes, about="The picture, with the places outlined that the numbered statements speak of")
        parts.append(f"<details open><summary>Where these statements look</summary>{shown}</details>")
    return "".join(parts)


def _verdict(found: Answered, asked: Asked) -> str:
    answer = f'<b class="answer"><bdi>{text(found.answer, SHORT)}</bdi></b>' if found.answer else '<b class="answer">no answer</b>'
    told = FAULTS.get(found.reason, found.reason)
    if found.right is None:
        why = told or ("not judged: the right answer is not known" if not asked.known else "not judged")
        return f'<p class="verdict open">{answer} <span>{text(why)}</span></p>'
    kind, sign, _ = SIGNS[found.right]
    why = f": {text(told)}" if told and not found.right else ""
    return f'<p class="verdict {kind}">{answer} <span>{sign} {"right" if found.right else f"wrong{why}"}</span></p>'


def _with_marks(whole: str, marks: Sequence[Marked]) -> str:
    """Return a completion with its statements marked; they are counted from the beginning of its thinking, which is stripped."""
    before, end, out = len(whole) - len(whole.lstrip()), 0, ""
    for number, mark in enumerate(marks, 1):
        kind, sign, word = SIGNS[mark.holds]
        start, stop = before + mark.start, before + mark.end
        out += f'{text(whole[end:start])}<mark class="{kind}">{text(whole[start:stop])}<sup title="{word}">{sign}{number}</sup></mark>'
        end = stop
    return out + text(whole[end:])


def _statements(thinking: str, marks: Sequence[Marked], asked: Asked) -> str:
    """Return the list of statements with their verdicts and what they were compared with."""
    if not marks:
        why = "no statement that can be checked" if asked.sample.facts else "no facts of this picture are known, so nothing is checked"
        return f'<p class="quiet">In the thinking: {why}.</p>'
    counts = ", ".join(f"{n} {SIGNS[holds][2]}" for holds in SIGNS if (n := sum(mark.holds is holds for mark in marks)))
    rows = "".join(
        f'<li><span class="sign {SIGNS[mark.holds][0]}">{SIGNS[mark.holds][1]} {SIGNS[mark.holds][2]}</span> '
        f'{text(thinking[mark.start : mark.end])} <span class="quiet">({text(mark.known)})</span></li>'
        for mark in marks
    )
    return f"<details><summary>{len(marks)} statements in the thinking: {counts}</summary><ol>{rows}</ol></details>"


def _boxes(thinking: str, marks: Sequence[Marked], facts: Sequence[Fact], texts: Sequence[Text]) -> list[tuple[str, bool | None, Box]]:
    """Return the outlines of a thinking's statements, each with the numbers of those that speak of it."""
    found: dict[tuple[Box, bool | None], list[int]] = {}
    for number, mark in enumerate(marks, 1):
        for box in regions(thinking[mark.start : mark.end], facts, texts):
            found.setdefault((box, mark.holds), []).append(number)
    return [(",".join(map(str, numbers)), holds, box) for (box, holds), numbers in found.items()]


def facts(known: Sequence[Fact], source: str) -> str:
    """Return the facts of a picture in a table."""
    if not known:
        return '<p class="quiet">None known: statements are not checked, but arithmetic is.</p>'
    rows = "".join(f'<tr><th scope="row">{text(fact.subject)}</th><td>{text(fact.value)}</td></tr>' for fact in known)
    return f'<p class="quiet">{text(source)}:</p><table class="facts" aria-label="Facts"><tbody>{rows}</tbody></table>'


def routes(found: Sequence[Routed], asked: Asked, temperature: float) -> str:
    """Return the samples of a prompt with their verdicts, and the route of each stage."""
    return "".join(_route(one, asked, temperature, len(found) > 1) for one in found)


def _route(one: Routed, asked: Asked, temperature: float, several: bool) -> str:
    head = f"<h3>Stage {text(one.stage)}</h3>" if several else ""
    if one.route is None:
        told = "Without a right answer the samples have no verdicts, and there is no route. Type the right answer, and sample again."
        head += f'<p class="verdict open">{told}</p>'
    else:
        head += (
            f'<p class="route"><b class="mode {one.route.mode}">{one.route.mode}</b> <span>{text(one.route.reason)}. '
            f"{ROUTES[one.route.mode]}</span></p>"
        )
    if not one.group.verdicts:
        return head + '<p class="quiet">This stage samples nothing.</p>'
    pairs = zip(one.group.completions, one.group.verdicts, strict=True)
    cards = "".join(_sampled(number, completion.text, verdict, asked) for number, (completion, verdict) in enumerate(pairs, 1))
    rewards = ", each with its reward by the recipe's rules: for answer, form and thinking" if asked.known else ""
    told = f'<p class="quiet">{len(one.group.verdicts)} samples at temperature {temperature:g}{rewards}.</p>'
    hint = f'<p class="quiet">Drawn again behind the hint: {text(one.group.prefix)}</p>' if one.group.prefix else ""
    return f'{head}{hint}{told}<ol class="samples" aria-label="Samples">{cards}</ol>'


def _sampled(number: int, whole: str, verdict: Verdict, asked: Asked) -> str:
    kind, sign, word = SIGNS[verdict.correct if asked.known and not verdict.failed else None]
    word = {"true": "right", "false": "wrong", "unknown": "not judged"}[word]
    told = FAULTS.get(verdict.reason, verdict.reason)
    why = f": {text(told)}" if told else ""
    earned = f' <span class="quiet">reward {verdict.reward:.2f}</span>' if asked.known else ""
    marks = marked(verdict.thinking, asked.sample.facts)
    return (
        f'<li class="sample"><p class="verdict {kind}"><span class="quiet">{number}</span> '
        f'<b class="answer"><bdi>{text(verdict.answer or "no answer", SHORT)}</bdi></b> '
        f'<span>{sign} {word}{why}</span>{earned}</p><div class="written">{_with_marks(whole, marks)}</div></li>'
    )
