"""Put pictures into a prepared folder: each is found, checked once, then linked, copied or written unchanged, never encoded again.

A file keeps the name that it has in the source. A file that lies elsewhere, or whose name another file has, is named by a hash of its
content; so are pictures that come as bytes. Nothing is written outside the folder, and no picture takes the place of another.
"""

from __future__ import annotations

import filecmp
import hashlib
import io
import os
import shutil
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, UnidentifiedImageError

from dyme.data.layouts import Raw
from dyme.data.pictures.embedded import content_of, is_embedded
from dyme.errors import DataError
from dyme.pictures import CHECK_THREADS, FORMATS, ImageFile

IMAGES = "images"
_ENDINGS = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}


class Pictures:
    """The pictures of one prepared folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.placed: dict[str, str | DataError] = {}
        """Picture in the source -> its path in the folder, or its fault, whichever row names it."""
        self.owners: dict[str, str] = {}
        """Path in the folder -> the file of the source that has it."""
        self.pool = ThreadPoolExecutor(min(CHECK_THREADS, os.cpu_count() or 1))

    def place(self, wanted: Iterable[tuple[Any, Raw]]) -> None:
        """Check pictures, in parallel, and put those that can be used into the folder; each is checked once, however many rows name it.

        A picture that is already in the folder was checked by an earlier, interrupted call, and stays as it is.
        """
        new = {key: (picture, raw) for picture, raw in wanted if (key := _key(picture, raw)) not in self.placed}
        entries = [(picture, raw, self._claim(picture, raw)) for picture, raw in new.values()]
        for key, name in zip(new, self.pool.map(lambda entry: self._attempt(*entry), entries), strict=True):
            self.placed[key] = name

    def name_of(self, picture: Any, raw: Raw) -> str:
        """Return a placed picture's path in the folder. Raises the DataError of a picture that cannot be used."""
        placed = self.placed[_key(picture, raw)]
        if isinstance(placed, DataError):
            raise DataError(f"{raw.where}: {placed}") from placed
        return placed

    @property
    def count(self) -> int:
        """Return the number of pictures in the folder."""
        return len({placed for placed in self.placed.values() if isinstance(placed, str)})

    def _claim(self, picture: Any, raw: Raw) -> str:
        """Return the path that a file will have in the folder; "" for a name by its content. The first file with a name keeps it."""
        try:
            file = None if is_embedded(picture) else _file(picture, raw)
        except DataError:
            return ""
        name = _own_name(file, raw.folders) if file else ""
        real = os.path.realpath(file) if file else ""
        return name if name and self.owners.setdefault(name, real) == real else ""

    def _attempt(self, picture: Any, raw: Raw, name: str) -> str | DataError:
        try:
            found = content_of(picture)
            return self._write(found, raw) if found is not None else self._link(_file(picture, raw), raw, name)
        except DataError as error:
            return DataError(str(error).removeprefix(f"{raw.where}: "))

    def _link(self, file: Path, raw: Raw, name: str) -> str:
        """Link the file into the folder where the disk allows it, else copy it."""
        name = name or _content_name(ImageFile(file, raw.where).key, file.suffix)
        target = self.folder / name
        if os.path.isfile(target) and os.path.isfile(file) and _same(target, file):  # noqa: PTH113
            return name
        ImageFile(file, raw.where).check()
        part = _part(target)
        try:
            os.link(os.path.realpath(file), part)  # a link to a relative symbolic link would be broken here
        except OSError:
            shutil.copyfile(file, part)
        part.replace(target)
        part.unlink(missing_ok=True)  # it is left if another process was first: both names were the same file's
        return name

    def _write(self, content: bytes, raw: Raw) -> str:
        """Write the bytes to a file named by a hash of them, so that equal pictures are one file, and return its path."""
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as picture:
                kind = picture.format or "PNG"
        except (UnidentifiedImageError, Image.DecompressionBombError) as error:
            raise DataError(f"{raw.where}: image is not a picture that can be read; remove the row") from error
        name = _content_name(hashlib.sha256(content).hexdigest(), f".{_ENDINGS.get(kind, kind.lower())}")
        target = self.folder / name
        if target.is_file():
            return name
        part = _part(target)
        part.write_bytes(content)
        try:
            ImageFile(part, raw.where).check()
        except DataError:
            part.unlink()
            raise
        part.replace(target)
        return name


def _own_name(file: Path, folders: Iterable[Path]) -> str:
    """Return a file's path below images/, relative to the outermost of `folders` that holds it; "" if none does, `..` resolved."""
    plain = Path(os.path.abspath(file))  # noqa: PTH100  (links are not followed: a linked folder of pictures keeps its names)
    inside = [plain.relative_to(folder) for one in folders if plain.is_relative_to(folder := Path(os.path.abspath(one)))]  # noqa: PTH100
    if not inside:
        return ""
    parts = max(inside, key=lambda path: len(path.parts)).parts
    return str(PurePosixPath(IMAGES, *parts[1:] if parts[0] == IMAGES and len(parts) > 1 else parts))


def _content_name(digest: str, ending: str) -> str:
    return f"{IMAGES}/{digest[:24]}{ending}"


def _part(target: Path) -> Path:
    """Return a path beside `target` that no other thread or process writes to; its folder is made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}-{threading.get_ident()}.part")
    part.unlink(missing_ok=True)
    return part


def _file(picture: Any, raw: Raw) -> Path:
    """Return the file of a picture: an absolute path, or a name in one of the row's folders."""
    name = picture.get("path") if isinstance(picture, dict) else picture
    if not isinstance(name, (str, Path)) or not str(name).strip() or "\0" in str(name):
        raise DataError(f"{raw.where}: image is neither a file's name nor a picture; correct the row")
    if not raw.folders and not Path(name).is_absolute():
        raise DataError(f"{raw.where}: image is not part of the data set on the hub; fetch its files, unzip them and give that folder")
    candidates = [folder / name for folder in raw.folders] or [Path(name)]
    return next((file for file in candidates if os.path.isfile(file)), candidates[0])  # noqa: PTH113  (no error for a name too long)


def _key(picture: Any, raw: Raw) -> str:
    """Return the identity of a picture in its source: equal keys mean the same picture."""
    try:
        content = content_of(picture)
        return str(_file(picture, raw)) if content is None else hashlib.sha256(content).hexdigest()
    except DataError:
        return f"{raw.where}: {hashlib.sha256(repr(picture).encode(errors='replace')).hexdigest()}"


def _same(copy: Path, file: Path) -> bool:
    """Return whether `copy` has the content of `file`."""
    return copy.samefile(file) or filecmp.cmp(copy, file, shallow=False)
