"""What reads the facts of an image: one small protocol, for OCR and for an LLM."""

from __future__ import annotations

from typing import Protocol

from dyme.types import Fact, Sample


class Extractor(Protocol):
    """Reads the facts of an image, once, before training."""

    def extract(self, sample: Sample) -> tuple[Fact, ...]:
        """The visual facts of the sample's images. Raises SupervisionError if they cannot be read."""
        ...
