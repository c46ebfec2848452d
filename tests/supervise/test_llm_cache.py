"""The file of answers where several processes use it."""

import multiprocessing
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dyme.errors import ConfigError
from dyme.supervise.llm import cache as answer_cache
from dyme.supervise.llm.cache import AnswerCache

PROCESSES, FILES = 4, 150


def opened(folder: str, name: str, start: Any, told: Any) -> None:
    """Open each new file at the same time as the others, and store an answer."""
    for number in range(FILES):
        start.wait()
        try:
            cache = AnswerCache(Path(folder) / f"{number}.sqlite")
            cache.put(name, f"answer of {name}")
            cache.close()
        except Exception as error:
            told.put(repr(error))
        else:
            told.put("")


def test_processes_open_a_new_file_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, told = context.Barrier(PROCESSES), context.Queue()
    processes = [context.Process(target=opened, args=(str(tmp_path), f"p{k}", start, told)) for k in range(PROCESSES)]
    for process in processes:
        process.start()
    outcomes = [told.get(timeout=120) for _ in range(PROCESSES * FILES)]
    for process in processes:
        process.join()
    assert set(outcomes) == {""}
    cache = AnswerCache(tmp_path / "0.sqlite")
    assert [cache.get(f"p{k}") for k in range(PROCESSES)] == [f"answer of p{k}" for k in range(PROCESSES)]
    cache.close()


def test_a_file_that_stays_locked_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_cache, "PATIENCE", 0.1)
    holder = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ConfigError, match=r"database is locked.*name another file"):
        AnswerCache(tmp_path / "a.sqlite")
    holder.close()
