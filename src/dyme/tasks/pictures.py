"""Pictures on their way into a prepared folder: found, checked once, then linked, copied or written as they are, never encoded again."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, UnidentifiedImageError

from dyme.errors import DataError
from dyme.tasks.image_file import FORMATS, ImageFile
from dyme.tasks.published import Raw
from dyme.tasks.rows import CHECK_THREADS

IMAGES = "images"
_ENDINGS = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}


class Pictures:
    """The pictures of one prepared folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.placed: dict[str, str | DataError] = {}
        """Picture in the source -> its path in the folder, or what is wrong with it, whichever row names it."""
        self.pool = ThreadPoolExecutor(min(CHECK_THREADS, os.cpu_count() or 1))

    def place(self, wanted: Iterable[tuple[Any, Raw]]) -> None:
        """Check pictures, in parallel, and put those that can be used into the folder; each is looked at once, whoever names it.

        One that is in the folder already was checked by an earlier call that was cut short, and is left alone.
        """
        new = {key: (picture, raw) for picture, raw in wanted if (key := _key(picture, raw)) not in self.placed}
        for key, name in zip(new, self.pool.map(lambda entry: self._attempt(*entry), new.values()), strict=True):
            self.placed[key] = name

    def name_of(self, picture: Any, raw: Raw) -> str:
        """A placed picture's path in the folder. Raises the DataError of one that cannot be used."""
        placed = self.placed[_key(picture, raw)]
        if isinstance(placed, DataError):
            raise DataError(f"{raw.where}: {placed}") from placed
        return placed

    @property
    def count(self) -> int:
        """Pictures that are in the folder now."""
        return sum(isinstance(placed, str) for placed in self.placed.values())

    def _attempt(self, picture: Any, raw: Raw) -> str | DataError:
        try:
            found = _bytes(picture)
            return self._write(found, raw) if found is not None else self._link(_file(picture, raw), raw)
        except DataError as error:
            return DataError(str(error).removeprefix(f"{raw.where}: "))

    def _link(self, file: Path, raw: Raw) -> str:
        """A second name for the file where the disk allows it, else a copy."""
        inside = [file.relative_to(folder) for folder in raw.folders if file.is_relative_to(folder)]
        name = str(
            PurePosixPath(IMAGES, *_plain(max(inside, key=lambda path: len(path.parts))) if inside else (_digest(str(file)) + file.suffix,))
        )
        target = self.folder / name
        if target.is_file() and file.is_file() and _same(target, file):
            return name
        ImageFile(file, raw.where).check()
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        try:
            os.link(file, part)
        except OSError:
            shutil.copyfile(file, part)
        part.replace(target)
        return name

    def _write(self, content: bytes, raw: Raw) -> str:
        """The bytes as a file of their own, named by what they are, so that equal pictures are one file."""
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                kind = picture.format or "PNG"
        except (UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise DataError(f"{raw.where}: image is not a picture that can be read; remove the row") from error
        name = f"{IMAGES}/{hashlib.sha256(content).hexdigest()[:24]}.{_ENDINGS.get(kind, kind.lower())}"
        target = self.folder / name
        if target.is_file():
            return name
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        part.write_bytes(content)
        try:
            ImageFile(part, raw.where).check()
        except DataError:
            part.unlink()
            raise
        part.replace(target)
        return name


def _plain(path: Path) -> tuple[str, ...]:
    """The path's parts, without a leading images/, which the prepared folder has too."""
    return path.parts[1:] if path.parts[0] == IMAGES and len(path.parts) > 1 else path.parts


def _bytes(picture: Any) -> bytes | None:
    """The bytes of a picture as the datasets library hands it over, or None if it is a file."""
    return picture["bytes"] if isinstance(picture, dict) else None


def _file(picture: Any, raw: Raw) -> Path:
    """The file that a picture is: an absolute path, or a name in one of the row's folders."""
    name = picture.get("path") if isinstance(picture, dict) else picture
    if not isinstance(name, (str, Path)) or not str(name).strip() or "\0" in str(name):
        raise DataError(f"{raw.where}: image is neither a file's name nor a picture; correct the row")
    if not raw.folders and not Path(name).is_absolute():
        raise DataError(f"{raw.where}: image is not part of the data set on the hub; fetch its files, unzip them and give that folder")
    candidates = [folder / name for folder in raw.folders] or [Path(name)]
    return next((file for file in candidates if file.is_file()), candidates[0])


def _key(picture: Any, raw: Raw) -> str:
    """What makes two pictures of a source the same one."""
    content = _bytes(picture)
    if content is not None:
        return hashlib.sha256(content).hexdigest()
    try:
        return str(_file(picture, raw))
    except DataError:
        return f"{raw.where}: {picture!r}"


def _same(copy: Path, file: Path) -> bool:
    """Whether `copy` is what `file` is: of its size, and not older."""
    one, other = copy.stat(), file.stat()
    return one.st_size == other.st_size and one.st_mtime_ns >= other.st_mtime_ns


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
