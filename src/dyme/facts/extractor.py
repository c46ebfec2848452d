"""The protocol of an extractor, which reads the facts of an image: by OCR or by an LLM."""

from __future__ import annotations

from typing import Protocol

from dyme.types import Fact, Sample


class Extractor(Protocol):
    """Reads the facts of an image, once, before training."""

    def extract(self, sample: Sample) -> tuple[Fact, ...]:
        """Return the visual facts of the sample's images. Raises SupervisionError if they cannot be read."""
        ...
