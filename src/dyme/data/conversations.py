r"""Rows that are conversations, as question, answer and pictures: TRL's prompt and completion, LLaVA's and ShareGPT's turns.

    {"prompt": [{"role": "user", "content": "What does the jam cost?"}], "images": ["till.png"], "solution": "3.20"}
    {"image": "till.png", "conversations": [{"from": "human", "value": "<image>\nWhat does it cost?"}, {"from": "gpt", "value": "3.20"}]}
    {"messages": [{"role": "user", "content": [{"type": "image", "image": "till.png"}, {"type": "text", "text": "What ...?"}]}, ...]}

A row has one question and one answer, since it is one prompt. The system message is left out; model.system_prompt holds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dyme.errors import DataError

TURNS = ("prompt", "conversations", "conversation", "messages")
"""Fields that may hold turns; completion holds the answer to a prompt."""
_ASKS = ("user", "human")
_ANSWERS = ("assistant", "gpt", "model", "bot", "chatgpt")
_LEFT_OUT = "a system message is left out; set model.system_prompt to it"


@dataclass(slots=True)
class _Read:
    """The texts and pictures found in the turns of a row."""

    questions: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    pictures: list[Any] = field(default_factory=list)
    system: bool = False


def is_conversation(row: Mapping[str, Any]) -> bool:
    """Return whether the question of a row is in turns or in TRL's prompt."""
    return row.get("question") is None and any(row.get(name) is not None for name in TURNS)


def unfolded(row: Mapping[str, Any], where: str) -> tuple[dict[str, Any], list[str]]:
    """Return the row with `question`, `images` and `response` (the assistant's text) in place of its turns, and notes for the user.

    Raises DataError for several questions, for none, and for turns of another shape.
    """
    found = _Read()
    name = next(name for name in TURNS if row.get(name) is not None)
    for part in (name, "completion") if name == "prompt" else (name,):
        _read(row.get(part), found, "assistant" if part == "completion" else "user", f"{where}: {part}")
    if len(found.questions) != 1:
        count = f"{len(found.questions)} questions" if found.questions else "no question"
        raise DataError(f"{where}: {name} holds {count}; write one row for each question with its answer")
    if len(found.answers) > 1:
        raise DataError(f"{where}: {name} holds {len(found.answers)} answers; keep the one to its question")
    out = {key: value for key, value in row.items() if key not in (*TURNS, "completion")}
    out["question"] = found.questions[0]
    if found.answers:
        out["response"] = found.answers[0]
    if found.pictures and row.get("image") is None and row.get("images") is None:
        out["images"] = found.pictures
    return out, [_LEFT_OUT] if found.system else []


def _read(value: object, found: _Read, side: str, where: str) -> None:
    """Add the content of `value`, a text of `side` or a list of turns, to `found`."""
    if value is None:
        return
    if isinstance(value, str):
        value = [{"role": side, "content": value}]
    if not isinstance(value, Sequence) or not all(isinstance(turn, Mapping) for turn in value):
        raise DataError(f'{where} is no list of turns; write {{"role": "user", "content": "..."}} or {{"from": "human", "value": "..."}}')
    for turn in value:
        who = str(turn.get("role", turn.get("from", side))).lower()
        text = _text(turn.get("content", turn.get("value")), found, where)
        if who == "system":
            found.system = found.system or bool(text)
        elif who in _ASKS:
            found.questions.append(text)
        elif who in _ANSWERS:
            found.answers.append(text)
        else:
            raise DataError(f"{where} has a turn of {who[:40]!r}; write user or human, assistant or gpt, or system")


def _text(content: object, found: _Read, where: str) -> str:
    """Return the words of a turn; its pictures are added to `found`."""
    if isinstance(content, str):
        return content.strip()
    if not isinstance(content, Sequence) or isinstance(content, bytes):
        raise DataError(f"{where} has a turn without text; write its content as text, or as a list of texts and pictures")
    words = []
    for part in content:
        if isinstance(part, str):
            words.append(part)
        elif not isinstance(part, Mapping):
            raise DataError(f"{where} has a turn with a part that is neither text nor picture; remove it")
        elif part.get("text") is not None:
            words.append(str(part["text"]))
        else:
            found.pictures += [part[name] for name in ("image", "image_url", "url", "path") if part.get(name) is not None][:1]
    return "\n".join(word.strip() for word in words if word.strip())
