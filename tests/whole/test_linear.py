"""What a model, an LLM helper or a data set writes is read in linear time: every regular expression and every reader.

Regular expressions are proved linear by their automata (`ambiguity.py`). The work of readers is counted in lines of Python that run, for
texts of a length and twice as long; what a line may hide (a copy, a count) shows in processor time, as a ratio.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

import pytest
from ambiguity import Use, growth

import dyme
from dyme.config import RewardConfig
from dyme.data.placeholders import in_words
from dyme.errors import SupervisionError
from dyme.supervise.llm import prompt
from dyme.supervise.llm import roles as llm_roles
from dyme.supervise.llm import structured as answers
from dyme.supervise.llm.roles import LLMRefiner
from dyme.supervise.local.checker import LocalChecker
from dyme.supervise.local.entries import entries
from dyme.supervise.local.refiner import LocalRefiner
from dyme.supervise.local.statements import Reader
from dyme.supervise.local.templates import generalise
from dyme.types import AnswerKind, Completion, Fact, Sample
from dyme.verify.answers import VERIFIERS, judge
from dyme.verify.format import parse
from dyme.verify.rules import Rules, verify
from dyme.verify.thinking import fact_f1, marked, statements, token_f1, true_statements

FOLDER = Path(dyme.__file__).parent
READ = ("verify", "supervise", "report", "model", "tasks", "data", "facts")
"""Packages that read texts which others wrote."""
BOUNDED = {
    "dyme.verify.thinking._EQUATION": "30 operators on a side, read anew from each of its terms at most",
    "dyme.facts.chart_text._NAMED": "texts of a chart up to LONGEST characters",
    "dyme.tasks.geometry.statements": "names of predicates in annotations, a word each",
    "dyme.data.hub._SHARD": "names of files",
    "dyme.data.prepare": "our own messages",
}
"""Patterns that are not linear, and why what they read is short."""
BUILT = {
    "dyme.verify.thinking.any_of",
    "dyme.supervise.local.statements._letters",
    "dyme.supervise.local.statements._numbers_as_names",
    "dyme.supervise.local.templates.generalise",
    "dyme.facts.chart_text._unglued",
    "dyme.supervise.audit",
    "dyme.tasks.geometry.statements._fact",
}
"""Where patterns are built of a sample's names, which are escaped."""


def modules() -> Iterator[ModuleType]:
    for package in READ:
        for file in sorted((FOLDER / package).rglob("*.py")):
            if re.search(r"\bre\.", file.read_text(encoding="utf-8")):
                yield importlib.import_module(".".join(file.relative_to(FOLDER.parent).with_suffix("").parts))


def held(value: object, name: str) -> Iterator[tuple[str, re.Pattern[str]]]:
    """The patterns in a module's constant."""
    if isinstance(value, re.Pattern):
        yield name, value
    elif isinstance(value, dict):
        value = tuple(value.values())
    if isinstance(value, (tuple, list)):
        for k, item in enumerate(value):
            yield from held(item, f"{name}[{k}]")


def hardest(methods: set[str]) -> Use:
    return "fullmatch" if methods == {"fullmatch"} else "match" if methods and methods <= {"match", "fullmatch"} else "search"


@cache
def patterns() -> tuple[dict[str, tuple[re.Pattern[str], Use]], set[str]]:
    """Every pattern of the packages with its hardest use, and where others are built."""
    found: dict[str, tuple[re.Pattern[str], Use]] = {}
    built = set()
    for module in modules():
        tree = ast.parse(inspect.getsource(module))
        uses: dict[str, set[str]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                uses.setdefault(node.value.id, set()).add(node.attr)
        for name, value in vars(module).items():
            for place, pattern in held(value, f"{module.__name__}.{name}"):
                found[place] = pattern, hardest(uses.get(name, set()))
        for function in [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]:
            for call in [n for n in ast.walk(function) if isinstance(n, ast.Call)]:
                if not (isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) == "re") or call.func.attr == "escape":
                    continue
                place = f"{module.__name__}.{function.name}"
                try:
                    text = eval(compile(ast.Expression(call.args[0]), place, "eval"), dict(vars(module)))
                    found[f"{place}:{call.lineno}"] = re.compile(text), hardest({call.func.attr})
                except NameError:
                    built.add(place)
    return found, built


def test_every_regular_expression_is_linear() -> None:
    found, built = patterns()
    assert len(found) > 150
    trouble = {place: why for place, (pattern, use) in found.items() if (why := growth(pattern, use))}
    assert {place: why for place, why in trouble.items() if not place.startswith(tuple(BOUNDED))} == {}
    assert {reason for reason in BOUNDED if not any(place.startswith(reason) for place in trouble)} == set(), "an exception that is none"
    assert {place for place in built if not place.startswith(tuple(BUILT))} == set()


BAD: dict[str, Use] = {
    r"(a+)+$": "search",
    r"(a|a)*b": "fullmatch",
    r"(\w+ ?)*x": "fullmatch",
    r"(a*)*b": "fullmatch",
    r"(?:(?:a?|b?)c)*d": "fullmatch",
    r"[A-Z](?:(?: or | )(?:or )?[A-Z])+": "fullmatch",
    r"\s+$": "search",
    r"[0-9]+x": "search",
    r"a*a*b": "fullmatch",
    r"a.*b.*c": "fullmatch",
    r"\(.*\)": "search",
    r"[0-9]{1,3}(?:,[0-9]{3})+x": "search",
}
GOOD: dict[str, Use] = {
    r"\s+$": "fullmatch",
    r"\s+": "search",
    r"(?<!\s)\s+$": "search",
    r"(?<![0-9])[0-9]+x": "search",
    r"\bab*c": "search",
    r"^a+b": "search",
    r"a*+ab": "fullmatch",
    r"a{1,9}x": "search",
    r"(?:a?|b?)*c": "fullmatch",
    r"[0-9]+(?:[.,][0-9]+)*": "search",
    r"\([^()]*\)": "search",
}


@pytest.mark.parametrize("pattern", BAD)
def test_what_is_not_linear_is_found(pattern: str) -> None:
    assert growth(re.compile(pattern), BAD[pattern])


@pytest.mark.parametrize("pattern", GOOD)
def test_what_is_linear_passes(pattern: str) -> None:
    assert growth(re.compile(pattern), GOOD[pattern]) == ""


FACTS = (Fact("fig", "82"), Fact("ham", "47"), Fact("A", "5"), Fact("2016", "40"), Fact("men, 2015", "13"), Fact("parallel(AB, CD)", "yes"))
RULES = Rules(marker="Answer:", tolerance=0.05, reward=RewardConfig())
CHART = Sample(id="1", question="How much larger is fig than ham?", answer="35", facts=FACTS, rationale="fig 82, ham 47, 82 - 47 = 35")
REFINER = LLMRefiner(client=None, domain="chart", marker="Answer:")  # type: ignore[arg-type]
GOLD = {
    "auto": "1,000",
    "number": "14",
    "text": "the left lung",
    "yes_no": "yes",
    "choice": "B",
    "letter": "B",
    "list": "1, 2, a",
    "math": r"\frac{15}{8}",
    "open": "left lung",
    "vqa": "left",
}


def of_kind(kind: AnswerKind) -> Sample:
    choices = ("10 cm", "$30^{\\circ}$", "12", "a or b") if kind == "choice" else ()
    return Sample(id=kind, question="q", answer=GOLD[kind], answer_kind=kind, answers=("left",) * 10, choices=choices, unit="cm")


def answered(kind: AnswerKind) -> Callable[[str], object]:
    sample = of_kind(kind)
    return lambda text: judge(text, sample, tolerance=0.05)


def graded(text: str) -> None:
    checker = LocalChecker(marker="Answer:")
    checker.check(CHART, [text])
    checker.objection(CHART, text)


def refused(reader: Callable[[str], object]) -> Callable[[str], None]:
    def read(text: str) -> None:
        with suppress(SupervisionError):
            reader(text)

    return read


def refine(text: str) -> None:
    sample = Sample(id="1", question="q", answer="35", facts=FACTS, rationale=text)
    LocalRefiner(marker="Answer:").refine(sample, None)


READERS: dict[str, Callable[[str], object]] = {
    **{f"answer of kind {kind}": answered(kind) for kind in VERIFIERS},
    "format": lambda text: parse(text, marker="Answer:", min_thinking_words=3),
    "rules": lambda text: verify(Completion(text=text + " Answer: 35", token_ids=(1,)), CHART, RULES),
    "statements": lambda text: statements(text, [fact.subject for fact in FACTS]),
    "true statements": lambda text: true_statements(text, FACTS),
    "marked statements": lambda text: marked(text, FACTS),
    "facts": lambda text: fact_f1(text, FACTS),
    "reference": lambda text: token_f1(text, "fig 82, ham 47"),
    "checker": graded,
    "templates": lambda text: generalise(CHART, text),
    "refiner": refused(refine),
    "answer of a helper": refused(lambda text: answers.read_object(text)),
    "object of a helper": refused(lambda text: answers.read_object('{"a": ' + text + "}")),
    "trace of a helper": refused(REFINER._formed),
    "prompt": lambda text: prompt.sections([("trace", text)]),
    "facts of a helper": lambda text: llm_roles.flatten({"objects": [], "description": text + "x"}),
}
PIECES = (
    *"a1 (-=.,;:\n$\"'*é½²{[<",
    *("0,000,", "A or ", "(A) and ", "A, ", "1 + ", "1 = ", "1 + 1 = 2 ", "1/2 ", "3 < ", "no ", "the ", "so ", " is ", " to ", "twenty-"),
    *("\\frac{", "\\boxed{", "\\text{a}", "\\sqrt", "x^", "^{", "a.b.", "1:00pm ", "between 1 and ", "parallel(a", "**a** ", "5 cm "),
    *("Answer:", "```", "<think>", "<|im_end|>", "[[", '{"a":', "\\(", "$$"),
    *("fig 82 ", "fig is ", "fig. ", "82 is the highest ", "men in 2015 is ", "82 (fig) "),
)
"""What hostile texts repeat: signs that open, join or end something in one of the readers."""
SHORT, LONG = (50, 300), 2000
"""Characters: lines are counted on texts of this length and twice as long; time on texts of LONG and 8 LONG."""


def text_of(piece: str, length: int, ending: str) -> str:
    return piece * (length // len(piece)) + ending


def lines(work: Callable[[], object]) -> int:
    """Lines of Python that `work` runs, each turn of a loop counted."""
    count = 0

    def trace(frame: FrameType, event: str, arg: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def grows(reader: Callable[[str], object], piece: str, ending: str) -> str:
    """How the lines that run outgrow the text; "" if they do not. For twice the text there may be 2.6 times as many, and 400 more."""
    for length in SHORT:
        once, twice = (lines(partial(reader, text_of(piece, k, ending))) for k in (length, 2 * length))
        if twice > 2.6 * once + 400:
            return f"{piece!r}: {once} lines for {length} characters, {twice} for twice as many"
    return ""


def slows(reader: Callable[[str], object], piece: str, length: int = LONG) -> str:
    """How processor time outgrows the text; "" if it does not. Eight times the text may take 24 times as long, and 5 ms anyway."""

    def seconds(size: int, attempts: int) -> float:
        taken = []
        for attempt in range(attempts):
            text = text_of(piece, size, f" {attempt}!")
            start = time.process_time()
            reader(text)
            taken.append(time.process_time() - start)
        return min(taken)

    for attempts in (1, 5):
        short, long = seconds(length, attempts), seconds(8 * length, attempts)
        if long < max(0.005, 24 * short):
            return ""
    return f"{piece!r}: {1e3 * short:.2f} and {1e3 * long:.2f} ms"


@pytest.mark.parametrize("name", READERS)
def test_every_reader_is_linear(name: str) -> None:
    reader = READERS[name]
    for piece in PIECES:
        reader(text_of(piece, 20, ""))
    assert [found for piece in PIECES for ending in ("", "!") if (found := grows(reader, piece, ending))] == []
    longest = 240 if name.startswith("answer of kind") else LONG
    assert [found for piece in PIECES if (found := slows(reader, piece, longest))] == []


def test_a_reader_that_is_not_linear_is_found() -> None:
    assert grows(lambda text: [a == b for a in text for b in text], "a", "")
    assert grows(lambda text: [text[k:] for k in range(len(text))], "a", "") == ""
    assert slows(lambda text: [set(text[k:]) for k in range(len(text))], "a", 300)
    assert slows(lambda text: re.search(r"\s+$", text), " ", 1000)
    assert slows(lambda text: text.split(), " a") == ""


def test_many_places_of_pictures_are_told_at_once() -> None:
    """Twenty such places took 5 s, and each further one twice as long."""
    row = {"image": "a.png", "question": "q" + "\n\n<image1>" * 2000 + "x"}
    assert in_words(row, "row 1")[0]["question"].endswith("the image" + "x")


def test_patterns_of_names_are_linear() -> None:
    reader = Reader(entries(FACTS), "How many men in 2015?")
    assert reader.names and reader.letter and reader.bare
    for pattern in (reader.names, reader.letter, *reader.bare):
        assert growth(pattern) == ""


@pytest.mark.parametrize("name", READERS)
def test_deep_nesting_ends(name: str) -> None:
    for sign in ("(", "[", "{", "-", "\\frac{", "\\sqrt{", '{"a":', "[[", "<think>"):
        READERS[name](sign * (100_000 // len(sign)))
