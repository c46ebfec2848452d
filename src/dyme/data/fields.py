"""Fields of a user's rows under their usual names, converted to the fields of `jsonl.py`; each renaming is reported.

Nothing is guessed where two readings are possible: such a row raises an error that names the field to write.
"""

from __future__ import annotations

import ast
import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from dyme.data import conversations
from dyme.data.choices import LETTERS
from dyme.data.layouts import NOTES
from dyme.data.pictures import embedded
from dyme.data.rows import FIELDS
from dyme.data.tables import is_blank
from dyme.errors import DataError, quoted

OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "question": ("query", "problem", "instruction"),
    "answer": (
        "ground_truth", "gold", "gold_answer", "correct_answer", "final_answer", "label", "solution", "response", "output",
    ),
    "rationale": (
        "rationales", "reasoning", "explanation", "cot", "chain_of_thought", "thought", "thoughts", "thinking", "think", "solution",
        "response",
    ),
    "choices": ("options", "candidates"),
    "images": ("file_names", "image_paths", "img_paths"),
    "image": ("file_name", "image_path", "img_path", "image_file", "image_name", "img_name", "imgname", "img", "picture", "image_url"),
}  # fmt: skip
"""Field of dyme -> other names that are read for it, the surest first."""
_MEANT = {other: name for name, others in OTHER_NAMES.items() for other in others}
_KNOWN = frozenset((*FIELDS, *conversations.TURNS, "completion", *_MEANT))
_INDEX = ("answer_index", "answer_idx", "correct_choice_idx", "correct_index", "correct_option_index")
"""Fields that hold the number of the right choice, counted from 0."""
_OPTION = re.compile(r"(?:option|choice|opt)[ _-]?([a-z])|([A-Z])", re.IGNORECASE)
_IMAGE = re.compile(r"image[ _]?([1-9][0-9]?)")
_LETTERED = re.compile(r"(?:\A|\n)[^\S\n]*\(?([A-Z])\)?\s*[:.)]\s*")
_LISTS = ("choices", "answers", "facts", "images")


def ours(row: Mapping[str, Any], where: str, marker: str) -> dict[str, Any]:
    """Return the row in the fields of `jsonl.py` and its other fields; `NOTES` lists the fields that were read under another name.

    `marker` separates a rationale from its answer in one text. Raises DataError, which begins with `where`, for an ambiguous row.
    """
    given, notes = _plain_names(row)
    if conversations.is_conversation(given):
        given, more = conversations.unfolded(given, where)
        notes += more
    given = _columns(given)
    out = {name: given[name] for name in FIELDS if given.get(name) is not None}
    used = {name: name for name in out}
    for name, others in OTHER_NAMES.items():
        if name in out or (name in ("image", "images") and ("image" in out or "images" in out)):
            continue
        fits = embedded.is_picture if name == "image" else lambda value: value is not None
        if other := next((one for one in others if fits(given.get(one)) and one not in used.values()), None):
            out[name], used[name] = given[other], other
    _lists(out, used, where)
    _answer(out, used, given, where, marker)
    _rationale(out, used, marker)
    _pictures(out, used, given)
    notes += [f"{name} is read from the field {quoted(other)}" for name, other in used.items() if other != name]
    notes += _unread(given, out, set(used.values()))
    notes += _without_blank_facts(out)
    read = {*FIELDS, *used.values()}
    return {name: value for name, value in given.items() if name not in read} | out | ({NOTES: tuple(notes)} if notes else {})


def worked(text: str, marker: str) -> tuple[str, str]:
    r"""Return the steps and the answer of a text, split at <answer> or </think>, the marker, #### or a last \boxed{}; else ("", text)."""
    before, tag, answer = text.rpartition("<answer>")
    if tag:
        return before.replace("<think>", "").replace("</think>", "").strip(), answer.partition("</answer>")[0].strip()
    for sign in ("</think>", marker, "####"):
        before, found, answer = text.rpartition(sign)
        if found and answer.strip():
            return before.replace("<think>", "").replace(sign, "").strip(), answer.strip()
    before, found, after = text.rpartition("\\boxed{")
    if found:
        depth = 1
        for end, character in enumerate(after):
            depth += (character == "{") - (character == "}")
            if depth == 0:
                return text.strip(), after[:end].strip()
    return "", text.strip()


def _plain_names(row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the row with names such as "Question " as "question", unless the row has one, and notes on these."""
    out: dict[str, Any] = {}
    notes = []
    for name, value in row.items():
        plain = _plain(str(name))
        if name not in _KNOWN and plain in _KNOWN and plain not in row and plain not in out:
            out[plain] = value
            notes += [f"{plain} is read from the field {quoted(name)}"] if value is not None else []
        else:
            out[name] = value
    return out, notes


def _columns(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with columns A, B, C ... or option_a, option_b ... as choices, and image_1, image_2 ... as images."""
    taken = any(row.get(name) is not None for name in ("choices", *OTHER_NAMES["choices"]))
    lettered = {letter: name for name in row if (letter := _option(str(name)))}
    values = [row[lettered[letter]] if letter in lettered else None for letter in LETTERS]
    count = next((k for k, value in enumerate(values) if value is None), len(values))
    out = dict(row)
    if not taken and count > 1 and not any(value is not None for value in values[count:]):
        for name in lettered.values():
            del out[name]
        out["choices"] = values[:count]
    numbered = {number: name for name in row if (number := _picture_number(str(name)))}
    pictures = [row[numbered[k]] for k in sorted(numbered) if row[numbered[k]] is not None]
    if pictures and row.get("image") is None and row.get("images") is None:
        for name in numbered.values():
            del out[name]
        out["images"] = pictures
    return out


def _lists(out: dict[str, Any], used: dict[str, str], where: str) -> None:
    """Read lists that are written as text (CSV, some data sets of the hub), and choices of other shapes."""
    for name in _LISTS:
        value = out.get(name)
        if isinstance(value, str) and value.strip()[:1] in ("[", "{"):
            out[name] = _literal(value, f"{where}: {used[name]}")
    if "choices" not in out:
        return
    found = _choices(out["choices"])
    if found is not None:
        out["choices"] = found
    elif used["choices"] != "choices":
        answer = str(out.get("answer", "")).strip()
        if len(answer) == 1 and answer.upper() in LETTERS:
            raise DataError(f"{where}: {used['choices']} is no list of texts, and the answer is the letter of one; write choices as a list")
        del out["choices"], used["choices"]
    if out.get("choices") == []:
        del out["choices"], used["choices"]


def _literal(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise DataError(f"{where} is text that is no list ({quoted(text)}); write a list of texts") from error


def _choices(value: object) -> list[Any] | None:
    """Return choices of a list of texts, {"A": text}, {"text": [...], "label": [...]}, [{"label": "A", "text": ...}], "A. one\nB. two"."""
    if isinstance(value, Mapping) and isinstance(value.get("text"), list):
        return list(value["text"])
    if isinstance(value, Mapping):
        filled = {str(key).strip().upper(): one for key, one in value.items() if one is not None}
        return [filled[letter] for letter in LETTERS[: len(filled)]] if set(filled) == set(LETTERS[: len(filled)]) else None
    if isinstance(value, (list, tuple)):
        return [one["text"] if isinstance(one, Mapping) and "text" in one else one for one in value]
    if isinstance(value, str):
        _, *parts = _LETTERED.split(value)
        return [part.strip() for part in parts[1::2]] if len(parts) > 3 and "".join(parts[::2]) == LETTERS[: len(parts) // 2] else None
    return None


def _answer(out: dict[str, Any], used: dict[str, str], given: Mapping[str, Any], where: str, marker: str) -> None:
    """Reduce the answer to itself where it was read with its steps or as the number of a choice."""
    if isinstance(value := out.get("answer"), list) and len(value) == 1:
        out["answer"] = value[0]  # as published ChartQA has it
    if "answer" not in out and "choices" in out and (name := next((one for one in _INDEX if given.get(one) is not None), None)):
        index = given[name]
        if isinstance(index, bool) or not isinstance(index, (int, str)) or str(index) not in map(str, range(len(out["choices"]))):
            raise DataError(f"{where}: {name} is {quoted(index)}, which numbers none of the {len(out['choices'])} choices from 0")
        out["answer"], used["answer"] = LETTERS[int(index)], name
    if used.get("answer") in ("solution", "response", "output") and isinstance(out["answer"], str):
        steps, out["answer"] = worked(out["answer"], marker)
        if steps and "rationale" not in out:
            out["rationale"], used["rationale"] = steps, used["answer"]


def _rationale(out: dict[str, Any], used: dict[str, str], marker: str) -> None:
    """Take the answer off the end of a rationale that was read under another name; an empty rationale is removed."""
    if used.get("rationale", "rationale") == "rationale":
        return
    value = out["rationale"]
    value = value[0] if isinstance(value, list) and value else value
    steps = (worked(value, marker)[0] or value).strip() if isinstance(value, str) else ""
    if steps and steps != str(out.get("answer", "")).strip():
        out["rationale"] = steps
    else:
        del out["rationale"], used["rationale"]


def _pictures(out: dict[str, Any], used: dict[str, str], given: Mapping[str, Any]) -> None:
    """Read pictures as names or contents, a list as images; a column that holds the picture comes before one that names it."""
    if isinstance(out.get("image"), str) and isinstance(given.get("decoded_image"), Mapping):
        out["image"], used["image"] = given["decoded_image"], "decoded_image"
    for name in ("image", "images"):
        if isinstance(out.get(name), list):
            pictures = [embedded.plain(one) for one in out.pop(name)]
            out["images"], used["images"] = pictures, used.pop(name)
        elif name in out:
            out[name] = embedded.plain(out[name])


def _unread(given: Mapping[str, Any], out: Mapping[str, Any], used: Iterable[str]) -> list[str]:
    """Return notes on fields that look like dyme's and are not read."""
    notes = []
    for field, value in given.items():
        if field in used or field in FIELDS or value is None or (isinstance(value, str | list) and not value):
            continue
        name = _MEANT.get(field) or _nearest(str(field))
        if name and name not in ("image", "images"):  # pictures in other fields are an error where a row has none
            told = f"{name} is there" if name in out else f"rename it {name} if it is meant"
            notes.append(f"the field {quoted(field)} is not read: {told}")
    return notes


@lru_cache(maxsize=1024)
def _plain(field: str) -> str:
    return field.strip().casefold().replace(" ", "_").replace("-", "_")


@lru_cache(maxsize=1024)
def _option(field: str) -> str:
    """Return the letter of the option that a column holds, or ""."""
    found = _OPTION.fullmatch(field)
    return (found[1] or found[2]).upper() if found and (found[1] or field.isupper()) else ""


@lru_cache(maxsize=1024)
def _picture_number(field: str) -> int:
    """Return the number, from 1, of the picture that a column holds, or 0 for another column."""
    found = _IMAGE.fullmatch(field)
    return int(found[1]) if found else 0


@lru_cache(maxsize=1024)
def _nearest(field: str) -> str:
    """Return the field of dyme of which `field` may be a misspelling, or ""."""
    return next(iter(difflib.get_close_matches(field.casefold(), FIELDS, n=1, cutoff=0.85)), "")


def _without_blank_facts(out: dict[str, Any]) -> list[str]:
    """Remove facts without a value ("nan", "n/a", "-", null, NaN) from the row, and return a note on it."""
    facts = out.get("facts")
    if not isinstance(facts, (dict, list)):
        return []
    pairs = list(facts.items()) if isinstance(facts, dict) else [_pair(one) for one in facts]
    kept = [k for k, pair in enumerate(pairs) if not (isinstance(pair, (list, tuple)) and len(pair) == 2 and _is_blank(pair[1]))]
    if len(kept) == len(pairs):
        return []
    out["facts"] = dict(pairs[k] for k in kept) if isinstance(facts, dict) else [facts[k] for k in kept]
    return ["facts without a value (nan, n/a, -) are left out"]


def _pair(one: Any) -> Any:
    return (one["subject"], one["value"]) if isinstance(one, dict) and {"subject", "value"} <= one.keys() else one


def _is_blank(value: object) -> bool:
    return value is None or (isinstance(value, float) and not math.isfinite(value)) or (isinstance(value, str) and is_blank(value))
