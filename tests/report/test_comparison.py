"""The page and the table of a comparison."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import EVIL, Tags, metric

from dyme.errors import DataError
from dyme.report.comparison import write_comparison, write_table


def comparison_rows() -> Iterator[dict[str, Any]]:
    for method, value in (("sft", 0.4), ("dyme", 0.6)):
        for traces in ("low", "high"):
            for seed in (0, 1):
                metrics = {"mean_length": metric(20), "think_accuracy": metric(value + seed / 10)}
                cell = {"method": method, "traces": traces, "seed": seed, "run": f"runs/{method}-{traces}-{seed}"}
                yield {**cell, "metrics": metrics, "curve": [[500, 0.1], [1000, value]]}


def compare(tmp_path: Path, data: Any) -> str:
    (tmp_path / "results.json").write_text(json.dumps(data))
    text = write_comparison(tmp_path / "results.json", tmp_path / "out.html").read_text()
    Tags(text)
    return text


def links(text: str) -> list[str]:
    """Addresses that lead out of the page."""
    return [a for a in Tags(text).addresses if not a.startswith(("#", "data:"))]


def test_comparison(tmp_path: Path) -> None:
    (tmp_path / "runs" / "dyme-low-0").mkdir(parents=True)
    (tmp_path / "runs" / "dyme-low-0" / "report.html").write_text("x")
    summary = [{"method": "dyme", "traces": "low", "metrics": {"think_accuracy": {**metric(0.65), "seeds": 2}}}]
    text = compare(
        tmp_path,
        {"command": "dyme study", "hardware": "2 cores", "versions": {"torch": "2"}, "rows": [*comparison_rows()], "summary": summary},
    )
    assert "65.0 %" in text and "62.0 – 68.0 %" in text and "dyme study" in text and "2 cores" in text
    assert "Accuracy of sampled completions, low traces" in text and "Think accuracy, 95 % intervals" in text
    assert links(text) == ["./runs/dyme-low-0/report.html"], "only pages that exist are linked"


def test_plots_name_settings_only_where_they_tell_methods_apart(tmp_path: Path) -> None:
    def summary(*methods: str) -> dict[str, Any]:
        return {"summary": [{"method": m, "traces": "low", "metrics": {"think_accuracy": metric(0.5)}} for m in methods]}

    alone = compare(tmp_path, summary("base", "grpo+reward.thinking_weight=0"))
    assert "grpo · low" in alone and "grpo+reward.thinking_weight=0" in alone, "the table keeps the whole name"
    both = compare(tmp_path, summary("dyme", "dyme+method.all_correct=x"))
    assert "dyme · low" in both and "dyme method.all_correct=x" in both


def test_the_table_has_a_line_per_method(tmp_path: Path) -> None:
    own = {"think_accuracy": {**metric(0.65), "seeds": 2}, "mean_length": metric(20)}
    summary = [
        {"method": "base", "traces": "any", "metrics": {}},
        {"method": "grpo+reward.thinking_weight=0", "traces": "low", "metrics": own},
    ]
    rates = {"base": [1e-3, None], "grpo+reward.thinking_weight=0": [3e-4, None]}
    data = {"command": "dyme compare x", "summary": summary, "learning_rates": rates, "validation": {"grpo-lr0.0003": 0.5}}
    (tmp_path / "results.json").write_text(json.dumps(data))
    lines = write_table(tmp_path / "results.json", tmp_path / "table.md").read_text().splitlines()
    assert lines[0] == "| method | traces | seeds | accuracy, thinking (%) | length (tokens) |"
    assert lines[2] == "| base | any | 1 |  |  |"
    assert lines[3] == "| grpo + reward.thinking_weight=0 | low | 2 | 65.0 [62.0, 68.0] | 20.0 [20.0, 20.0] |"
    assert "    dyme compare x" in lines and "- grpo-lr0.0003: 0.500" in lines


def test_comparison_without_a_summary_averages_seeds(tmp_path: Path) -> None:
    text = compare(tmp_path, {"rows": [*comparison_rows()]})
    assert "65.0 %" in text and "45.0 %" in text


@pytest.mark.parametrize("data", [{"rows": [{"method": "dyme"}]}, {"rows": [{"metrics": {"x": 3}, "curve": None}]}, {"summary": [{}]}])
def test_comparison_tolerates_missing_keys(tmp_path: Path, data: Any) -> None:
    assert "Methods compared" in compare(tmp_path, data)


def test_comparison_escapes(tmp_path: Path) -> None:
    row = {"method": EVIL, "traces": EVIL, "metrics": {EVIL: {"value": 0.5}}, "curve": [[1, 0.5]], "run": "javascript:alert(1)"}
    text = compare(tmp_path, {"command": EVIL, "hardware": {EVIL: EVIL}, "versions": {EVIL: EVIL}, "rows": [row]})
    assert EVIL not in text and "<img src=x" not in text and "img" not in Tags(text).names and links(text) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"rows": []}'])
def test_what_is_no_comparison_is_a_data_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(DataError, match="results.json"):
        write_comparison(tmp_path / "results.json", tmp_path / "out.html")
