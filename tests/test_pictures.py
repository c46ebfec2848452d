"""Every kind of file, and of picture in memory, ends as upright RGB or as one line that names the row."""

from __future__ import annotations

import io
import os
import pickle
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from PIL import Image

from dyme.errors import DataError
from dyme.pictures import MAX_PIXELS, ImageFile, Picture
from dyme.types import Sample

ROW = "train.jsonl:12 (id 7)"
Colour = tuple[int, int, int]
RED, GREEN, BLUE, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def claimed_png(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header, checksum and all, claims a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def noise(size: tuple[int, int] = (64, 48)) -> Image.Image:
    return Image.effect_noise(size, 80).convert("RGB")


def loaded(path: Path) -> Image.Image:
    image = ImageFile(path, ROW)
    image.check()
    picture = image.load()
    assert picture.mode == "RGB"
    assert type(picture) is Image.Image, "the picture must not hold on to its file"
    return picture


def near(picture: Image.Image, position: tuple[int, int], colour: Colour) -> bool:
    """Whether a pixel has a colour, but for what lossy formats change."""
    pixel = picture.getpixel(position)
    assert isinstance(pixel, tuple)
    return all(abs(a - b) <= 12 for a, b in zip(pixel, colour, strict=True))


def message(path: Path) -> str:
    """The one line that check raises; load raises the same."""
    with pytest.raises(DataError) as caught:
        ImageFile(path, ROW).check()
    with pytest.raises(DataError) as again:
        ImageFile(path, ROW).load()
    text = str(caught.value)
    assert text == str(again.value)
    assert text.startswith(f"{ROW}: image ")
    assert "\n" not in text
    assert ";" in text, "says what to do"
    return text


def test_rgb_is_unchanged(tmp_path: Path) -> None:
    picture = noise()
    picture.save(tmp_path / "a.png")
    assert loaded(tmp_path / "a.png").tobytes() == picture.tobytes()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tif", "ppm", "jp2"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (20, 10), (200, 40, 90)).save(path)
    picture = loaded(path)
    assert picture.size == (20, 10)
    assert near(picture, (10, 5), (200, 40, 90))


def test_extension_does_not_matter(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), RED).save(tmp_path / "a.jpg", format="PNG")
    assert loaded(tmp_path / "a.jpg").getpixel((0, 0)) == RED


def test_palette_and_its_transparency(tmp_path: Path) -> None:
    picture = Image.new("P", (3, 1))
    picture.putpalette([*RED, *GREEN, *BLUE])
    for x in range(3):
        picture.putpixel((x, 0), x)
    picture.save(tmp_path / "plain.png")
    picture.save(tmp_path / "one.png", transparency=1)
    picture.save(tmp_path / "bytes.png", transparency=bytes([255, 0, 128]))
    picture.save(tmp_path / "one.gif", transparency=1)
    assert [loaded(tmp_path / "plain.png").getpixel((x, 0)) for x in range(3)] == [RED, GREEN, BLUE]
    assert [loaded(tmp_path / "one.png").getpixel((x, 0)) for x in range(3)] == [RED, WHITE, BLUE]
    assert [loaded(tmp_path / "one.gif").getpixel((x, 0)) for x in range(3)] == [RED, WHITE, BLUE]
    assert [loaded(tmp_path / "bytes.png").getpixel((x, 0)) for x in range(3)] == [RED, WHITE, (127, 127, 255)]


def test_alpha_is_composited_on_white(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (3, 1), (*BLACK, 0))
    picture.putpixel((1, 0), (*RED, 255))
    picture.putpixel((2, 0), (*BLACK, 128))
    picture.save(tmp_path / "rgba.png")
    assert [loaded(tmp_path / "rgba.png").getpixel((x, 0)) for x in range(3)] == [WHITE, RED, (127, 127, 127)]
    grey = Image.new("LA", (2, 1), (0, 0))
    grey.putpixel((1, 0), (90, 255))
    grey.save(tmp_path / "la.png")
    assert [loaded(tmp_path / "la.png").getpixel((x, 0)) for x in range(2)] == [WHITE, (90, 90, 90)]


@pytest.mark.parametrize(("mode", "clear", "solid"), [("RGB", BLACK, RED), ("L", 0, 90), ("1", 0, 1)])
def test_transparent_colour_without_alpha(tmp_path: Path, mode: str, clear: Colour | int, solid: Colour | int) -> None:
    picture = Image.new(mode, (2, 1), clear)
    picture.putpixel((1, 0), solid)
    picture.save(tmp_path / "a.png", transparency=clear)
    expected = {"RGB": RED, "L": (90, 90, 90), "1": WHITE}[mode]
    assert [loaded(tmp_path / "a.png").getpixel((x, 0)) for x in range(2)] == [WHITE, expected]


def test_one_bit(tmp_path: Path) -> None:
    picture = Image.new("1", (2, 1), 0)
    picture.putpixel((1, 0), 1)
    picture.save(tmp_path / "a.png")
    assert [loaded(tmp_path / "a.png").getpixel((x, 0)) for x in range(2)] == [BLACK, WHITE]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bit_grey_is_scaled(tmp_path: Path, suffix: str) -> None:
    values, expected = (0, 128, 129, 257, 2_570, 32_768, 65_406, 65_407, 65_535), (0, 0, 1, 1, 10, 128, 254, 255, 255)
    picture = Image.new("I;16", (len(values), 1))
    for x, value in enumerate(values):
        picture.putpixel((x, 0), value)
    (picture.convert("I") if suffix == "pgm" else picture).save(tmp_path / f"a.{suffix}")
    out = loaded(tmp_path / f"a.{suffix}")
    assert [out.getpixel((x, 0)) for x in range(len(values))] == [(v, v, v) for v in expected]


@pytest.mark.parametrize(("mode", "value"), [("I", 70_000), ("I", -1), ("F", 0.5)])
def test_wider_grey_is_refused(tmp_path: Path, mode: str, value: float) -> None:
    Image.new(mode, (4, 4), value).save(tmp_path / "a.tif")
    assert "more than 16 bits" in message(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk(tmp_path: Path, suffix: str) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / f"a.{suffix}")
    assert near(loaded(tmp_path / f"a.{suffix}"), (8, 8), RED)


TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How a camera stores an upright picture under each EXIF orientation."""


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_exif_rotation(tmp_path: Path, orientation: int, suffix: str) -> None:
    corners = {(8, 8): RED, (40, 8): GREEN, (8, 24): BLUE, (40, 24): BLACK}
    upright = Image.new("RGB", (48, 32))
    for (x, y), colour in corners.items():
        upright.paste(colour, (0 if x == 8 else 32, y - 8, x + 8, y + 8))
    turn = TURNS[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    (upright if turn is None else upright.transpose(turn)).save(path, exif=exif)
    with Image.open(path) as raw:
        assert raw.getexif().get(0x0112) == orientation
    out = loaded(path)
    assert out.size == (48, 32)
    for position, colour in corners.items():
        assert near(out, position, colour), (position, colour)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_animation_gives_its_first_frame(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, GREEN, BLUE)]
    path = tmp_path / f"a.{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    with Image.open(path) as raw:
        assert getattr(raw, "n_frames", 1) == 3
    assert near(loaded(path), (4, 4), RED)


def test_missing(tmp_path: Path) -> None:
    assert "does not exist" in message(tmp_path / "no.png")
    with pytest.raises(DataError, match="does not exist"):
        _ = ImageFile(tmp_path / "no.png", ROW).key


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in message(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    assert "is not a file" in message(tmp_path / "a.png")


def test_zero_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    assert "is empty (0 bytes)" in message(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a\0b.png", "\ud800.png", "n" * 5_000, "a.png/b.png"])
def test_impossible_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.png").write_bytes(claimed_png(5, 5))
    text = message(tmp_path / name)
    assert "cannot be read" in text
    assert "\0" not in text
    text.encode()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_forbidden(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    (tmp_path / "a.png").chmod(0)
    assert "cannot be read" in message(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tif", "ppm"])
@pytest.mark.parametrize("share", [0.3, 0.7])
def test_truncated(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    noise().save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    text = message(path)
    assert "cut off or damaged" in text or "not a picture" in text


def test_truncated_png_and_jpeg_are_called_so(tmp_path: Path) -> None:
    for suffix in ("png", "jpg"):
        path = tmp_path / f"a.{suffix}"
        noise().save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert "cut off or damaged" in message(path)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"


@pytest.mark.parametrize("content", [b"hello", b"<html>404</html>", b"\x89PNG\r\n\x1a\n", POSTSCRIPT, b"\0" * 500, claimed_png(0, 5)])
def test_not_a_picture(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    assert "is not a picture that can be read" in message(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(60_000, 60_000), (10_000, 10_000), (10_000, MAX_PIXELS // 10_000 + 1)])
def test_bomb_is_refused_by_its_header(tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bomb.png").write_bytes(claimed_png(*size))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("decoded"))
    assert "is too large" in message(tmp_path / "bomb.png")


@pytest.mark.filterwarnings("error::PIL.Image.DecompressionBombWarning")
def test_bomb_warning_as_error(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(claimed_png(10_000, 10_000))
    assert "is too large" in message(tmp_path / "bomb.png")


def test_limit_holds_where_pillow_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "bomb.png").write_bytes(claimed_png(60_000, 60_000))
    assert "60000 x 60000 pixels" in message(tmp_path / "bomb.png")


def test_bomb_in_a_text_chunk(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000)))
    (tmp_path / "a.png").write_bytes(content[:33] + bomb + content[33:])
    message(tmp_path / "a.png")


def test_global_state_is_left_alone(tmp_path: Path) -> None:
    before = (Image.MAX_IMAGE_PIXELS, list(warnings.filters))
    (tmp_path / "bomb.png").write_bytes(claimed_png(60_000, 60_000))
    message(tmp_path / "bomb.png")
    assert (Image.MAX_IMAGE_PIXELS, list(warnings.filters)) == before


def test_key_is_the_content(tmp_path: Path) -> None:
    noise().save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes())
    Image.new("RGB", (4, 4), RED).save(tmp_path / "c.png")
    a, b, c = (ImageFile(tmp_path / f"{name}.png") for name in "abc")
    assert a.key == b.key != c.key
    assert len(a.key) == 64


def test_key_follows_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    first = ImageFile(path).key
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert ImageFile(path).key == first, "same path, time and size: not read again"
    os.utime(path, ns=(2, 2))
    assert ImageFile(path).key != first


def test_equal_whichever_row_names_it(tmp_path: Path) -> None:
    assert len({ImageFile(tmp_path / "a.png", "x:1"), ImageFile(tmp_path / "a.png", "x:2"), ImageFile(tmp_path / "b.png")}) == 2


def test_message_without_a_row(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="^image '"):
        ImageFile(tmp_path / "no.png").load()


def encoded(picture: Image.Image, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, form)
    return file.getvalue()


def test_a_picture_in_memory_keeps_its_content_whatever_happens_to_the_original() -> None:
    original = noise()
    pixels = original.tobytes()
    kept = Picture(original)
    key = kept.key
    original.paste(RED, (0, 0, 64, 48))
    assert (kept.load().tobytes(), kept.key) == (pixels, key)
    kept.load().paste(RED, (0, 0, 64, 48))
    assert kept.load().tobytes() == pixels
    array = numpy.asarray(noise()).copy()
    of_array = Picture(array)
    array[:] = 0
    assert of_array.load().tobytes() != array.tobytes()


def test_equal_pictures_in_memory_have_equal_keys_in_other_processes_too() -> None:
    picture = noise()
    one, other = Picture(picture), Picture(numpy.asarray(picture))
    assert one == other and one.key == other.key and len({one, other}) == 1
    assert Picture(picture.resize((48, 64))).key != Picture(picture).key
    assert Picture(Image.new("RGB", (2, 3))).key != Picture(Image.new("RGB", (3, 2))).key
    again = pickle.loads(pickle.dumps(one))
    assert again == one and again.load().tobytes() == picture.tobytes()
    assert Picture(encoded(picture)).load().tobytes() == picture.tobytes()
    assert Image.open(io.BytesIO(one._repr_png_())).size == picture.size


@pytest.mark.parametrize(
    ("array", "pixel"),
    [
        (numpy.full((3, 2), 90, "uint8"), (90, 90, 90)),
        (numpy.full((3, 2, 1), 90, "uint8"), (90, 90, 90)),
        (numpy.full((3, 2, 3), RED, "uint8"), RED),
        (numpy.full((3, 2, 4), (*RED, 255), "uint8"), RED),
        (numpy.full((3, 2, 4), (*BLACK, 0), "uint8"), WHITE),
        (numpy.ones((3, 2), bool), WHITE),
        (numpy.full((3, 2), 65_535, "uint16"), WHITE),
        (numpy.full((3, 4, 3), RED, "uint8")[:, ::2], RED),
    ],
)
def test_arrays(array: numpy.ndarray, pixel: Colour) -> None:
    picture = Picture(array).load()
    assert (picture.mode, picture.size, picture.getpixel((1, 2))) == ("RGB", (2, 3), pixel)


def closed() -> Image.Image:
    picture = Image.open(io.BytesIO(encoded(noise())))
    picture.close()
    return picture


def cut() -> Image.Image:
    return Image.open(io.BytesIO(encoded(noise())[:2000]))


def huge() -> Image.Image:
    return Image.open(io.BytesIO(claimed_png(9_000, 9_000)))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda: numpy.zeros((3, 2, 3)), 'array of float64; give array.astype("uint8")'),
        (lambda: numpy.zeros((3, 20, 20), "uint8"), "shape (3, 20, 20); give height x width"),
        (lambda: numpy.zeros((0, 20, 3), "uint8"), "shape (0, 20, 3)"),
        (lambda: numpy.zeros(7, "uint8"), "shape (7,)"),
        (closed, "closed"),
        (cut, "cut off or damaged"),
        (huge, "too large"),
        (lambda: Image.new("RGB", (0, 4)), "0 x 4 pixels"),
        (lambda: Image.new("F", (2, 2), 0.5), "more than 16 bits"),
        (lambda: b"no picture", "not a picture that can be read"),
        (lambda: encoded(noise())[:2000], "cut off or damaged"),
        (lambda: 3, "is int, which is no picture; give a PIL image"),
    ],
)
def test_what_is_no_picture_in_memory_is_one_line(made: Callable[[], object], said: str) -> None:
    with pytest.raises(DataError) as caught:
        Picture(made())
    assert said in str(caught.value) and str(caught.value).startswith("image ") and "\n" not in str(caught.value)


def test_a_lazy_picture_is_read_at_once_and_the_right_side_up(tmp_path: Path) -> None:
    picture = Image.new("RGB", (4, 2), RED)
    exif = picture.getexif()
    exif[0x0112] = 6  # turn right
    picture.save(tmp_path / "a.jpg", exif=exif)
    with Image.open(tmp_path / "a.jpg") as lazy:
        kept = Picture(lazy)
    (tmp_path / "a.jpg").unlink()
    assert kept.load().size == (2, 4)


def test_a_sample_takes_pictures_of_any_kind(tmp_path: Path) -> None:
    picture = noise()
    picture.save(tmp_path / "a.png")
    array, content, path = numpy.asarray(picture), encoded(picture), tmp_path / "a.png"
    sample = Sample(id="1", question="?", answer="1", images=[picture, array, content, path, str(path), ImageFile(path)])  # type: ignore[arg-type]
    assert isinstance(sample.images, tuple)
    assert [type(one) for one in sample.images] == [Picture] * 3 + [ImageFile] * 3
    assert {one.load().tobytes() for one in sample.images} == {picture.tobytes()}
    for alone in (picture, array, content, path, str(path), Picture(picture)):
        assert len(replace(sample, images=alone).images) == 1  # type: ignore[arg-type]
    assert replace(sample, answers=["1", "2"], choices=["a"], facts=[]).answers == ("1", "2")  # type: ignore[arg-type]


@pytest.mark.parametrize("images", [[3], 3, None, "https://a/b.png", "", [[noise()]]])
def test_a_sample_names_itself_where_a_picture_is_none(images: object) -> None:
    with pytest.raises(DataError, match=r"^sample 'till-7': images? "):
        Sample(id="till-7", question="?", answer="1", images=images)  # type: ignore[arg-type]
