"""The same report on a study as Markdown: sentences, a table of arms and one of differences per block, trends, regimes, tuning."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dyme.report.study import METRICS, ROLES, facts, p_value, percent, points, settings, share

Row = Mapping[str, Any]


def write_table(study: Row, out: Path) -> Path:
    """Write a study's figures as Markdown to `out` and return that path."""
    out.write_text("\n".join(_lines(study)).rstrip() + "\n", encoding="utf-8")
    return out


def _lines(study: Row) -> Iterator[str]:
    yield from (f"# {study.get('title') or 'Methods compared'}", "", "; ".join(f"{name} {value}" for name, value in facts(study)) + ".", "")
    if study["missing"]:
        yield from ("## Not there yet", "", *(f"- {line}" for line in study["missing"]), "")
    if study["sentences"]:
        yield from (
            "## What this means",
            "",
            *(f"- {one['text']}{' (undecided)' if one['holds'] is None else ''}" for one in study["sentences"]),
            "",
        )
    for block in study["blocks"]:
        yield from _block(block)
    if study["predictions"]:
        yield from ("## Predicted trends", "")
        rows = [
            (p["name"], " − ".join(p["labels"]), ", ".join(p["along"]) or p["on"], p["expect"],
             points(p["slope"] and {**p["slope"], "mean": p["slope"]["value"]}),
             "not enough cells" if p["holds"] is None else "as expected" if p["holds"] else "not shown")
            for p in study["predictions"]
        ]  # fmt: skip
        yield from _table(("prediction", "gain", "along", "expected", "slope, points a unit", "found"), rows)
    if study["regimes"]:
        yield from ("## Map of regimes", "")
        rows = [
            (r["name"], arm["label"], percent(arm["accuracy"]), points(arm["over_base"]), points(arm["over_rival"]), arm["rival"] or "–")
            for r in study["regimes"] for arm in r["arms"]
        ]  # fmt: skip
        yield from _table(("condition", "arm", "accuracy (%)", "over the base", "over the best rival", "rival"), rows)
    if study["tuning"]:
        yield from ("## Tuning", "")
        rows = [
            (t["label"], settings(row["settings"]), row["round"], row["budget"], share(row["mean"]), "chosen" if row["won"] else "")
            for t in study["tuning"] for row in t["trials"]
        ]  # fmt: skip
        yield from _table(("arm", "settings", "round", "budget", "validation accuracy (%)", "chosen"), rows)
    if study.get("command"):
        yield from (f"    {study['command']}", "")


def _block(block: Row) -> Iterator[str]:
    yield from (f"## {block['name']}", "")
    if block["question"]:
        yield from (block["question"], "")
    if not block["arms"]:
        yield from ("No cell of this block is done.", "")
        return
    heads = ("arm", "condition", "seeds", *(f"{label} (%)" for label in METRICS.values()), "interquartile mean", "memorized (%)", "minutes")
    rows: list[Sequence[Any]] = [
        ("base", c["name"], "–", *(percent(c["base"]["metrics"].get(name)) for name in METRICS), "–", "–", "–")
        for c in block["conditions"] if c["base"]
    ]  # fmt: skip
    rows += [
        (arm["label"], arm["condition"], len(arm["values"]), *(percent(arm["metrics"].get(name)) for name in METRICS),
         share(arm["interquartile"]), share(arm["shares"]["memorize"]), f"{(arm['cost']['seconds'] or 0) / 60:.1f}")
        for arm in block["arms"]
    ]  # fmt: skip
    yield from _table(heads, rows)
    heads = (
        "difference, points",
        "condition",
        "role",
        "seeds",
        "mean",
        "p",
        "p, Holm",
        "sign flip",
        "p, equal",
        "equal completions",
        "equal tokens",
    )
    rows = []
    for pair in block["pairs"]:
        tests = [p_value(pair.get(name)) if pair["tested"] else "–" for name in ("p", "p_holm", "p_sign_flip", "p_equal")]
        costs = [points(pair["at_equal"].get(name)) for name in ("completions", "tokens")]
        rows.append((" − ".join(pair["labels"]), pair["condition"], ROLES[pair["role"]], len(pair["seeds"]), points(pair), *tests, *costs))
    if rows:
        yield from _table(heads, rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Yield a Markdown table, columns without any text left out."""
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    kept = [k for k in range(len(heads)) if any(row[k] not in ("", "–") for row in cells)]
    yield "| " + " | ".join(heads[k] for k in kept) + " |"
    yield "|---" * len(kept) + "|"
    for row in cells:
        yield "| " + " | ".join(row[k] for k in kept) + " |"
    yield ""
