"""Visual facts by OCR (paper, section 3.3): a local OCR engine in place of the paper's DePlot, for charts, tables and documents.

rapidocr (Apache-2.0) runs PP-OCR's detection and recognition networks on onnxruntime, without torch; the networks lie in its wheel,
so nothing is downloaded. Boxes taller than wide are read again, since rapidocr turns them all by 90 degrees, a turned axis title and
the single digit above a bar alike. `chart_pairs` makes the facts.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cached_property
from importlib import metadata
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from dyme.errors import ConfigError, SupervisionError
from dyme.facts.chart_pairs import chart_facts
from dyme.facts.chart_text import Colour, Text, cleaned
from dyme.types import Fact, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Pixels = NDArray[np.uint8]

REVISION = 3
"""Version, increased whenever the same picture can give other facts: stored ones are then extracted anew."""
MIN_SCORE = 0.5
"""Confidence below which a reading is dropped."""
DETECT_SCORE = 0.3
"""Confidence below which a box is not read. rapidocr's 0.5 misses some single digits; boxes without text are dropped after reading."""
DETECT_EDGE = 736
"""Short edge, in pixels, to which smaller pictures are enlarged before text is detected."""
LONGEST = 4
"""Ratio of the edges of a picture beyond which it is made broader before it is read."""
_INK = 40
"""A pixel is ink if one of its channels differs from the paper's by more."""
_COLOURED = 60
"""Letters are coloured if their channels differ by more."""
_PALE = 90
"""A sign whose ink differs from its paper by less is not taken for a number."""
_LINE = 48
"""Height in pixels at which one line is recognised."""


class OcrExtractor:
    """An `Extractor` of printed text. Safe to call from several threads; they take turns."""

    def __init__(self, *, threads: int = 1) -> None:
        """Load the networks into memory, to run on `threads` cores. Raises ConfigError if rapidocr or onnxruntime is not installed."""
        try:
            import onnxruntime  # noqa: F401  # rapidocr itself would report its absence only at the first picture
            from rapidocr import RapidOCR
        except ImportError as error:
            raise ConfigError(f"reading facts from pictures needs rapidocr and onnxruntime ({error}); pip install 'dyme[ocr]'") from error
        engine = "EngineConfig.onnxruntime"
        self._engine: Any = RapidOCR(
            params={
                "Global.log_level": "error",
                "Global.text_score": 0.0,  # filtered here, after the second reading
                "Det.limit_side_len": DETECT_EDGE,
                "Det.box_thresh": DETECT_SCORE,
                f"{engine}.intra_op_num_threads": threads,
                f"{engine}.inter_op_num_threads": 1,
            }
        )
        self._lock = threading.Lock()

    @cached_property
    def version(self) -> str:
        """Return the version of engine and settings, on which the facts of a picture depend besides its pixels."""
        return f"rapidocr-{metadata.version('rapidocr')}/{DETECT_EDGE}/{DETECT_SCORE}/{MIN_SCORE}/{REVISION}"

    def extract(self, sample: Sample) -> tuple[Fact, ...]:
        """Return the facts of the sample's images, in order; its question and answer are not used.

        Raises SupervisionError if an image holds no legible text or the engine fails, DataError if it cannot be loaded.
        """
        found: list[Fact] = []
        for image in sample.images:
            texts = self.read(image.load())
            if not texts:
                raise SupervisionError(f"{sample.id}: no legible text in the image")
            found += chart_facts(texts)
        return tuple(dict.fromkeys(found))

    def read(self, picture: Image.Image) -> list[Text]:
        """Return the texts of an RGB picture with their boxes and colours, from top to bottom. Raises SupervisionError on failure."""
        rgb = _widened(np.asarray(picture.convert("RGB")))
        try:
            with self._lock:
                lines = self._lines(rgb)
        except Exception as error:  # no error of the engine on one picture may end the preparation of the others
            raise SupervisionError(f"the OCR engine failed ({type(error).__name__}: {error})") from error
        size = 3 * median(min(line.width, line.height) for line in lines) if lines else 0.0
        letters = [line for line in lines if len(line.text) > 2 or min(line.width, line.height) < size]  # a whole bar can pass for a "1"
        return [_coloured(line, rgb) for line in cleaned(letters) if not _is_sign(line, rgb)]  # each of several numbers has its own mark

    def _lines(self, rgb: Pixels) -> list[Text]:
        bgr = np.ascontiguousarray(rgb[:, :, ::-1])
        result = self._engine(bgr, use_det=True, use_cls=False, use_rec=True)
        if result.boxes is None:
            return []
        lines: list[Text] = []
        for box, text, score in zip(result.boxes, result.txts, result.scores, strict=True):
            (left, top), (right, bottom) = _within(_place(box), bgr)
            if bottom - top >= 1.4 * (right - left):
                text, score = self._again(bgr[int(top) : int(bottom) + 1, int(left) : int(right) + 1], (text, score))
            if score >= MIN_SCORE and text.strip():
                lines.append(Text(text=text.strip(), left=float(left), top=float(top), right=float(right), bottom=float(bottom)))
        return lines

    def _again(self, crop: Pixels, first: tuple[str, float]) -> tuple[str, float]:
        """Return the surest reading of a tall box and its confidence: upright, turned either way, or the first one."""
        readings = [first]
        for turns in (0, 1, -1):
            result = self._engine(_line(np.rot90(crop, turns)), use_det=False, use_cls=False, use_rec=True)
            if result.txts:
                readings.append((result.txts[0], float(result.scores[0])))
        return max(readings, key=lambda reading: reading[1] if reading[0].strip() else 0.0)


def _is_sign(line: Text, rgb: Pixels) -> bool:
    """Return whether a reading of one or two letters is a pale sign in the margin, as a toolbar's quotation mark that is read as 99."""
    width = rgb.shape[1]
    if len(line.text) > 2 or 0.1 * width < line.x < 0.9 * width:
        return False
    inside = rgb[int(line.top) : int(line.bottom) + 1, int(line.left) : int(line.right) + 1]
    return int(np.abs(inside.astype(np.int16) - np.array(_commonest(inside), dtype=np.int16)).max()) < _PALE


def _widened(rgb: Pixels) -> Pixels:
    """Return a strip made broader by repeating its last row or column; otherwise, enlarged to DETECT_EDGE, it could take all memory."""
    height, width = rgb.shape[:2]
    down, across = max(0, width // LONGEST - height), max(0, height // LONGEST - width)
    return np.pad(rgb, ((0, down), (0, across), (0, 0)), mode="edge")


def _place(box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the upper left and lower right corner of a box; a slanted text is placed at its upper end, near the mark that it labels."""
    start, end = (box[0] + box[3]) / 2, (box[1] + box[2]) / 2
    along, across = np.abs(end - start), float(np.linalg.norm(box[3] - box[0]))
    if not 0.35 < along[1] / max(float(along[0]), 1.0) < 2.8:
        return np.stack([box.min(axis=0), box.max(axis=0)])
    upper = start if start[1] < end[1] else end
    return np.stack([upper - across / 2, upper + across / 2])


def _within(corners: NDArray[np.float32], picture: Pixels) -> NDArray[np.float32]:
    """Return corners moved into the picture, at least a pixel apart; the corners of a slanted text can lie beyond its edge."""
    height, width = picture.shape[:2]
    upper = np.clip(corners[0], 0, (width - 1, height - 1))
    return np.stack([upper, np.clip(corners[1], upper, (width, height))])


def _line(crop: Pixels) -> Pixels:
    """Return `crop` scaled to the height of a line, on its own paper, at least as wide as high."""
    height, width = crop.shape[:2]
    scaled = np.asarray(Image.fromarray(np.ascontiguousarray(crop)).resize((max(1, round(width * _LINE / height)), _LINE)))
    missing = max(0, _LINE - scaled.shape[1])
    return np.pad(scaled, ((0, 0), (missing // 2, missing - missing // 2), (0, 0)), mode="edge")


def _coloured(line: Text, rgb: Pixels) -> Text:
    """Return `line` with the colours in it and around it."""
    left, top, right, bottom = int(line.left), int(line.top), int(line.right) + 1, int(line.bottom) + 1
    edge = max(4, round(min(line.height, line.width)))
    inside = rgb[top:bottom, left:right]
    paper = _commonest(inside)
    letters = _ink(inside, paper)
    coloured = letters is not None and max(letters) - min(letters) > _COLOURED
    return replace(
        line,
        colour=paper if min(paper) <= 200 else letters if coloured else None,
        below=_drawn(rgb[bottom : bottom + edge, left:right], paper),
        above=_drawn(rgb[max(0, top - edge) : top, left:right], paper),
        before=_drawn(rgb[top:bottom, max(0, left - 2 * edge) : left + edge], paper),
    )


def _is_ink(region: Pixels, paper: Colour, limit: int = _INK) -> NDArray[np.bool_]:
    difference = np.abs(region.reshape(-1, 3).astype(np.int16) - np.array(paper, dtype=np.int16))
    return np.asarray(difference.max(axis=1) > limit)


def _ink(region: Pixels, paper: Colour) -> Colour | None:
    """Return the commonest colour of a region that is not the paper's, if any."""
    ink = region.reshape(-1, 3)[_is_ink(region, paper)]
    return _commonest(ink) if len(ink) else None


def _drawn(region: Pixels, paper: Colour) -> Colour | None:
    """Return the colour of a drawn (not written) mark in a region: a block of at least a third of its shorter edge has that colour."""
    colour = _ink(region, paper)
    block = min(region.shape[:2]) ** 2 / 9
    return colour if colour and np.count_nonzero(~_is_ink(region, colour, 16)) >= block else None


def _commonest(region: Pixels) -> Colour:
    """Return the mean of the pixels in the fullest of 16 x 16 x 16 cells of the colour cube."""
    pixels = region.reshape(-1, 3)
    cells = (pixels >> 4).astype(np.int32) @ np.array([256, 16, 1], dtype=np.int32)
    fullest = pixels[cells == np.bincount(cells).argmax()]
    red, green, blue = (int(round(float(channel))) for channel in fullest.mean(axis=0))
    return red, green, blue
