"""A folder of records on disk: its lock, index and data file, and what is evicted when space runs out.

The lower half of data.cache, which describes the layout of the folder. Raises OSError and sqlite3.Error (FAILURES).
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import xxhash
from numpy.typing import NDArray

try:
    import fcntl
except ImportError:  # Windows refuses to remove open files, which serves the same purpose
    fcntl = None  # type: ignore[assignment]

FAILURES = (OSError, sqlite3.Error)

# sqlite's application_id; changed with every change of the layout or the checksum, so that an older index is discarded.
_OURS = 0x7E11A9A8
_READS_AT_A_PLACE = hasattr(os, "preadv")  # not on Windows
_KEPT_FREE = 2 * 2**30
_QUERY = 500


@dataclass(frozen=True, slots=True)
class Record:
    """data: contiguous bytes; checksum: computed by `checksum`."""

    digest: str
    data: NDArray[np.uint8]
    checksum: int


def seed(digest: str) -> int:
    """The seed of a record's `checksum`, from its digest."""
    return xxhash.xxh3_64_intdigest(digest.encode())


def checksum(data: memoryview, seed: int) -> int:
    """XXH3 of a record (bytes,), seeded from its digest, limited to a positive integer of sqlite: detects a flipped
    bit, swapped words and the record of another image, at the speed of reading memory.

    >>> record = memoryview(b"0123456789abcdef")
    >>> len({checksum(record, seed("a")), checksum(record, seed("b")), checksum(record[:8], seed("a"))})
    3
    """
    return xxhash.xxh3_64_intdigest(data, seed) & (2**63 - 1)


class Shelf:
    """An open folder. version is different for every new index. Its owner locks; only `read` is thread-safe."""

    def __init__(self, folder: Path, record_bytes: int) -> None:
        self.folder = folder
        self._record_bytes = record_bytes
        self._seeking = threading.Lock()
        self._lock = _hold(folder)
        try:
            self._open()
        except FAILURES:
            self._lock.close()
            raise

    def _open(self) -> None:
        try:
            self._index, self.version = _open_index(self.folder / "index.sqlite")
        except sqlite3.OperationalError:
            raise  # a problem of the disk, not of the content
        except sqlite3.DatabaseError:
            _clear(self.folder)
            self._index, self.version = _open_index(self.folder / "index.sqlite")
        data = self.folder / f"data-{self.version:08x}.bin"
        for other in self.folder.glob("data-*.bin"):
            if other != data:
                with suppress(OSError):
                    other.unlink()
        try:
            handle = os.open(data, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError:
            self._index.close()
            raise
        self._data = os.fdopen(handle, "r+b", buffering=0)

    def close(self) -> None:
        self._index.close()
        with suppress(OSError):  # a full disk is reported by write()
            self._data.close()
        self._lock.close()

    def count(self) -> int:
        """Number of records in the index."""
        return int(self._index.execute("SELECT count(*) FROM images").fetchone()[0])

    def find(self, digests: Sequence[str]) -> dict[str, tuple[int, int]]:
        """digest -> slot, checksum of those whose record is within the data file."""
        length = self._length()
        found = {}
        for start in range(0, len(digests), _QUERY):
            some = digests[start : start + _QUERY]
            marks = ",".join("?" * len(some))
            rows = self._index.execute(f"SELECT digest, slot, checksum FROM images WHERE digest IN ({marks})", some)
            found.update({digest: (slot, total) for digest, slot, total in rows if slot < length})
        return found

    def write(self, records: Sequence[Record], *, replacing: Set[str]) -> None:
        """Add the records that are missing, and overwrite the damaged ones of `replacing`. All or none.

        The write lock of the index keeps other processes from using the same slots.
        """
        self._index.execute("BEGIN IMMEDIATE")
        try:
            self._index.execute("DELETE FROM images WHERE slot >= ?", (self._length(),))
            known = self.find([record.digest for record in records])
            (last,) = self._index.execute("SELECT max(slot) FROM images").fetchone()
            slot = 0 if last is None else last + 1
            rows = []
            for record in records:
                if record.digest not in known:
                    place, slot = slot, slot + 1
                elif record.digest in replacing:
                    place = known[record.digest][0]
                else:
                    continue
                self._write(place * self._record_bytes, record.data.data)
                rows.append((record.digest, place, record.checksum))
            self._index.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?)", rows)
            self._index.execute("COMMIT")
        except BaseException:
            if self._index.in_transaction:
                self._index.execute("ROLLBACK")
            raise

    def read(self, slot: int, out: memoryview) -> int:
        """Fill out, a buffer of bytes, with the records from the slot on; returns how many bytes the file had.
        Thread-safe.

        Read, not memory-mapped: if another process truncates a mapped file, reading it kills the process (SIGBUS).
        """
        place = slot * self._record_bytes
        done = self._read_some(out, place)
        while 0 < done < len(out) and (more := self._read_some(out[done:], place + done)):
            done += more
        return done

    def _read_some(self, out: memoryview, place: int) -> int:
        if _READS_AT_A_PLACE:
            return os.preadv(self._data.fileno(), (out,), place)
        with self._seeking:
            self._data.seek(place)
            return self._data.readinto(out) or 0

    def empty(self) -> bool:
        """Remove all records. Returns False, and does nothing, if another process has the folder open."""
        if fcntl is None:
            return False
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            return False
        self._index.close()
        self._data.close()
        _clear(self.folder)
        self._open()
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        return True

    def _write(self, place: int, data: memoryview) -> None:
        with self._seeking:
            self._data.seek(place)
            while data:
                data = data[self._data.write(data) :]

    def _length(self) -> int:
        """Number of whole records in the data file."""
        return os.fstat(self._data.fileno()).st_size // self._record_bytes


def bytes_left(root: Path, limit: int) -> int:
    """Bytes that may still be written under the root: up to the limit, leaving some of the disk free."""
    taken = 0
    for path in root.glob("*/data-*.bin"):
        with suppress(FileNotFoundError):
            taken += path.stat().st_size
    disk = shutil.disk_usage(root)
    return min(limit - taken, disk.free - min(_KEPT_FREE, disk.total // 20))


def evict_least_used(root: Path, limit: int, needed: int, *, spared: Path) -> None:
    """Remove folders that no process has open, least recently used first, until `needed` bytes are free."""
    locks = []
    for lock in root.glob("*/lock"):
        with suppress(FileNotFoundError):
            locks.append((lock.stat().st_mtime_ns, lock))
    for _, lock in sorted(locks):
        if bytes_left(root, limit) >= needed:
            return
        if lock.parent != spared:
            _remove(lock)


def _remove(lock: Path) -> None:
    """Remove the folder of this lock, unless a process holds it."""
    with suppress(OSError), lock.open("ab") as file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _clear(lock.parent)
        lock.unlink()
        lock.parent.rmdir()


def _clear(folder: Path) -> None:
    """Remove the data first: if an open file cannot be removed, the index stays as well."""
    for path in (*folder.glob("data-*.bin"), *folder.glob("index.sqlite*")):
        path.unlink(missing_ok=True)


def _hold(folder: Path) -> BinaryIO:
    """The folder's lock, held shared; its modification time is the time of last use."""
    path = folder / "lock"
    for _ in range(100):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("ab")
        except FileNotFoundError:
            continue  # another process removed the folder meanwhile
        try:
            if fcntl is None:
                return file
            fcntl.flock(file, fcntl.LOCK_SH)
            os.utime(path)
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except FileNotFoundError:
            pass  # removed between opening and locking
        except OSError:
            file.close()
            raise
        file.close()
    raise OSError(f"{folder} is removed by other processes again and again")


def _open_index(path: Path) -> tuple[sqlite3.Connection, int]:
    """The index and its version. Raises sqlite3.DatabaseError (not its OperationalError) if it is unusable."""
    connection = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
    try:
        _keep_whole(connection)
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            connection.execute(f"PRAGMA application_id = {_OURS}")
            connection.execute(f"PRAGMA user_version = {1 + secrets.randbelow(2**31 - 1)}")
            connection.execute(
                "CREATE TABLE images (digest TEXT PRIMARY KEY, slot INTEGER UNIQUE, checksum INTEGER) WITHOUT ROWID"
            )
        connection.execute("COMMIT")
        sound = connection.execute("PRAGMA quick_check").fetchone() == ("ok",)
        if not sound or connection.execute("PRAGMA application_id").fetchone() != (_OURS,):
            raise sqlite3.DatabaseError(f"{path} is damaged or foreign")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except BaseException:
        connection.close()
        raise
    return connection, int(version)


def _keep_whole(connection: sqlite3.Connection) -> None:
    """As https://sqlite.org/pragma.html#pragma_synchronous advises, so that a power failure does not corrupt the index:
    NORMAL is enough for a write-ahead log; if the file system does not support one, FULL."""
    end = time.monotonic() + 60
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            # Switching does not wait for other processes, whatever the timeout, and another one may be creating the
            # same index.
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")
