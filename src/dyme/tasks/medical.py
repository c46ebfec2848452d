"""Scoring of SLAKE and VQA-RAD: closed questions by accuracy, open ones by recall, both reported separately."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dyme.types import AnswerKind

METRIC = "closed: accuracy; open: recall of the answer's words"
_YES_NO = ("yes", "no")


def scoring(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return `kind` (closed or open) and `answer_kind` of a row with `answer` and, as published, `answer_type` CLOSED or OPEN.

    Closed answers other than yes and no ("Left side") are compared as text. In a copy without answer_type, as some on the hub
    are, yes and no are closed answers and all others open.
    """
    answer, given = str(row.get("answer", "")).strip().rstrip(".").casefold(), row.get("answer_type")
    named = given.strip().casefold() if isinstance(given, str) else ""
    closed = named == "closed" if named in ("closed", "open") else answer in _YES_NO
    kind: AnswerKind = "open" if not closed else "yes_no" if answer in _YES_NO else "text"
    return {"kind": "closed" if closed else "open", "answer_kind": kind}
