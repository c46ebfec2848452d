"""Accepted answers of an LLM on disk, by the content of the question."""

from __future__ import annotations

import random
import sqlite3
import threading
import time
from pathlib import Path

from dyme.errors import ConfigError

PATIENCE = 30.0
"""Seconds to try for while another process has the file."""


class AnswerCache:
    """Accepted answers by key in one SQLite file; several threads and processes may use it, and a killed one leaves it whole."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises ConfigError if it cannot be used."""
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            _execute(self._db, "PRAGMA journal_mode=WAL")
            _execute(self._db, "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID")
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"{path} cannot be used as a cache of LLM answers ({error}); move it away or name another file") from error

    def get(self, key: str) -> str | None:
        """The stored answer, if any."""
        with self._lock:
            row = self._db.execute("SELECT text FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, text: str) -> None:
        """Store an answer; the first one stays if two were asked for at once."""
        with self._lock:
            self._db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, text))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _execute(db: sqlite3.Connection, statement: str) -> None:
    """Execute what SQLite refuses at once, without waiting, while another process does the same to a new file."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            db.execute(statement)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) or time.monotonic() > until:
                raise
            time.sleep(random.uniform(0.005, 0.05))
        else:
            return
