"""Pictures within a row: bytes (parquet files, the datasets library), data URIs, plain base64.

`dyme prepare` writes each as a file. A web address is refused: nothing is downloaded without the user's order.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

from dyme.errors import DataError, quoted
from dyme.pictures import Picture

NAME = re.compile(r"\.(?:png|jpe?g|webp|gif|bmp|tiff?)\Z", re.IGNORECASE)
"""Endings of picture files' names."""
_ADDRESS = re.compile(r"[a-z][a-z0-9+]{1,9}://", re.IGNORECASE)
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_STARTS = ("iVBORw0KGgo", "/9j/", "R0lGOD", "UklGR", "Qk", "SUkq", "TU0A")
"""First letters, in base64, of PNG, JPEG, GIF, WebP, BMP and TIFF files."""
SHORTEST = 64
"""Least number of characters of a picture in base64; a shorter text is a file's name."""


def is_embedded(picture: object) -> bool:
    """Return whether `picture` is the content of a picture rather than the name of a file."""
    if isinstance(picture, Mapping):
        return picture.get("bytes") is not None
    if isinstance(picture, str):
        return picture.startswith("data:") or _is_base64(picture)
    return isinstance(picture, bytes)


def is_picture(value: object) -> bool:
    """Return whether `value` is a picture's content, name or address, or a list of these."""
    if isinstance(value, list):
        return bool(value) and is_picture(value[0])
    value = plain(value)
    return (
        isinstance(value, Picture) or is_embedded(value) or (isinstance(value, str) and bool(NAME.search(value) or _ADDRESS.match(value)))
    )


def content_of(picture: object) -> bytes | None:
    """Return the bytes of an embedded picture, or None if `picture` names a file. Raises DataError for a broken picture or an address."""
    if isinstance(picture, Mapping):
        found = picture.get("bytes")
        return found if found is None or isinstance(found, bytes) else content_of(found)
    if isinstance(picture, bytes):
        return picture
    if not isinstance(picture, str) or not is_embedded(picture):
        refuse_address(picture)
        return None
    head, comma, text = picture.rpartition(",")
    if head and not head.endswith(";base64") or (not comma and picture.startswith("data:")):
        raise DataError(f"image is a data URI without base64 ({quoted(picture)}); write data:image/png;base64,..., or name a file")
    text = "".join(text.split()).replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"image is broken base64 ({error}: {quoted(picture)}); write the picture again, or name a file") from error


def refuse_address(picture: object) -> None:
    """Raise DataError for a web address, however it is written."""
    if isinstance(picture, Mapping):
        picture = picture.get("url", picture.get("path"))
    if isinstance(picture, str) and _ADDRESS.match(picture):
        raise DataError(f"image is an address on the web ({quoted(picture)}); download it and name the file")


def plain(picture: Any) -> Any:
    """Return `picture` without the dicts around its one value: {"image_url": {"url": X}}, {"bytes": None, "path": X}, {"url": X} give X."""
    while isinstance(picture, Mapping) and picture.get("bytes") is None:
        inner = next((picture[name] for name in ("image", "image_url", "url", "path") if picture.get(name) is not None), None)
        if inner is None:
            return picture
        picture = inner
    return picture


def _is_base64(text: str) -> bool:
    line = "".join(text.split())
    return len(line) >= SHORTEST and line.startswith(_STARTS) and _BASE64.fullmatch(line) is not None
