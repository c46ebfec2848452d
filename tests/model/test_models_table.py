"""The numbers of parameters in docs/models.md are those of the published shapes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from published_shapes import PUBLISHED, on_meta

from dyme.config import ModelConfig
from dyme.model import adapters
from dyme.model.vision import tower_of

TABLE = Path(__file__).parents[2] / "docs" / "models.md"


def documented(name: str) -> list[int]:
    """A model's row of the table."""
    row = next(line for line in TABLE.read_text().splitlines() if line.startswith(f"| {name} |") and line.count("|") == 7)
    return [int(cell.replace(",", "")) for cell in row.split("|")[2:-1]]


def count(parameters: Iterable[torch.nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)


@pytest.mark.parametrize("name", PUBLISHED)
def test_numbers_of_parameters(name: str) -> None:
    model = on_meta(name)
    tower = tower_of(model)
    everything, frozen = count(model.parameters()), count(tower.parameters()) if tower is not None else 0
    found = [everything, everything - frozen, everything]
    for freeze in (True, False):
        model = on_meta(name)
        adapters.attach(model, ModelConfig(path="org/name", lora_rank=16, freeze_vision=freeze), "org/name")
        found.append(count(p for p in model.parameters() if p.requires_grad))
    assert found == documented(name)
