"""Small images on disk by the digest of the file that they show, made once for all studios. Safe to delete.

Nothing here raises for a disk that is full, read-only or damaged: what is lacking is made anew.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

from tellapart.files import cache_root

LIMIT = 512 * 2**20
"""Bytes of all small images; about 80,000 photographs. Beyond, the oldest quarter gives way."""

_USED = (
    "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, pragma_freelist_count, pragma_page_size"
)


class Thumbnails:
    """One file of the user's cache. Any thread may call its methods."""

    def __init__(self, folder: Path | None = None, limit: int = LIMIT) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._database: sqlite3.Connection | None = None
        file = (folder or cache_root() / "thumbnails") / "thumbnails.sqlite"
        with suppress(OSError, sqlite3.Error):
            file.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._database = _opened(file)
            except sqlite3.DatabaseError:  # damaged; locked ones are opened and fail later
                file.unlink(missing_ok=True)
                self._database = _opened(file)

    def get(self, key: str) -> tuple[bytes, str] | None:
        """A file and its media type, as they were put."""
        with self._lock, suppress(sqlite3.Error):
            if self._database is not None:
                row = self._database.execute("SELECT content, kind FROM image WHERE key = ?", (key,)).fetchone()
                return None if row is None else (bytes(row[0]), str(row[1]))
        return None

    def put(self, key: str, content: bytes, kind: str) -> None:
        with self._lock, suppress(sqlite3.Error):
            if self._database is None:
                return
            with self._database as database:
                database.execute("INSERT OR REPLACE INTO image VALUES (?, ?, ?)", (key, kind, content))
                (used,) = database.execute(_USED).fetchone()
                if used > self._limit:
                    database.execute(
                        "DELETE FROM image WHERE rowid IN (SELECT rowid FROM image ORDER BY rowid "
                        "LIMIT (SELECT max(1, count(*) / 4) FROM image))"
                    )

    def close(self) -> None:
        with self._lock, suppress(sqlite3.Error):
            if self._database is not None:
                self._database.close()
                self._database = None


def _opened(file: Path) -> sqlite3.Connection:
    database = sqlite3.connect(file, timeout=2, check_same_thread=False)
    try:
        database.execute("PRAGMA synchronous = OFF")  # what a crash takes is made anew
        database.execute("CREATE TABLE IF NOT EXISTS image (key TEXT PRIMARY KEY, kind TEXT, content BLOB)")
        database.execute("SELECT count(*) FROM image").fetchone()
    except sqlite3.Error:
        database.close()
        raise
    return database
