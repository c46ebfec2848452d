"""Requirements: both ends of each are named, and `make test-oldest` takes the lower ones."""

from __future__ import annotations

import re

import pytest
from oldest import oldest, requirements

TOOLS = ("pytest", "pytest-xdist", "hypothesis", "nbclient", "ipykernel", "setuptools")
"""Of the tests alone; a new release of theirs breaks nothing of a user's."""


@pytest.mark.parametrize("requirement", list(requirements()))
def test_a_requirement_has_a_lower_and_an_upper_bound(requirement: str) -> None:
    name = re.split("[>=]", requirement)[0]
    assert re.fullmatch(r"[\w-]+(==[\d.]+|>=[\d.]+,<[\d.]+)", requirement) or name in TOOLS
    assert re.fullmatch(rf"{name}==[\d.]+", oldest(requirement))
