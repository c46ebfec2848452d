"""A cache for the pictures of a checkpoint's processor: each set, known by the content of its pictures, is read and processed once.

A processor works on text and pictures in one call. While `serving` is open in a thread, the image processor returns there its earlier
output for the same pictures, so that another question or instruction about them costs only text.
"""

from __future__ import annotations

import copy
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from dyme.pictures import ImageSource

KEPT = 2**28
"""Bytes of pictures and pixels that are kept, besides those of prompts in use; the least recently used sets leave first."""


@dataclass(slots=True)
class _Set:
    """The pictures of a prompt, and the image processor's output for them."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    pictures: list[Any] = field(default_factory=list)
    pixels: Any = None
    size: int = 0


class Pictures:
    """Replaces a processor's image processor and calls it only for new pictures; several threads may use it."""

    def __init__(self, processor: Any, limit: int = KEPT) -> None:
        self.limit = limit
        self.processed = 0
        """Sets of pictures that went through the image processor, since the start."""
        self._sets: OrderedDict[tuple[str, ...], _Set] = OrderedDict()
        self.text = threading.Lock()
        """To be held by whoever works with the tokenizer: a call may change its settings while another thread's still reads them."""
        self._lock, self._open = threading.Lock(), threading.local()
        own = getattr(processor, "image_processor", None)
        if own is not None:  # a class of the same name, because the name is written into the processor's settings
            kind = type(own)
            own.__class__ = type(kind.__name__, (kind,), {"preprocess": self._preprocess(kind), "__module__": kind.__module__})

    def __deepcopy__(self, memo: dict[int, Any]) -> Pictures:
        """Return itself for a copy of the processor: the kept outputs are right for both."""
        return self

    @contextmanager
    def serving(self, sources: Sequence[ImageSource]) -> Iterator[list[Any]]:
        """Yield the pictures; inside, the image processor returns kept outputs for them, and the tokenizer is this thread's."""
        with self._lock:
            key = tuple(source.key for source in sources)
            found = self._sets.setdefault(key, _Set())
            self._sets.move_to_end(key)
        with found.lock:
            found.pictures = found.pictures or [source.load() for source in sources]
            self._open.set = found
            try:
                with self.text:
                    yield found.pictures
            finally:
                self._open.set = None
        self._trim()

    def _preprocess(self, kind: Any) -> Any:
        def preprocess(processor: Any, *args: Any, **kwargs: Any) -> Any:
            found = getattr(self._open, "set", None)
            if found is None:
                return kind.preprocess(processor, *args, **kwargs)
            if found.pixels is None:
                self.text.release()  # only text has to wait
                try:
                    found.pixels = kind.preprocess(processor, *args, **kwargs)
                finally:
                    self.text.acquire()
                found.size = _bytes(list(found.pixels.values())) + sum(3 * one.width * one.height for one in found.pictures)
                self.processed += 1
            return copy.copy(found.pixels)  # processors take entries out of it

        return preprocess

    def _trim(self) -> None:
        """Drop the least recently used sets beyond the limit, but never the last one used."""
        with self._lock:
            size = sum(one.size for one in self._sets.values())
            while size > self.limit and len(self._sets) > 1:
                size -= self._sets.popitem(last=False)[1].size


def _bytes(value: Any) -> int:
    """Return the bytes of arrays and tensors, also inside lists."""
    return sum(map(_bytes, value)) if isinstance(value, list | tuple) else int(getattr(value, "nbytes", 0))


def name_of(sources: Sequence[ImageSource]) -> str:
    """Return a name for a prompt's pictures: equal names mean equal pictures in the same order; "" without pictures."""
    keys = repr([source.key for source in sources]).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(keys, digest_size=16).hexdigest() if sources else ""
