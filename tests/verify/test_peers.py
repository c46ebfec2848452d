"""The table of docs/metrics.md about other checkers' tests, recomputed from their cases; every false accept has its reason."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from runs import ROOT

from dyme.verify.answers import VERIFIERS
from dyme.verify.worker import shared


@pytest.fixture(scope="module")
def peers() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        patch.setattr(shared(), "seconds", 60.0)  # so that no verdict hangs on how busy the machine is
        yield importlib.import_module("peers")
        sys.modules.pop("peers", None)


@pytest.fixture(scope="module")
def judged(peers: ModuleType) -> list[Any]:
    return list(peers.suites())


def test_the_table_is_the_computed_one(peers: ModuleType, judged: list[Any]) -> None:
    document = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    assert peers.fill(document, peers.table(judged)) == document, "python benchmarks/peers.py --write docs/metrics.md"


def test_every_false_accept_has_its_reason_and_no_reason_is_left_over(judged: list[Any]) -> None:
    accepted = [case for suite in judged for case in suite.false_accepts]
    assert [(case.gold, case.prediction) for case in accepted if not case.defended] == []
    assert [case for suite in judged for case in suite.cases if case.defended and case not in accepted] == []


def test_the_suites_are_many_and_judge_both_ways(judged: list[Any]) -> None:
    assert len(judged) >= 20 and sum(len(suite.cases) for suite in judged) >= 800
    assert {case.kind for suite in judged for case in suite.cases} <= set(VERIFIERS)
    for suite in judged:
        assert len({(case.gold, case.prediction, case.right) for case in suite.cases}) == len(suite.cases)
    assert sum(not case.right for suite in judged for case in suite.cases) > 200
