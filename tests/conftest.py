"""Tiny checkpoints of real architectures as fixtures, made once a session; torch is imported by those tests alone that need it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from dyme.system import tuning

if TYPE_CHECKING:
    from dyme.model.policy import Policy

tuning.tune()
gc.set_threshold(20_000, 10, 20)  # with torch and transformers loaded, a collection looks at half a million objects
LONGEST, SHORTEST = ("whole",), ("verify", "facts", "data")
"""Rooms whose files take longest, and shortest."""
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that starts tests in the background has it ignored
for name, value in {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}.items():
    os.environ.setdefault(name, value)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first and short ones last, so that two processes that take file after file end together."""

    def place(item: pytest.Item) -> int:
        room = item.path.relative_to(Path(__file__).parent).parts[0]
        return -1 if room in LONGEST else SHORTEST.index(room) + 1 if room in SHORTEST else 0

    items.sort(key=place)


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a family's checkpoint (`families.FAMILIES` names them); do not write into it."""
    import families

    made: dict[str, Path] = {}

    def folder(family: str) -> Path:
        if family not in made:
            made[family] = families.checkpoint(family, tmp_path_factory.mktemp(family))
        return made[family]

    return folder


@pytest.fixture(scope="session")
def policies(checkpoints: Callable[[str], Path]) -> Callable[[str], Policy]:
    """A family's policy with a frozen vision tower, loaded once; copy it before you train it."""
    from dyme.config import ModelConfig
    from dyme.model.policy import Policy

    loaded: dict[str, Policy] = {}

    def load(family: str) -> Policy:
        if family not in loaded:
            loaded[family] = Policy.load(ModelConfig(path=str(checkpoints(family))))
        return loaded[family]

    return load


@pytest.fixture
def forked_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a comparison in this process start its trainings as `forked.Child`."""
    from forked import Child

    from dyme.comparison import processes

    monkeypatch.setattr(processes, "subprocess", SimpleNamespace(Popen=Child, PIPE=subprocess.PIPE))


@pytest.fixture
def tiny_idefics3(checkpoints: Callable[[str], Path]) -> Path:
    """SmolVLM's class (SmolVLM-256M-Instruct and -500M-Instruct)."""
    return checkpoints("idefics3")


@pytest.fixture
def tiny_llava(checkpoints: Callable[[str], Path]) -> Path:
    """LLaVA 1.5's class."""
    return checkpoints("llava")


@pytest.fixture
def tiny_llava_onevision(checkpoints: Callable[[str], Path]) -> Path:
    """LLaVA-OneVision's class."""
    return checkpoints("llava_onevision")


@pytest.fixture
def tiny_llama(checkpoints: Callable[[str], Path]) -> Path:
    """A text-only model."""
    return checkpoints("llama")
