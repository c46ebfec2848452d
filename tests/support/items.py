"""What the tests of items and their metrics share."""

from __future__ import annotations

from typing import Any

from dyme.evaluation.items import Item


def item(index: int, prompt: Any = "think", score: float = 0.0, **more: Any) -> Item:
    """A plain item, right if its score is above a half."""
    plain = {
        "id": f"i{index}", "question": "q?", "gold": "5", "kind": "", "answer_kind": "auto", "completion": "I see 5. Answer: 5",
        "answer": "5", "parsed": True, "correct": score > 0.5, "reason": "", "tokens": 4, "finished": True,
    }  # fmt: skip
    return Item(index=index, prompt=prompt, score=score, **plain | more)
