"""benchmarks/verify.py judges every kind, by answers that are read and not all wrong."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from dyme.verify.answers import VERIFIERS, fault
from dyme.verify.answers import mathematics as equivalence

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_every_kind_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    module = importlib.import_module("verify")
    try:
        monkeypatch.setattr(equivalence.worker, "shared", lambda: pytest.fail("kinds are measured without algebra"))
        assert set(module.KINDS) == set(VERIFIERS)
        assert not [fault(sample) for kind in module.KINDS for _, sample in module.pairs(kind, 50) if fault(sample)]
        module.main(["--count", "40", "--algebra", "2", "--json", str(tmp_path / "out.json")])
    finally:
        for name in ("verify", "measure"):
            sys.modules.pop(name, None)
    figures = json.loads((tmp_path / "out.json").read_text())
    assert set(figures) == {*VERIFIERS, "algebra"} and all(value > 0 for rates in figures.values() for value in rates.values())
    assert "Judgements a second" in capsys.readouterr().out
