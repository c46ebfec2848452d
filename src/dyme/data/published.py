"""How a published data set is read: its folder layouts, and a function that converts its fields to those of dyme."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dyme.config import TaskConfig
from dyme.data.layouts import Layout

Normaliser = Callable[[Mapping[str, Any], str, TaskConfig], dict[str, Any]]
"""(a row in published fields, its place, settings) -> the row in the fields of `jsonl.py`; raises DataError that begins with
the place and says why, for a row that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """How a published data set is read."""

    normalise: Normaliser
    layouts: tuple[Layout, ...] = ()
    """Folder layouts that are understood beside the common ones (`formats.files.ROWS`, and what the datasets library reads)."""
    configurations: Mapping[str, str] = field(default_factory=dict)
    """Hub ids that have several configurations -> the one to use."""
    pictures: bool = True
    """Whether each row must have a picture; without: none may have one."""
    direct: bool = False
    """Whether rows are used from their folder as they are, without being prepared."""
