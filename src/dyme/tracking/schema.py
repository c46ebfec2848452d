"""The shapes of the lines of a run folder and of an evaluation, checked when they are read: a whole line may still be a wrong one.

A shape is a type; a tuple of shapes, one of which must fit; a list of one shape, for all its elements; or a dict of shapes by name, where
"*" stands for every name and a name that ends with "?" may be absent or null. Other names are allowed: a later version may have
written them.
"""

from __future__ import annotations

from typing import Any

NUMBER, TEXT = (int, float), (str, type(None))
_FIGURE = {"value": NUMBER, "low?": NUMBER, "high?": NUMBER, "n?": int}
_FIGURES = {"*": (*NUMBER, type(None), _FIGURE)}
_BREAKDOWN = {"*": _FIGURES}
_COMPLETION = {
    "text": str, "reason": str, "correct": bool, "parsed": bool, "reward": (*NUMBER, bool, type(None)), "tokens": int, "finished": bool,
    "assessment?": str, "advantage?": NUMBER, "answer?": str, "rewards?": {"*": (*NUMBER, bool, type(None))},
    "failed?": bool,
}  # fmt: skip
_DRAFT = {"text": str, "tokens": int, "fault": str, "reason": str}
LINES: dict[str, Any] = {
    "metrics.jsonl": {"step": int, "prompts": int, "epoch": NUMBER, "seconds": NUMBER, "metrics": {"*": (*NUMBER, type(None))}},
    "rollouts.jsonl": {
        "step": int, "id": str, "question": str, "answer": str, "kind": str, "mode": str, "reason": str, "rationale": TEXT, "target?": str,
        "trust?": NUMBER, "trouble?": str, "drafts?": [_DRAFT], "left_out?": {"*": str}, "prefix?": str,
        "draws?": [{"prefix": str, "completions": int, "correct": int}], "images": [str], "facts": [[str]], "completions": [_COMPLETION],
    },
    "evaluations.jsonl": {
        "step": int, "name": str, "metrics": _FIGURES, "by_kind?": _BREAKDOWN, "by_answer_kind?": _BREAKDOWN,
        "examples?": [{"*": (str, bool, int, float, type(None))}],
    },
    "events.jsonl": {"time": str, "kind": str},
    "items.jsonl": {
        "index": int, "id": str, "prompt": str, "question": str, "gold": str, "kind": str, "answer_kind": str, "completion": str,
        "answer": TEXT, "parsed": bool, "correct": bool, "score": NUMBER, "reason": str, "tokens": int, "finished": bool,
        "statements?": [int], "sampled?": {"samples": int, "correct": int, "parsed": int, "finished": int}, "picture?": str,
    },
}  # fmt: skip
"""By the name of the file."""


def fault(value: Any, shape: Any, name: str = "the line") -> str:
    """Return the name of the first part that does not fit, and its expected shape; "" if all parts fit."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{name} is no object"
        named = {key.removesuffix("?"): part for key, part in shape.items() if key != "*"}
        lacking = [key for key in shape if key != "*" and not key.endswith("?") and key not in value]
        if lacking:
            return f"{name} lacks {lacking[0]!r}"
        optional = {key[:-1] for key in shape if key.endswith("?")}
        parts = [(key, part, named.get(key, shape.get("*"))) for key, part in value.items() if not (key in optional and part is None)]
        return next((found for key, part, own in parts if own is not None and (found := fault(part, own, repr(key)))), "")
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{name} is no list"
        return next((found for part in value if (found := fault(part, shape[0], f"a part of {name}"))), "")
    if isinstance(shape, tuple):
        faults = [fault(value, one, name) for one in shape]
        return "" if "" in faults else faults[-1]
    fits = isinstance(value, shape) and (shape is bool or not isinstance(value, bool))
    return "" if fits else f"{name} is not of its kind"
