"""A picture, in a file or in memory: always loaded as upright RGB.

Every picture is converted to 8-bit RGB: transparency on white, 16-bit grey scaled (not clipped), CMYK converted, EXIF
rotation applied, the first frame of an animation. A picture that cannot be converted raises a one-line error that names the row. A file is
opened only when it is needed, and its size is judged from the header, before anything is decoded.

Python's warning filters and Pillow's limits belong to the whole process, and pictures are loaded from threads: both are left
as they are. MAX_PIXELS lies below the size at which Pillow starts to warn of decompression bombs.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import IO, Any, Protocol

from PIL import Image, ImageOps, UnidentifiedImageError

from dyme.errors import DataError, quoted

MAX_PIXELS = 80_000_000
"""Largest picture, width times height in pixels."""
CHECK_THREADS = 4
"""Pictures decoded at a time when a split is checked, at most: the largest that are allowed take about 1 GB each meanwhile."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")
"""Pillow's names of the raster formats that are read; none of them runs another program, as EPS would."""
LONGEST_PATH = 300
"""Characters of a path that a message quotes."""
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
_ADDRESS = re.compile(r"[a-z][a-z0-9+]{1,9}://", re.IGNORECASE)
_GIVE = "give a PIL image, a numpy array, the bytes of a picture, or a file's path"
_ELSE = "leave it out"


class _Unfit(Exception):
    """A picture that cannot be used: what is wrong, and what to do."""

    def __init__(self, what: str, todo: str) -> None:
        super().__init__(f"{what}; {todo}")
        self.what, self.todo = what, todo


class ImageSource(Protocol):
    """A picture that is opened only when it is needed."""

    @property
    def key(self) -> str:
        """Return the identity of the content: equal keys mean equal pixels."""
        ...

    def load(self) -> Image.Image:
        """Return an RGB picture, right side up."""
        ...


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An `ImageSource` in a file. Two are equal if their paths are, whichever rows name them."""

    path: Path
    row: str = field(default="", compare=False)
    """Where the picture is named, for messages: "train.jsonl:12 (id 7)"."""

    @property
    def key(self) -> str:
        """SHA-256 of the file's bytes; read again only if its time or size has changed.

        Raises DataError if the file is missing, empty or cannot be read.
        """
        status = self._status()
        try:
            return _digest(self.path, status.st_mtime_ns, status.st_size)
        except OSError as error:
            raise self._unreadable(error) from error

    def load(self) -> Image.Image:
        """Return the picture, RGB, right side up.

        Raises DataError if the file is missing, a folder, empty, cut off, not a picture, larger than MAX_PIXELS, or of more
        than 16 bits a channel.
        """
        self._status()
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise self._unreadable(error) from error
        with file:
            try:
                return _decoded(file, "remove the row")
            except _Unfit as fault:
                raise self._fault(fault.what, fault.todo) from fault.__cause__

    def check(self) -> None:
        """Raise the DataError that `load` would raise: judge the header, then decode everything, as only that finds a cut file."""
        self.load()

    def find(self) -> None:
        """Raise the DataError of a file that is missing, a folder or empty; nothing is read."""
        self._status()

    def _status(self) -> os.stat_result:
        try:
            status = self.path.stat()
        except FileNotFoundError as error:
            todo = _unpack(self.path) or "correct the path (relative to the file of rows), or remove the row"
            raise self._fault("does not exist", todo) from error
        except (OSError, ValueError) as error:  # ValueError: a NUL byte, or text that no file name can hold
            raise self._unreadable(error) from error
        if not stat.S_ISREG(status.st_mode):
            raise self._fault("is a folder" if stat.S_ISDIR(status.st_mode) else "is not a file", "name the picture itself")
        if status.st_size == 0:
            raise self._fault("is empty (0 bytes)", "put the picture there again, or remove the row")
        return status

    def _unreadable(self, error: Exception) -> DataError:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return self._fault(f"cannot be read ({reason})", "correct the path or the file's permissions, or remove the row")

    def _fault(self, what: str, todo: str) -> DataError:
        return DataError(f"{self.row}: image {quoted(str(self.path), LONGEST_PATH)} {what}; {todo}".removeprefix(": "))


class Picture:
    """An `ImageSource` in memory: a PIL image, a numpy array, or the bytes of a PNG, JPEG, ... file.

    An array is uint8, height x width (grey), x 3 (RGB) or x 4 (RGBA); 16-bit grey and booleans are allowed too. The content is copied, so
    that later changes to the original do not change it; bytes stay encoded. Two pictures are equal if their keys are.
    """

    __slots__ = ("_content", "_size", "key")

    def __init__(self, content: Any) -> None:
        """Copy and check the content. Raises DataError for what is no picture, closed, cut off, empty, or larger than MAX_PIXELS."""
        self._size: tuple[int, int] | None = None
        """Width and height of the RGB pixels in `_content`; None: it is an encoded file."""
        try:
            if isinstance(content, bytes | bytearray | memoryview):
                self._content = bytes(content)
                _decoded(io.BytesIO(self._content), _ELSE)
            else:
                pixels = _in_rgb(content if isinstance(content, Image.Image) else _from_array(content), _ELSE)
                self._content, self._size = pixels.tobytes(), pixels.size
        except _Unfit as fault:
            raise DataError(f"image {fault}") from fault.__cause__
        self.key = hashlib.sha256(repr(self._size).encode() + self._content).hexdigest()
        """SHA-256 of the content: equal keys mean equal pixels."""

    def load(self) -> Image.Image:
        """Return a copy of the picture, RGB, right side up."""
        if self._size is None:
            return _decoded(io.BytesIO(self._content), _ELSE)
        return Image.frombytes("RGB", self._size, self._content)

    def __eq__(self, other: object) -> bool:
        """Whether `other` is a picture of the same content."""
        return isinstance(other, Picture) and other.key == self.key

    def __hash__(self) -> int:
        """By content."""
        return hash(self.key)

    def __repr__(self) -> str:
        """Its first bytes would say nothing."""
        return f"Picture({self.key[:12]})"

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        shown = io.BytesIO()
        self.load().save(shown, "PNG")
        return shown.getvalue()


def in_memory(value: object) -> bool:
    """Whether `value` is a picture that `Picture` takes, bytes aside."""
    return isinstance(value, Image.Image) or (_is_array(value) and getattr(value, "ndim", 0) in (2, 3))


def sources_of(images: Any) -> tuple[ImageSource, ...]:
    """Convert one picture or a list of them to sources and return these: PIL images, arrays and bytes in memory, paths as files.

    Raises DataError for an object of another kind.
    """
    alone = isinstance(images, str | bytes | bytearray | memoryview | os.PathLike) or in_memory(images) or _is_source(images)
    if not alone and not isinstance(images, list | tuple):
        raise DataError(f"images is {type(images).__name__}; {_GIVE}, or a list of these")
    return tuple(map(_source, [images] if alone else images))


def _source(value: Any) -> ImageSource:
    if _is_source(value):
        return value  # type: ignore[no-any-return]
    if isinstance(value, str | os.PathLike):
        name = os.fspath(value)
        if not isinstance(name, str) or not name.strip() or _ADDRESS.match(name):
            raise DataError(f"image {quoted(name)} is no path; {_GIVE}")
        return ImageFile(Path(name))
    return Picture(value)


def _is_source(value: object) -> bool:
    """Whether `value` is an `ImageSource` already; a PIL image has another `load`."""
    return callable(getattr(value, "load", None)) and not isinstance(value, Image.Image)


def _is_array(value: object) -> bool:
    numpy = sys.modules.get("numpy")  # an array was made by it, so it is there
    return numpy is not None and isinstance(value, numpy.ndarray)


def _from_array(array: Any) -> Image.Image:
    """The picture in a numpy array. Raises _Unfit for another object, shape or type."""
    if not _is_array(array):
        raise _Unfit(f"is {type(array).__name__}, which is no picture", _GIVE)
    shape, kind = tuple(array.shape), str(array.dtype)
    if array.ndim == 3 and shape[2] == 1:
        array = array[:, :, 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or not array.size:
        raise _Unfit(f"is an array of shape {shape}", "give height x width, or height x width x 3 (RGB) or 4 (RGBA)")
    if kind == "bool":
        array = array.astype("uint8") * 255
    elif kind != "uint8" and not (kind == "uint16" and array.ndim == 2):
        raise _Unfit(f"is an array of {kind}", 'give array.astype("uint8") of 0 to 255, (255 * array).astype("uint8") of 0 to 1')
    return Image.fromarray(array)


def _decoded(file: IO[bytes], otherwise: str) -> Image.Image:
    """The picture in an open file, RGB. Raises _Unfit."""
    with _unfit(otherwise), Image.open(file, formats=FORMATS) as picture:
        return _in_rgb(picture, otherwise)


def _in_rgb(picture: Image.Image, otherwise: str) -> Image.Image:
    """A copy of the picture, RGB, right side up. Raises _Unfit."""
    with _unfit(otherwise):
        if not picture.width * picture.height:
            raise _Unfit(f"has {picture.width} x {picture.height} pixels", otherwise)
        if picture.width * picture.height > MAX_PIXELS:
            raise _too_large(f"{picture.width} x {picture.height} pixels", otherwise)
        upright = ImageOps.exif_transpose(picture)
        if upright.mode.startswith("I") or upright.mode == "F":
            return _eight_bit(upright, otherwise).convert("RGB")
        if upright.has_transparency_data:
            layer = upright.convert("RGBA")
            paper = Image.new("RGB", layer.size, "white")
            paper.paste(layer, mask=layer)
            return paper
        return upright if upright.mode == "RGB" else upright.convert("RGB")


@contextmanager
def _unfit(otherwise: str) -> Iterator[None]:
    """Whatever a decoder raises as _Unfit; for a broken file that is nearly anything."""
    try:
        yield
    except _Unfit:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large("Pillow takes it for a decompression bomb", otherwise) from error
    except UnidentifiedImageError as error:
        raise _Unfit("is not a picture that can be read", f"save it again as PNG or JPEG, or {otherwise}") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise _Unfit(f"is cut off or damaged ({reason})", f"save it again as PNG or JPEG, or {otherwise}") from error


def _eight_bit(picture: Image.Image, otherwise: str) -> Image.Image:
    """Grey of 0..65535 as the nearest of 0..255; there is no telling what range wider numbers mean."""
    wide = picture if picture.mode == "F" else picture.convert("I")
    low, high = wide.getextrema()
    if not (isinstance(low, int) and isinstance(high, int) and 0 <= low <= high <= 65_535):
        raise _Unfit("has grey values of more than 16 bits", f"save it with 8 or 16 bits, or {otherwise}")
    return wide.point(lambda value: value * (1 / 257) + 0.5).convert("L")


def _too_large(detail: str, otherwise: str) -> _Unfit:
    return _Unfit(f"is too large ({detail})", f"resize it to at most {MAX_PIXELS // 1_000_000} megapixels, or {otherwise}")


def _unpack(missing: Path) -> str:
    """What to do where a picture is not there but an archive lies in a folder above it, as in copies of hub data sets; else ""."""
    above = [folder for folder in Path(os.path.abspath(missing)).parents if folder.is_dir()][:2]  # noqa: PTH100
    archives = [file for folder in above for file in sorted(folder.iterdir()) if file.name.lower().endswith(_ARCHIVES)]
    return f"if it is in {archives[0]}, unpack that there first" if archives else ""


@lru_cache(maxsize=65_536)
def _digest(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
