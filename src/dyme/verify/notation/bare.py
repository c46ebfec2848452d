r"""Numbers in LaTeX as plain text: "\frac{3}{4}" becomes "3/4", "14\text{ dollars}" "14 dollars", "1{,}234" "1,234"."""

from __future__ import annotations

import re

_DIGITS = r" ?(?:\{ ?([0-9]+) ?\}|([0-9]))"
_FRACTION = re.compile(rf"\\[dtc]?frac{_DIGITS}{_DIGITS}")
_MATHEMATICS = re.compile(r"(?<!\\)\$([^$]+)(?<!\\)\$(?! ?[0-9])")
"""A text between signs of mathematics, which the dollars of "$5-$7" are not."""
_REPLACED = (
    (
        re.compile(r"\\(?:text|textnormal|textrm|textbf|textit|mathrm|mathbf|mbox|operatorname|rm|bf)(?![a-zA-Z]) ?(?:\{([^{}]*)\})?"),
        r" \1 ",
    ),
    (re.compile(r"\\!|\\(?:left|right|displaystyle)(?![a-zA-Z])"), ""),
    (re.compile(r"\\(?:quad|qquad|thinspace)(?![a-zA-Z])|\\[,;: ]|(?<=[0-9}])~"), " "),
    (re.compile(r"\\(?:times|cdot)(?![a-zA-Z])"), "x"),
    (re.compile(r"\^ ?\{? ?\\circ ?\}?|\\(?:degree|circ)(?![a-zA-Z])"), "°"),
    (re.compile(r"\\pounds(?![a-zA-Z])"), "£"),
    (re.compile(r"\\([$%€£])"), r"\1"),
)


def bare(text: str) -> str:
    """Return `text`, which is on one line, without the commands around a number; with other commands, which stay, it is not a number."""
    text = _MATHEMATICS.sub(r" \1 ", text).replace("{,}", ",").replace(r"\! ", "")
    text = _FRACTION.sub(lambda found: f" {found[1] or found[2]}/{found[3] or found[4]}", text)
    for pattern, replacement in _REPLACED:
        text = pattern.sub(replacement, text)
    return " ".join(text.split()).replace(" ,", ",").replace(" ^", "^").rstrip(".,;: ")
