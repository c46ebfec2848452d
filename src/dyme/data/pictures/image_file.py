"""A picture in a file, opened only when it is needed and always handed on as RGB, right side up.

Whatever the file holds ends as 8-bit RGB: transparency on white, 16-bit grey scaled (not clipped), CMYK converted, EXIF
rotation applied, the first frame of an animation. Whatever cannot end so raises one clear line that names the row. Size is
judged from the header, before anything is decoded.

Python's warning filters and Pillow's limits belong to the whole process, and pictures are loaded from threads: both are left
as they are. MAX_PIXELS lies below the size at which Pillow starts to warn of decompression bombs.
"""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

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
                with Image.open(file, formats=FORMATS) as picture:
                    if picture.width * picture.height > MAX_PIXELS:
                        raise self._too_large(f"{picture.width} x {picture.height} pixels")
                    return self._rgb(ImageOps.exif_transpose(picture))
            except DataError:
                raise
            except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
                raise self._too_large("Pillow takes it for a decompression bomb") from error
            except UnidentifiedImageError as error:
                raise self._fault("is not a picture that can be read", "save it again as PNG or JPEG, or remove the row") from error
            except Exception as error:  # for a broken file, decoders raise nearly anything
                reason = " ".join(str(error).split()) or type(error).__name__
                raise self._fault(f"is cut off or damaged ({reason})", "save it again as PNG or JPEG, or remove the row") from error

    def check(self) -> None:
        """Raise the DataError that `load` would raise: judge the header, then decode everything, as only that finds a cut file."""
        self.load()

    def find(self) -> None:
        """Raise the DataError of a file that is missing, a folder or empty; nothing is read."""
        self._status()

    def _rgb(self, picture: Image.Image) -> Image.Image:
        if picture.mode.startswith("I") or picture.mode == "F":
            return self._eight_bit(picture).convert("RGB")
        if picture.has_transparency_data:
            layer = picture.convert("RGBA")
            paper = Image.new("RGB", layer.size, "white")
            paper.paste(layer, mask=layer)
            return paper
        return picture if picture.mode == "RGB" else picture.convert("RGB")

    def _eight_bit(self, picture: Image.Image) -> Image.Image:
        """Grey of 0..65535 as the nearest of 0..255; there is no telling what range wider numbers mean."""
        wide = picture if picture.mode == "F" else picture.convert("I")
        low, high = wide.getextrema()
        if not (isinstance(low, int) and isinstance(high, int) and 0 <= low <= high <= 65_535):
            raise self._fault("has grey values of more than 16 bits", "save it with 8 or 16 bits, or remove the row")
        return wide.point(lambda value: value * (1 / 257) + 0.5).convert("L")

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

    def _too_large(self, detail: str) -> DataError:
        return self._fault(f"is too large ({detail})", f"resize it to at most {MAX_PIXELS // 1_000_000} megapixels, or remove the row")

    def _fault(self, what: str, todo: str) -> DataError:
        return DataError(f"{self.row}: image {quoted(str(self.path), LONGEST_PATH)} {what}; {todo}".removeprefix(": "))


def _unpack(missing: Path) -> str:
    """What to do where a picture is not there but an archive lies in a folder above it, as in copies of hub data sets; else ""."""
    above = [folder for folder in Path(os.path.abspath(missing)).parents if folder.is_dir()][:2]  # noqa: PTH100
    archives = [file for folder in above for file in sorted(folder.iterdir()) if file.name.lower().endswith(_ARCHIVES)]
    return f"if it is in {archives[0]}, unpack that there first" if archives else ""


@lru_cache(maxsize=65_536)
def _digest(path: Path, mtime_ns: int, size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
