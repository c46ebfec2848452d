"""Read a model's structured answer: repair it where that cannot change its meaning, refuse it otherwise.

The reference code looks for "low", "medium" or "high" as a substring, in lower case: "High" scores 0 and "flow" contains "low".
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from dyme.errors import SupervisionError

_THINKING = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)


def without_thinking(text: str) -> str:
    """Return `text` without the block in which reasoning models think first."""
    return _THINKING.sub("", text, count=1).strip()


def is_text(text: str) -> bool:
    """Return whether `text` can be written to a file: JSON's escapes can also spell a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_object(text: str) -> dict[str, Any]:
    """Return the one JSON object in `text`; a code fence or words around it are dropped. Raises SupervisionError for none or several."""
    text = without_thinking(text)
    try:
        found = json.loads(text[text.find("{") : text.rfind("}") + 1], parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise SupervisionError(f"not one JSON object: {text[:100]!r}") from error
    if not isinstance(found, dict):  # unreachable after a brace, but json.loads guarantees no type
        raise SupervisionError(f"not a JSON object: {text[:100]!r}")
    return found


def fit(value: Any, schema: Mapping[str, Any], where: str = "answer") -> Any:
    """Return `value` if it fits `schema`, enum strings in the schema's own spelling ("High " becomes "high"); extra members are dropped.

    Understands type (object, array, string), properties (all are required), items, minItems, maxItems, enum and maxLength.
    Raises SupervisionError, which names the place that does not fit.
    """
    kind = schema["type"]
    if kind == "object" and isinstance(value, dict):
        if missing := [name for name in schema["properties"] if name not in value]:
            raise SupervisionError(f"{where} lacks {', '.join(missing)}")
        return {name: fit(value[name], part, f"{where}.{name}") for name, part in schema["properties"].items()}
    if kind == "array" and isinstance(value, list):
        least, most = schema.get("minItems", 0), schema.get("maxItems", len(value))
        if not least <= len(value) <= most:
            raise SupervisionError(f"{where} has {len(value)} entries, not {least if least == most else f'{least} to {most}'}")
        return [fit(entry, schema["items"], f"{where}[{i}]") for i, entry in enumerate(value)]
    if kind == "string" and isinstance(value, str):
        if "enum" in schema:
            value = value.strip().casefold()
            if value not in schema["enum"]:
                raise SupervisionError(f"{where} is {value[:40]!r}, not one of {', '.join(schema['enum'])}")
        if len(value) > schema.get("maxLength", len(value)):
            raise SupervisionError(f"{where} has {len(value)} characters, more than {schema['maxLength']}")
        if not is_text(value):
            raise SupervisionError(f"{where} holds half a character, which no file takes")
        return value
    raise SupervisionError(f"{where} is no {kind}")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
