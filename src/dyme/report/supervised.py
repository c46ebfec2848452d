"""What the helpers of a run wrote for a group: who graded, who wrote the target, what was refused, and how the target differs from the
reference; as far as the run folder tells.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dyme.types import Fact
from dyme.verify.thinking import marked, true_statements

_WORD = re.compile(r"\S+")
_MOST_WORDS = 1200
"""Most words of a text that is compared word by word."""
Span = tuple[int, int]


def grader(row: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return who graded the thinking of a group, "" if nobody did."""
    said = next((c["assessment"] for c in row["completions"] if c.get("assessment")), "")
    if not said or settings.get("checker") != "llm":
        return "the local checker" if said else ""
    return f"the LLM {settings.get('model', '')}".strip() if said.endswith(": llm") else "the local checker, in place of the LLM"


def writer(row: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Return who wrote a group's target, "" if it has none of a refiner's."""
    if row.get("target") is None:
        return ""
    if any(not draft["fault"] for draft in row.get("drafts") or ()):
        again = all(not draft["tokens"] for draft in row["drafts"])
        return "the model itself, at an earlier step" if again else "the model itself"
    refiner = settings.get("refiner")
    if refiner == "self":
        return "the local refiner, as no draft of the model's was accepted"
    if refiner != "llm":
        return "the local refiner"
    return "the local refiner, in place of the LLM" if row.get("trouble") else f"the LLM {settings.get('model', '')}".strip()


def cache_line(settings: Mapping[str, Any], figures: Mapping[str, float]) -> str:
    """Return a sentence about requests to an endpoint and answers from the cache, "" without any; `figures` are the last step's."""
    if "llm" not in (settings.get("checker"), settings.get("refiner")) or "helper_calls" not in figures:
        return ""
    calls, cached = (int(figures.get(name, 0)) for name in ("helper_calls", "helper_cached"))
    return f"The LLM was asked {calls:,} times; {cached:,} more answers came from the cache. The run does not record which."


def differences(reference: str, target: str) -> tuple[list[Span], list[Span]]:
    """Return the places of the words that only the reference and only the target has, by characters."""
    words = [list(_WORD.finditer(text)) for text in (reference, target)]
    if max(map(len, words)) > _MOST_WORDS:
        return [], []
    compared = difflib.SequenceMatcher(None, [word[0] for word in words[0]], [word[0] for word in words[1]])
    gone: list[Span] = []
    new: list[Span] = []
    for kind, a, b, c, d in compared.get_opcodes():
        if kind != "equal":
            gone += [(words[0][a].start(), words[0][b - 1].end())] if b > a else []
            new += [(words[1][c].start(), words[1][d - 1].end())] if d > c else []
    return gone, new


def statements(thinking: str, facts: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Return the marks of a trace for browser.js, [start, end, "true", "false" or "unknown", what is known], and [true, stated]."""
    own = [Fact(subject, value) for subject, value in facts]
    names = {True: "true", False: "false", None: "unknown"}
    marks = [(*units(thinking, (one.start, one.end)), names[one.holds], one.known) for one in marked(thinking, own)]
    return {"marks": marks, "stated": true_statements(thinking, own)}


def units(text: str, span: Span) -> Span:
    """Return a span in the units by which JavaScript counts: two for a character beyond U+FFFF."""
    start, end = (len(text[:k].encode("utf-16-le", "surrogatepass")) // 2 for k in span)
    return start, end
