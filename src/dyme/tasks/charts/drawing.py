"""Draws the embedded task's bar charts with Pillow: printed values, word labels, random positions, colours and widths."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

SIZE = 96
"""Edge of the square picture in pixels."""
_BASELINE, _LABEL_TOP, _UNIT = 81, 83, 0.65
_GLYPH_WIDTH, _GLYPH_HEIGHT, _GLYPH_TOP = 6, 11, 2
_BACKGROUNDS = ((255, 255, 255), (250, 248, 240), (242, 245, 250))


@dataclass(frozen=True, slots=True)
class DrawnChart:
    """An `ImageSource` that draws `table` ((name, value), ...) from a seed each time it is loaded."""

    table: tuple[tuple[str, int], ...]
    seed: int

    @property
    def key(self) -> str:
        """Return the identity of the content."""
        return f"chart:{self.seed}:" + ",".join(f"{name}={value}" for name, value in self.table)

    def load(self) -> Image.Image:
        """Return the chart, RGB, SIZE x SIZE."""
        return draw(self.table, self.seed)


@lru_cache(maxsize=128)
def _glyph(character: str) -> Image.Image:
    mask = Image.new("L", (_GLYPH_WIDTH, _GLYPH_HEIGHT), 0)
    ImageDraw.Draw(mask).text((0, -_GLYPH_TOP), character, font=ImageFont.load_default_imagefont(), fill=255)
    return mask


def _write(picture: Image.Image, text: str, centre: float, top: int) -> None:
    left = max(0, min(SIZE - _GLYPH_WIDTH * len(text), round(centre - _GLYPH_WIDTH * len(text) / 2)))
    for k, character in enumerate(text):
        picture.paste((0, 0, 0), (left + _GLYPH_WIDTH * k, top), _glyph(character))


def draw(table: tuple[tuple[str, int], ...], seed: int) -> Image.Image:
    """Draw values of 10..99 as bars, the value above and the name below each, and return the picture.

    Colours, widths, positions, background and grid come from `seed` and carry no information about names or values.
    """
    rng = random.Random(seed)
    picture = Image.new("RGB", (SIZE, SIZE), rng.choice(_BACKGROUNDS))
    pen = ImageDraw.Draw(picture)
    if rng.random() < 0.5:
        for level in range(20, 100, 20):
            y = _BASELINE - round(level * _UNIT)
            pen.line((0, y, SIZE - 1, y), fill=(225, 225, 225))
    slot = SIZE / len(table)
    width = rng.uniform(0.4, 0.75) * slot
    one_colour = _colour(rng) if rng.random() < 0.3 else None
    for k, (name, value) in enumerate(table):
        slack = slot / 2 - _GLYPH_WIDTH * len(name) / 2
        centre = slot * (k + 0.5) + rng.uniform(-slack, slack)
        top = _BASELINE - round(value * _UNIT)
        pen.rectangle((centre - width / 2, top, centre + width / 2, _BASELINE - 1), fill=one_colour or _colour(rng))
        _write(picture, str(value), centre, top - _GLYPH_HEIGHT)
        _write(picture, name, centre, _LABEL_TOP)
    pen.line((0, _BASELINE, SIZE - 1, _BASELINE), fill=(0, 0, 0))
    return picture


def _colour(rng: random.Random) -> tuple[int, int, int]:
    red, green, blue = (rng.randint(30, 220) for _ in range(3))
    return red, green, blue
