"""Templates, and the functions that put text, numbers and pictures into a page. Jinja2 escapes everything else."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

_HERE = Path(__file__).parent
_PLAIN = ("length", "tokens", "words", "seconds", "steps", "prompts", "reward")
_SMALL_PNG = 24_000
MODE_COLOURS = {"memorize": "c2", "explore": "c1", "mixed": "c4", "skip": "c5"}
"""The colour of each mode, by its variable in style.css."""
OTHER = 3
"""The rank of a metric that is neither an accuracy nor pass@k."""


def render(template: str, out: Path, **values: Any) -> Path:
    """Fill a template of this folder, write it to `out` and return that path; a missing value is an error."""
    environment = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals.update(figure=figure, interval=interval, style=_own("style.css"))
    text = environment.get_template(template).render(**values)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8", errors="replace")  # a lone surrogate becomes "?"
    return out


def rank(name: str) -> int:
    """Return the rank of a metric in lists: the accuracies first, then pass@k, then the others in their order."""
    return 0 if name == "think_accuracy" else 1 if name == "direct_accuracy" else 2 if name.startswith("pass_at_") else OTHER


def words(name: str) -> str:
    """Return a metric's name as shown."""
    return name.replace("_", " ").replace("/", ": ")


def measured(metric: Any) -> dict[str, Any]:
    """Return a metric with all its keys; a bare number becomes a metric without an interval, and one of no observations has no value."""
    found = {"value": None, "n": None, **(metric if isinstance(metric, Mapping) else {"value": metric})}
    return found | ({} if found["n"] != 0 else {"value": None, "low": None, "high": None})


def questions(row: Mapping[str, Any]) -> int | None:
    """Return the number of questions of an evaluation, that which most of its figures count; None if none is recorded."""
    sizes = Counter(n for metric in row.get("metrics", {}).values() if (n := measured(metric)["n"]))
    return sizes.most_common(1)[0][0] if sizes else None


def script(name: str) -> tuple[Markup, str]:
    """Return a script of this folder, and the source expression of a content security policy that allows only this script."""
    text = _own(name)
    return text, "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def script_json(value: Any) -> Markup:
    """Return JSON for a script element: without <, > and &, so that it holds no tag, and without U+2028 and U+2029, old line ends."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.translate({ord(c): f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"}))


def data_uri(file: Path) -> str:
    """Return a stored picture as a data URI, as JPEG if its PNG would be large."""
    content = file.read_bytes()
    if len(content) <= _SMALL_PNG:
        return "data:image/png;base64," + base64.b64encode(content).decode()
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(content)) as picture:
        picture.convert("RGB").save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def figure(name: str, value: Any) -> str:
    """Return a metric's value as shown: a share in percent, another value as a number, a missing value as a dash."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "–" if value is None or isinstance(value, float) else str(value)
    if 0 <= value <= 1 and not name.lower().endswith(_PLAIN):
        return f"{100 * value:.1f} %"
    return f"{value:,.1f}" if abs(value) >= 1 else f"{value:.3g}"


def interval(name: str, metric: Mapping[str, Any]) -> str:
    """Return a metric's 95 % interval as shown, "" without one."""
    low, high = metric.get("low"), metric.get("high")
    return "" if low is None or high is None else f"{figure(name, low)} – {figure(name, high)}".replace(" % –", " –")


def _own(name: str) -> Markup:
    return Markup((_HERE / name).read_text(encoding="utf-8"))
