"""The on-disk cache of arrays computed from images, by digest. Safe to delete.

In: digests and arrays: pixels from scan and batches, features from training. Out: rows of arrays for batches, nearly at
the speed of copying memory.

    <root>/<name>/lock               held shared by every process that has the folder open
                  index.sqlite       digest -> slot, checksum; its user_version names the data file
                  data-<version>.bin records of one array each

Arrays are written before they are indexed, so a kill at any moment leaves at most records without an index entry. Every
record is verified on reading by its checksum, which is seeded with its digest. Nothing here raises for a disk that is
full, read-only or damaged, or a file that another process truncates: `problem` describes it, and missing arrays are
computed again.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tellapart.data import pixels as road
from tellapart.data.record_store import FAILURES, Record, Shelf, bytes_left, checksum, evict_least_used, seed
from tellapart.files import cache_root
from tellapart.task import ImageSpec

DEFAULT_LIMIT = 20 * 2**30
"""Disk limit in bytes for all decoded images of this user; and for all features."""

_COMMIT_BYTES = 16 * 2**20
_READ_AT_ONCE = 32
_HELD_BYTES = 64 * 2**20


def content_digest(content: bytes | NDArray[np.uint8]) -> str:
    """The key of an image: the digest of a file's bytes, or of an array.

    >>> content_digest(b"")
    'cae66941d9efbd404e4d88758ea67670'
    """
    data = content if isinstance(content, bytes) else np.ascontiguousarray(content).data
    return hashlib.blake2b(data, digest_size=16).hexdigest()


class ArrayCache:
    """Arrays of one shape and type, computed in one way. Close it, or use it in a `with`. All methods are thread-safe.

    name: of the folder under root; equal for arrays computed in the same way. what: the kind of arrays, for messages.
    limit_bytes applies to all folders under the root together: when it is reached, folders that no process has open are
    evicted, least recently used first; then arrays that this process never requested; then put() declines.
    """

    def __init__(
        self,
        name: str,
        shape: tuple[int, ...],
        dtype: DTypeLike,
        *,
        root: Path,
        what: str,
        limit_bytes: int = DEFAULT_LIMIT,
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.problem = ""
        self._what = what
        self._root = root
        self.limit_bytes = limit_bytes
        self._record_bytes = int(np.prod(shape)) * self.dtype.itemsize
        self._lock = threading.RLock()
        self._pending: dict[str, Record] = {}
        self._damaged: set[str] = set()
        self._wanted: set[str] = set()
        self._full = self._emptied = False
        self._shelf: Shelf | None = None
        try:
            self._shelf = Shelf(self._root / name, self._record_bytes)
        except FAILURES as error:
            self._give_up(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Write pending arrays and release the folder. Closing twice is fine."""
        with self._lock:
            self.flush()
            if self._shelf is not None:
                self._shelf.close()
                self._shelf = None

    def missing(self, digests: Iterable[str]) -> set[str]:
        """Those of the digests whose arrays are not cached."""
        wanted = set(digests)
        with self._lock:
            self._wanted |= wanted
            return wanted - self._find(list(wanted - self._pending.keys())).keys() - self._pending.keys()

    def put(self, digest: str, values: NDArray[np.generic]) -> bool:
        """Cache an array (not to be changed afterwards). Returns False if it cannot be cached.

        Written in groups: pending arrays are lost in a kill, and written by flush() and close(). Raises ValueError for
        an array of another shape or type.
        """
        if values.shape != self.shape or values.dtype != self.dtype:
            raise ValueError(f"Given {values.dtype}, {values.shape}; expected {self.dtype}, {self.shape}.")
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        record = Record(digest, data, checksum(data.data, seed(digest)))
        with self._lock:
            if self._shelf is None or self._full:
                return False
            self._wanted.add(digest)
            self._pending[digest] = record
            if len(self._pending) * self._record_bytes >= _COMMIT_BYTES:
                self.flush()
        return True

    def flush(self) -> None:
        """Write pending arrays."""
        with self._lock:
            if self._shelf is None or not self._pending:
                return
            records = list(self._pending.values())
            try:
                fitting = self._make_room(self._shelf, len(records) * self._record_bytes) // self._record_bytes
                self._shelf.write(records[:fitting], replacing=self._damaged)
            except FAILURES as error:
                self._give_up(error)
                return
            finally:
                self._pending.clear()
            self._damaged.difference_update(record.digest for record in records[:fitting])
            if fitting < len(records):
                self._full = True
                self.problem = (
                    f"The {self._what} in {self._root} reached their limit ({self.limit_bytes / 2**30:.3g} GiB, or the "
                    "disk is nearly full); the others are computed each time they are needed, which is slower."
                )

    def store(self, digests: Sequence[str]) -> Store:
        """Rows of arrays in the order of the digests. Valid while the cache is open."""
        with self._lock:
            self._wanted.update(digests)
        return Store(self, digests)

    def _find(self, digests: Sequence[str]) -> dict[str, tuple[int, int]]:
        """digest -> slot, checksum of those on disk."""
        if self._shelf is None:
            return {}
        try:
            found = self._shelf.find(digests)
        except FAILURES as error:
            self._give_up(error)
            return {}
        for digest in self._damaged.intersection(found):
            del found[digest]
        return found

    def _make_room(self, shelf: Shelf, needed: int) -> int:
        """Number of bytes that may be written now, at most `needed`."""
        left = bytes_left(self._root, self.limit_bytes)
        if left < needed:
            evict_least_used(self._root, self.limit_bytes, needed, spared=shelf.folder)
            left = bytes_left(self._root, self.limit_bytes)
        # A folder in long use may hold mostly old images: it is emptied once, if no other process reads it.
        if left < needed and not self._emptied and len(self._wanted) * 2 < shelf.count():
            self._emptied = shelf.empty()
            left = bytes_left(self._root, self.limit_bytes)
        return max(0, min(needed, left))

    def _give_up(self, error: Exception) -> None:
        self.problem = (
            f"The {self._what} cannot be kept in {self._root} ({error}); they are computed each time they are needed, "
            "which is slower. Set TELLAPART_CACHE to a writable folder."
        )
        if self._shelf is not None:
            self._shelf.close()
            self._shelf = None


class PixelCache(ArrayCache):
    """The decoded images of one ImageSpec: uint8, shape spec.shape."""

    def __init__(self, spec: ImageSpec, *, root: Path | None = None, limit_bytes: int = DEFAULT_LIMIT) -> None:
        self.spec = spec
        super().__init__(
            f"{spec.key}-{road.ROAD}",
            spec.shape,
            np.uint8,
            root=root or cache_root() / "pixels",
            what="decoded images",
            limit_bytes=limit_bytes,
        )


class Store:
    """Rows of arrays in the order of the requested digests. Made by ArrayCache.store; thread-safe."""

    def __init__(self, cache: ArrayCache, digests: Sequence[str]) -> None:
        self._cache = cache
        self._digests = tuple(digests)
        self._slots = np.full(len(self._digests), -1, np.int64)
        self._sums = np.zeros(len(self._digests), np.int64)
        self._seeds = np.array([seed(digest) for digest in self._digests], np.uint64)
        self._version = -1
        # Several small records are read at once: one system call each would take longer than reading their bytes. Pages
        # of an array that nothing was written to take no memory.
        few = len(self._digests) * cache._record_bytes <= _HELD_BYTES
        self._held = np.empty((len(self._digests) if few else 0, cache._record_bytes), np.uint8)
        self._is_held = np.zeros(len(self._digests), bool)
        self._was_read = np.zeros(len(self._digests), bool)

    def take(self, rows: NDArray[np.intp], out: NDArray[np.generic]) -> NDArray[np.intp]:
        """Copy rows (n,) into out (n, *shape), contiguous. Returns the positions in `rows` that are not cached; their
        part of out is undefined."""
        flat = out.reshape(len(rows), int(np.prod(out.shape[1:]))).view(np.uint8)
        if self._is_held[rows].all():
            # clip: any other mode copies through a buffer.
            np.take(self._held, rows, axis=0, out=flat, mode="clip")
            return np.empty(0, np.intp)
        absent = self._read(rows, flat.reshape(-1).data)
        if len(self._held):
            # Only what is read again is held: filling new memory takes longer than reading it.
            again = np.flatnonzero(self._was_read[rows])
            again = again[~np.isin(again, absent)] if len(absent) else again
            self._held[rows[again]] = flat[again]
            self._is_held[rows[again]] = True
            self._was_read[rows] = True
        return absent

    def _read(self, rows: NDArray[np.intp], flat: memoryview) -> NDArray[np.intp]:
        """Fill flat with the records of the rows, consecutively; returns the positions of those that are missing."""
        size = self._cache._record_bytes
        with self._cache._lock:
            shelf = self._locate(rows)
            slots, sums, seeds = self._slots[rows], self._sums[rows].tolist(), self._seeds[rows].tolist()
        absent = slots < 0
        if shelf is None:
            return np.flatnonzero(absent)
        places = slots.tolist()  # Python numbers: iterating an array takes ten times as long
        for first, last in _runs(places):
            part = flat[first * size : last * size]
            whole = self._read_some(shelf, places[first], part) // size
            for place in range(first, last):
                record = part if last - first == 1 else flat[place * size : (place + 1) * size]
                if place >= first + whole or checksum(record, seeds[place]) != sums[place]:
                    absent[place] = True
        self._forget(rows[absent & (slots >= 0)])
        return np.flatnonzero(absent)

    def _read_some(self, shelf: Shelf, slot: int, out: memoryview) -> int:
        try:
            return shelf.read(slot, out)
        except ValueError:  # closed meanwhile
            return 0
        except FAILURES as error:
            with self._cache._lock:
                self._cache._give_up(error)
            return 0

    def _forget(self, rows: NDArray[np.intp]) -> None:
        """Remember that these are damaged on disk."""
        with self._cache._lock:
            self._slots[rows] = -1
            self._cache._damaged.update(self._digests[row] for row in rows)

    def _locate(self, rows: NDArray[np.intp]) -> Shelf | None:
        """Look up the rows that were not found before; returns the folder that their slots refer to."""
        shelf = self._cache._shelf
        if shelf is None:
            self._slots[:] = -1
        elif shelf.version != self._version:
            self._version = shelf.version
            self._slots[:] = -1
            self._look_up(np.arange(len(self._digests)))
        else:
            self._look_up(rows[self._slots[rows] < 0])
        return shelf

    def _look_up(self, rows: NDArray[np.intp]) -> None:
        found = self._cache._find([self._digests[row] for row in rows]) if len(rows) else {}
        for row in rows:
            if self._digests[row] in found:
                self._slots[row], self._sums[row] = found[self._digests[row]]


def _runs(slots: Sequence[int]) -> Iterator[tuple[int, int]]:
    """First and last + 1 position of each run of consecutive records in the file, short enough to be verified while
    still in the processor's cache; rows without a slot are skipped.

    >>> list(_runs([7, 8, -1, 0, 3]))
    [(0, 2), (3, 4), (4, 5)]
    """
    first = 0
    for place in range(1, len(slots) + 1):
        follows = place < len(slots) and slots[place] == slots[place - 1] + 1 and slots[first] >= 0
        if not follows or place - first == _READ_AT_ONCE:
            if slots[first] >= 0:
                yield first, place
            first = place
