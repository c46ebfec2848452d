"""The lower bounds of pyproject.toml as constraints for pip, one a line: what `make test-oldest` installs."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def requirements() -> Iterator[str]:
    """All requirements of the package and its extras but itself."""
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    for one in (*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)):
        if not one.startswith("dyme["):
            yield one


def oldest(requirement: str) -> str:
    """`name>=1.2,<2` as `name==1.2`; what is pinned stays."""
    return re.sub(r"^([\w.-]+)[>=]=([\w.]+).*$", r"\1==\2", requirement)


if __name__ == "__main__":
    print(*map(oldest, requirements()), sep="\n")
