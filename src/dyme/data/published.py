"""How a published data set becomes rows: the folders that it comes in, and a function from its fields to ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dyme.config import TaskConfig
from dyme.data.layouts import Layout

Normaliser = Callable[[Mapping[str, Any], str, TaskConfig], dict[str, Any]]
"""(a row in published fields, where it stands, settings) -> the row in the fields of `jsonl.py`; raises DataError that begins with
the place and says why, for a row that cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """How a published data set becomes rows."""

    normalise: Normaliser
    layouts: tuple[Layout, ...] = ()
    """Folders that are understood beside the common ones (`formats.files.ROWS`, and what the datasets library reads)."""
    configurations: Mapping[str, str] = field(default_factory=dict)
    """Hub ids that have several configurations -> the one that is meant."""
    pictures: bool = True
    """Whether each row must have a picture; without: none may have one."""
    direct: bool = False
    """Rows are used as they lie in a folder; nothing has to be prepared."""
