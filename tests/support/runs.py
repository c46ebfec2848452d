"""Small trainings of the embedded model, in this process or as the command line in one of its own."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from forked import Child

from dyme.config import Config
from dyme.recipe import build

ROOT = Path(__file__).parents[2]
SMALL = {
    "run": {"save_every": 2},
    "task": {"train_size": 16, "test_size": 2},
    "rollout": {"num_generations": 4, "max_completion_length": 16},
    "train": {"prompts_per_step": 4, "max_prompts": 12},
}
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])}


def small(output: Path, *overrides: str) -> Config:
    """A recipe of three steps into `output`, changed by "section.key=value" words."""
    return build(SMALL, [f"--run.output={output}", *(f"--{word}" for word in overrides)])


def recipe(path: Path, tree: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write a TOML recipe."""
    lines = [line for name, table in tree.items() for line in (f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in table.items()))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def start(*words: object, cwd: Path | None = None) -> Child:
    """Start `dyme WORDS` as a process."""
    return Child([sys.executable, "-m", "dyme", *words], env=ENVIRONMENT, cwd=cwd or ROOT)


def run(*words: object, cwd: Path | None = None, timeout: float = 180) -> tuple[int, str, str]:
    """Run `dyme WORDS` to its end: exit status, stdout, stderr."""
    process = start(*words, cwd=cwd)
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def snapshot(folder: Path) -> dict[str, str]:
    """Digest of every file below `folder`."""
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return {str(f.relative_to(folder)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def lines(file: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
