"""Accepted answers of an LLM on disk, by the content of the question."""

from __future__ import annotations

import random
import re
import sqlite3
import threading
import time
from pathlib import Path

import psutil

from dyme.errors import ConfigError

_NETWORK = re.compile(r"(?i)^(nfs|cifs|smb|lustre|gpfs|beegfs|ceph|gluster|afs|afp|9p|orangefs|panfs|pvfs|webdav|fuse\.)|\bremote\b")
"""File systems that several computers share, by psutil's names; "remote" stands for Windows' network drives."""
PATIENCE = 30.0
"""Longest wait, in seconds, while another process locks the file."""


class AnswerCache:
    """Accepted answers by key in one SQLite file; several threads and processes may use it, and killing one does not damage it."""

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises ConfigError if it cannot be used."""
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
            _execute(self._db, f"PRAGMA journal_mode={'DELETE' if on_network(path) else 'WAL'}")
            _execute(self._db, "CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID")
        except (sqlite3.Error, OSError) as error:
            raise ConfigError(f"{path} cannot be used as a cache of LLM answers ({error}); move it away or name another file") from error

    def get(self, key: str) -> str | None:
        """Return the stored answer, if any."""
        with self._lock:
            row = self._db.execute("SELECT text FROM answers WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def put(self, key: str, text: str) -> None:
        """Store an answer; if the key has one already, that one is kept."""
        with self._lock:
            self._db.execute("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, text))

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def on_network(path: Path) -> bool:
    """Return whether a file lies on a network file system, whose computers do not share the memory that SQLite's write-ahead log needs."""
    mounts = {Path(mount.mountpoint): f"{mount.fstype} {mount.opts}" for mount in psutil.disk_partitions(all=True)}
    found = next((mounts[folder] for folder in path.resolve().parents if folder in mounts), "")
    return _NETWORK.search(found) is not None


def _execute(db: sqlite3.Connection, statement: str) -> None:
    """Execute a statement, repeatedly while SQLite refuses it because another process executes it on a new file."""
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
