"""Weights that are divided among processes: gradients, rollouts, weights and resumed runs are those of one process.

`make test-shard` runs more models and settings, and real launchers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sharded

from dyme.model.policy import Policy
from dyme.training.engines.sharded import FSDPModule

Load = Callable[[str], Policy]
pytestmark = pytest.mark.skipif(not hasattr(FSDPModule, "set_reduce_scatter_unused_params"), reason="needs torch 2.13")
TWO = ["trained tower", "no pictures", "lora", "kl in bf16"]


@pytest.fixture(scope="module")
def found(checkpoints: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[dict[str, Any]]]:
    out = tmp_path_factory.mktemp("divided")
    place = checkpoints("idefics3").parent
    models = out / "models"
    models.mkdir()
    (models / "idefics3").symlink_to(checkpoints("idefics3"))
    assert place.exists()
    return models, out, sharded.launched(models, out, TWO, 2, 2)


@pytest.mark.parametrize("name", TWO)
def test_two_processes_that_divide_the_weights_equal_one(name: str, found: Any) -> None:
    models, out, both = found
    sharded.agree(name, models, out, both)


def test_two_computers_with_a_copy_each_equal_one_process(found: Any, tmp_path: Path) -> None:
    """Two processes on each: they divide the weights between them."""
    four = sharded.launched(found[0], tmp_path, ["by node"], 4, 2)
    sharded.agree("by node", found[0], tmp_path, four)
    assert "divided among 2 of 4 processes (train.shard = node)" in four[0]["by node"]["notes"][0]
