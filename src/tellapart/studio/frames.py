"""Frames -> new files, which can be removed again as long as they are what was written, and come back by undo.

Files that were there before, and those that somebody changed since, are not touched.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from tellapart.data.cache import content_digest
from tellapart.errors import ConfigError
from tellapart.files import replacing

UNDO = 100_000_000
"""Bytes of removed frames that are held in memory for undo; the oldest removals give way."""


@dataclass(frozen=True, slots=True)
class Frame:
    """take: the number of the go in which it was made. digest: of what was written."""

    path: Path
    take: str
    digest: str


class Frames:
    """The files that a session wrote. Any thread may call its methods. version: grows with every change."""

    def __init__(self, limit: int = UNDO) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._there: dict[int, Frame] = {}
        self._removed: list[list[tuple[int, Frame, bytes]]] = []
        self._next = 0
        self.version = 0

    @property
    def undos(self) -> int:
        return len(self._removed)

    def newest(self, count: int) -> list[tuple[int, Frame]]:
        """Frames with their numbers, those of the newest take first, in the order in which they were made. Frames whose
        file somebody removed are passed over."""
        with self._lock:
            there = sorted(self._there.items(), reverse=True)
        found = list(islice((item for item in there if item[1].path.exists()), count))
        return sorted(found, key=lambda item: (-int(item[1].take), item[0]))

    def write(self, folder: Path, take: str, content: bytes, number: int) -> Path:
        """A new file, whose name has at least this number. Raises ConfigError."""
        place = _free(folder / f"take-{take}-{number:06}.jpg")
        _write(place, content)
        with self._lock:
            self._there[self._next] = Frame(place, take, content_digest(content))
            self._next += 1
            self.version += 1
        return place

    def read(self, number: int) -> bytes:
        """Raises ConfigError for a frame that this session did not write, or that is gone or changed."""
        frame = self._there.get(number)
        if frame is None:
            raise ConfigError("This session has no such frame.")
        try:
            content = frame.path.read_bytes()
        except OSError as error:
            raise ConfigError(f"{frame.path} cannot be read: {error.strerror}.") from None
        if content_digest(content) != frame.digest:
            raise ConfigError(f"{frame.path} was changed since it was written, and is left alone.")
        return content

    def remove(self, numbers: Sequence[int]) -> int:
        """Delete the files of these frames; how many. Raises ConfigError, as `read`, and for too many at once."""
        with self._lock:
            taken: list[tuple[int, Frame, bytes]] = []
            for number in dict.fromkeys(numbers):
                content = self.read(number)
                taken.append((number, self._there[number], content))
                if sum(len(each) for _, _, each in taken) > self._limit:
                    raise ConfigError("These are too many to be undone. Remove fewer at once.")
            gone: list[tuple[int, Frame, bytes]] = []
            self._removed.append(gone)
            self.version += 1
            for each in taken:
                number, frame, _ = each
                try:
                    frame.path.unlink()
                except OSError as error:
                    raise ConfigError(f"{frame.path} cannot be removed: {error.strerror}.") from None
                del self._there[number]
                gone.append(each)
            self._forget()
            return len(gone)

    def restore(self) -> int:
        """Write what was removed last again; how many. Raises ConfigError where it cannot be written."""
        with self._lock:
            self._removed = [removal for removal in self._removed if removal]
            if not self._removed:
                return 0
            for number, frame, content in self._removed[-1]:
                place = _free(frame.path)
                _write(place, content)
                self._there[number] = replace(frame, path=place)
            self.version += 1
            return len(self._removed.pop())

    def _forget(self) -> None:
        def held() -> int:
            return sum(len(content) for removal in self._removed for _, _, content in removal)

        while len(self._removed) > 1 and held() > self._limit:
            del self._removed[0]


def _free(place: Path) -> Path:
    """The path, or one with a later number where that is taken."""
    stem, _, number = place.stem.rpartition("-")
    count = int(number)
    while place.exists():
        count += 1
        place = place.with_name(f"{stem}-{count:06}.jpg")
    return place


def _write(place: Path, content: bytes) -> None:
    try:
        with replacing(place) as neighbour:
            neighbour.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"{place} cannot be written: {error.strerror}.") from None
