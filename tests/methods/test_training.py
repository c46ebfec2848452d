"""Every method that ships trains the embedded model through the one loop; what is drawn at random or remembered goes on bit by bit."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
from runs import small

from dyme.methods import COMPARED, METHODS
from dyme.rollout import hf
from dyme.tracking.run_folder import RunFolder
from dyme.training.loop import train

OTHERS = [name for name in METHODS if name not in COMPARED]
"""The others have whole runs in tests/training/test_loop.py."""
WORDS = ["task.train_size=6", "run.save_every=0", "train.max_prompts=8"]
FEWER = ["train.prompts_per_step=2", "train.max_prompts=4"]


@pytest.mark.parametrize("name", OTHERS)
def test_a_method_trains_two_steps(name: str, tmp_path: Path) -> None:
    train(small(tmp_path / "run", f"method.name={name}", *WORDS, *FEWER))
    run = RunFolder.open(tmp_path / "run")
    steps, rows = run.steps(), list(run.rollouts())
    assert [step.step for step in steps] == [1, 2] and all(math.isfinite(step.metrics["loss"]) for step in steps)
    assert sum(step.metrics["trained_tokens"] for step in steps) > 0 and all(row["reason"] for row in rows)
    assert run.versions()["method"]["source"] == METHODS[name].source


@pytest.mark.parametrize("name", ["yoked_random", "budget"])
def test_a_run_goes_on_bit_by_bit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped after the first step of two; the second memorizes what failed in both."""
    words, own = [f"method.name={name}", *WORDS, *(["method.buffer_size=5"] if name == "budget" else [])], hf.sample
    whole = train(small(tmp_path / "whole", *words))

    def interrupted(*args: Any, **known: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return own(*args, **known)

    monkeypatch.setattr(hf, "sample", interrupted)
    part = small(tmp_path / "part", *words)
    assert train(part) == tmp_path / "part/checkpoints/step-000001/model"
    monkeypatch.undo()
    final = train(part, resume=True)
    assert (final / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert (tmp_path / "part/rollouts.jsonl").read_bytes() == (tmp_path / "whole/rollouts.jsonl").read_bytes()
    kept = [json.loads((tmp_path / run / "checkpoints/step-000002/method.json").read_text(encoding="utf-8")) for run in ("whole", "part")]
    assert kept[0] == kept[1]
    if name == "budget":
        rows = [row for row in RunFolder.open(tmp_path / "whole").rollouts() if row["step"] == 2]
        assert len(rows) > 4 == sum(bool(row["completions"]) for row in rows) and {row["mode"] for row in rows} <= {"memorize", "skip"}
