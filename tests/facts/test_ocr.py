"""Real reading: a chart that the test draws, a table, single digits, and what happens when there is nothing to read or no engine."""

from __future__ import annotations

import builtins
import io
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from dyme.errors import ConfigError, SupervisionError
from dyme.facts.chart_pairs import ROLES, TICK, TITLE, Y_AXIS
from dyme.facts.ocr import OcrExtractor, _widened, _within
from dyme.facts.store import FactStore, gather
from dyme.tasks.charts.drawing import DrawnChart
from dyme.types import Fact, Sample

pytest.importorskip("rapidocr", reason="needs pip install dyme[ocr]")
NAMES, VALUES = ("Lisbon", "Oslo", "Vienna", "Prague"), (27, 9, 64, 41)
OTHERS = (12, 55, 30, 8)


@dataclass(frozen=True)
class Drawn:
    """An `ImageSource` of a picture in memory."""

    png: bytes
    key: str = "drawn"

    def load(self) -> Image.Image:
        return Image.open(io.BytesIO(self.png)).convert("RGB")


def png(picture: Image.Image) -> Drawn:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return Drawn(buffer.getvalue())


def bars(series: Mapping[str, Sequence[int]], *, lying: bool = False) -> Drawn:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), dpi=100)
    axes = figure.add_subplot()
    width = 0.8 / len(series)
    for k, (name, values) in enumerate(series.items()):
        places = [place + (k - (len(series) - 1) / 2) * width for place in range(len(values))]
        container = axes.barh(places, values, width, label=name) if lying else axes.bar(places, values, width, label=name)
        axes.bar_label(container, padding=2)
    ticks: Any = axes.set_yticks if lying else axes.set_xticks
    ticks(range(len(NAMES)), NAMES)
    axes.set_title("Visitors of the four museums")
    (axes.set_xlabel if lying else axes.set_ylabel)("Visitors in thousands")
    if len(series) > 1:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Drawn(buffer.getvalue())


def sample(image: Drawn | DrawnChart) -> Sample:
    return Sample(id="1", question="", answer="", images=(image,))


def pairs(facts: Sequence[Fact]) -> set[tuple[str, str]]:
    return {(fact.subject, fact.value) for fact in facts if fact.subject not in ROLES}


@pytest.fixture(scope="session")
def ocr() -> OcrExtractor:
    return OcrExtractor()


def test_upright_bars(ocr: OcrExtractor) -> None:
    facts = ocr.extract(sample(bars({"": VALUES})))
    assert pairs(facts) == {(name, str(value)) for name, value in zip(NAMES, VALUES, strict=True)}, "a single digit among them"
    roles = {fact.subject: fact.value for fact in facts}
    assert roles[TITLE] == "Visitors of the four museums"
    assert roles[Y_AXIS].replace(" ", "") == "Visitorsinthousands", "turned by 90 degrees"
    assert {"10", "20", "30"} <= {fact.value for fact in facts if fact.subject == TICK}


def test_lying_bars(ocr: OcrExtractor) -> None:
    assert pairs(ocr.extract(sample(bars({"": VALUES}, lying=True)))) == {(n, str(v)) for n, v in zip(NAMES, VALUES, strict=True)}


def test_two_series(ocr: OcrExtractor) -> None:
    found = pairs(ocr.extract(sample(bars({"Spring": VALUES, "Autumn": OTHERS}))))
    wanted = {(f"Spring {n}", str(v)) for n, v in zip(NAMES, VALUES, strict=True)}
    assert found == wanted | {(f"Autumn {n}", str(v)) for n, v in zip(NAMES, OTHERS, strict=True)}


def test_a_table(ocr: OcrExtractor) -> None:
    picture = Image.new("RGB", (460, 200), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(18)
    for row, cells in enumerate((("Day", "Cups", "Cakes"), ("Monday", "34", "120"), ("Friday", "91", "88"), ("Sunday", "15", "240"))):
        for column, cell in enumerate(cells):
            pen.text((20 + 160 * column, 12 + 45 * row), cell, fill="black", font=font)
    found = pairs(ocr.extract(sample(png(picture))))
    assert found == {
        ("Cups Monday", "34"), ("Cups Friday", "91"), ("Cups Sunday", "15"),
        ("Cakes Monday", "120"), ("Cakes Friday", "88"), ("Cakes Sunday", "240"),
    }  # fmt: skip


def slanted(angle: int, place: tuple[int, int]) -> Drawn:
    """A picture with one slanted text at `place` and a level one in its middle."""
    picture, font = Image.new("RGB", (500, 400), "white"), ImageFont.load_default(24)
    text = Image.new("RGBA", (160, 36), (0, 0, 0, 0))
    ImageDraw.Draw(text).text((2, 2), "Category", fill="black", font=font)
    turned = text.rotate(angle, expand=True)
    picture.paste(turned, place, turned)
    ImageDraw.Draw(picture).text((250, 200), "Total 55", fill="black", font=font)
    return png(picture)


@pytest.mark.parametrize("angle", [45, -45, 30, 60])
@pytest.mark.parametrize("place", [(-25, -25), (0, 0), (380, 290)])
def test_slanted_text_at_the_edge(ocr: OcrExtractor, angle: int, place: tuple[int, int]) -> None:
    picture = slanted(angle, place)
    for text in ocr.read(picture.load()):
        assert 0 <= text.left < text.right <= 500 and 0 <= text.top < text.bottom <= 400
    assert "Total 55" in {fact.value for fact in ocr.extract(sample(picture))}


@pytest.mark.parametrize("corners", [((-9, -9), (-2, -1)), ((-5, 10), (9, 24)), ((99, 79), (120, 90)), ((100, 80), (100, 80))])
def test_boxes_are_moved_into_the_picture(corners: tuple[tuple[int, int], tuple[int, int]]) -> None:
    (left, top), (right, bottom) = _within(np.array(corners, dtype=np.float32), np.zeros((80, 100, 3), np.uint8))
    assert 0 <= left <= 99 and 0 <= top <= 79 and left <= right <= 100 and top <= bottom <= 80


def test_nothing_to_read_is_an_error(ocr: OcrExtractor) -> None:
    with pytest.raises(SupervisionError, match="1: no legible text"):
        ocr.extract(sample(png(Image.new("RGB", (300, 200), "white"))))


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (2000, 3)])
def test_strips_are_made_broader_instead_of_enlarged_beyond_memory(ocr: OcrExtractor, size: tuple[int, int]) -> None:
    broader = _widened(np.zeros((size[1], size[0], 3), np.uint8))
    assert max(broader.shape[:2]) <= 4 * min(broader.shape[:2]) + 3
    assert max(broader.shape[:2]) == max(size)
    with pytest.raises(SupervisionError, match="no legible text"):
        ocr.extract(sample(png(Image.new("RGB", size, "white"))))


def test_an_engine_that_fails_is_a_supervision_error(ocr: OcrExtractor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ValueError("bad tensor")

    monkeypatch.setattr(ocr, "_engine", fail)
    with pytest.raises(SupervisionError, match=r"the OCR engine failed \(ValueError: bad tensor\)"):
        ocr.extract(sample(png(Image.new("RGB", (30, 30)))))


def test_gathered_once_then_from_the_store(ocr: OcrExtractor, tmp_path: Path) -> None:
    samples = [sample(bars({"": VALUES})), sample(png(Image.new("RGB", (90, 90), "white")))]
    blank = Drawn(samples[1].images[0].png, "blank")  # type: ignore[attr-defined]
    samples[1] = Sample(id="2", question="", answer="", images=(blank,))
    out, counts = gather(samples, "ocr", tmp_path, extractor=ocr, version=ocr.version)
    assert (counts.done, counts.failures) == (1, (("2", "2: no legible text in the image"),))
    assert ("Vienna", "64") in pairs(out[0].facts)
    assert FactStore(tmp_path, "ocr", ocr.version).get("drawn") == out[0].facts
    assert gather(samples, "ocr", tmp_path, extractor=ocr, version=ocr.version)[1].cached == 1


def test_without_the_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    importer = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError("No module named 'onnxruntime'")
        return importer(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"No module named 'onnxruntime'\); pip install 'dyme\[ocr\]'"):
        OcrExtractor()


def test_reading_imports_no_torch() -> None:
    code = "import sys; from dyme.facts.ocr import OcrExtractor; OcrExtractor(); print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "False"
