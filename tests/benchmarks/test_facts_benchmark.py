"""benchmarks/facts.py counts what its docstring says, on a folder of three rows and an extractor that knows what to say."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dyme.errors import SupervisionError
from dyme.types import Fact, Sample

FOLDER = Path(__file__).parents[2] / "benchmarks"
SAID = {"red": (Fact("rye", "$7.5 million"), Fact("text", "North and South")), "blue": (Fact("text", "31"),)}


class Fake:
    """Stands in for the OCR engine; it cannot read the third picture."""

    version = "fake"

    def __init__(self, *, threads: int) -> None:
        pass

    def extract(self, sample: Sample) -> tuple[Fact, ...]:
        name = sample.images[0].path.stem  # type: ignore[attr-defined]
        if name not in SAID:
            raise SupervisionError("no legible text")
        return SAID[name]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("facts")
    monkeypatch.setattr(module, "OcrExtractor", Fake)
    yield module
    for name in ("facts", "measure", "shapes"):
        sys.modules.pop(name, None)


def test_says(benchmark: Any) -> None:
    assert benchmark.says("$7.5 million", "7.5")
    assert benchmark.says("1,200", "1200") and benchmark.says("25%", "25")
    assert not benchmark.says("In 2015 and 2016", "2015"), "a number is the whole text or none of it"
    assert benchmark.says("North and South", "south")
    assert not benchmark.says("Norway", "no") and not benchmark.says("", "5")


def test_shares_by_subset(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "images").mkdir()
    rows = []
    for colour, answer, subset in (
        ("red", "7.5", "human"),
        ("red", "south", "human"),
        ("blue", "31", "augmented"),
        ("green", "4", "augmented"),
    ):
        Image.new("RGB", (8, 8), colour).save(tmp_path / "images" / f"{colour}.png")
        rows.append({"image": f"images/{colour}.png", "question": "how much?", "answer": answer, "subset": subset})
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr(benchmark.random.Random, "sample", lambda self, items, n: items[:n])
    monkeypatch.setattr(sys, "argv", ["facts.py", "--data", str(tmp_path), "--json", str(tmp_path / "out.json"), "--show"])
    benchmark.main()
    found = json.loads((tmp_path / "out.json").read_text())
    assert (found["verbatim_all"], found["verbatim_human"], found["verbatim_augmented"]) == (0.75, 1.0, 0.5)
    assert (found["numeric_verbatim_all_n"], found["numeric_paired_all"], found["numeric_paired_human"]) == (3, pytest.approx(1 / 3), 1.0)
    assert found["verbatim_all_low"] < 0.75 < found["verbatim_all_high"]
    assert (found["failed"], found["facts_per_image"]) == (1, pytest.approx(5 / 4))
