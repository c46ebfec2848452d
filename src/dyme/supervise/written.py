"""What a trace that a model wrote must not hold, as it is trained on as text: the marker, markup, invisible signs."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 2000
"""Characters of the longest trace that is accepted."""
_MARKUP = re.compile(r"<[|/A-Za-z\uff5c][^<>\s]*>|\[/?[A-Z_]{2,}\]|<<<|>>>")
"""Special tokens of chat templates and processors, which a policy's tokenizer would read as such ("<image>", "<|im_end|>"), and
fences, which a small model repeats."""


def fault(trace: str, marker: str, longest: int = LONGEST) -> str:
    """Return the reason why a trace must not be trained on as text; "" if there is none. Line breaks do not count."""
    if not trace:
        return "is empty"
    if len(trace) > longest:
        return f"has {len(trace)} characters, more than {longest}"
    if marker and _one_line(marker).casefold() in _one_line(trace).casefold():
        return f"holds the answer marker {marker!r}"
    if found := _MARKUP.search(trace):
        return f"holds {found[0]!r}, a special token or part of a fence"
    if trace[0] in "{[" or "```" in trace or any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co") for c in trace if c != "\n"):
        return f"is not plain text: {trace[:60]!r}"
    return ""


def _one_line(text: str) -> str:
    return " ".join(text.split())
