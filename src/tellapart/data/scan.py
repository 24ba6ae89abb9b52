"""Source -> pictures: every file read and decoded once, in parallel, with its digest, size, mode or error.

Where a cache is given, the same decoding fills it, so that training does not decode again. What was found is
remembered by (path, size, times): a second scan of unchanged files costs a stat each. Read by: api, training.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.config import ImageConfig
from tellapart.data import pixels
from tellapart.data.cache import PixelCache, content_digest
from tellapart.data.catalog import Picture
from tellapart.data.sources import open_row
from tellapart.data.sources.source import Source
from tellapart.errors import PictureError
from tellapart.files import cache_root
from tellapart.parallel import in_order
from tellapart.progress import SILENT, Progress
from tellapart.task import ImageSpec

SAMPLE = 32
SMALL_SIDE = 96
GREY_MODES = ("1", "L", "LA", "La", "I", "F")
COMMIT_SECONDS = 2.0
AHEAD = 256


def scan(
    source: Source,
    *,
    max_pixels: int,
    cache: PixelCache | None = None,
    progress: Progress = SILENT,
    stage: str = "reading pictures",
) -> tuple[Picture, ...]:
    """One Picture a row, in the source's order; one that cannot be decoded carries its error.

    Files are only read. A file whose size and times are as remembered is not opened, unless the cache lacks its pixels.
    """
    with _Memory() as memory:
        pictures: list[Picture | None] = [None] * len(source.rows)
        fresh: list[int] = []
        for index, row in enumerate(source.rows):
            known = memory.find(source.root, row.path)
            if known is None:
                fresh.append(index)
            else:
                pictures[index] = _checked(
                    replace(known, path=row.path, label=row.label, split=row.split, group=row.group), max_pixels
                )
        if cache is not None:
            known_digests = [p.digest for p in pictures if p is not None and not p.error]
            lacking = cache.missing(known_digests)
            fresh += [i for i, p in enumerate(pictures) if p is not None and not p.error and p.digest in lacking]
            fresh.sort()
        done = len(source.rows) - len(fresh)
        for index, picture, stamp in _decoded(source, fresh, max_pixels, cache):
            pictures[index] = picture
            memory.keep(stamp, picture)
            done += 1
            progress.update(stage, done, len(source.rows))
        if cache is not None:
            cache.flush()
        if not fresh:
            progress.update(stage, done, len(source.rows), "unchanged since the last scan")
    return tuple(p for p in pictures if p is not None)


Stamp = tuple[bytes, int, int, int]


def _decoded(
    source: Source, indices: list[int], max_pixels: int, cache: PixelCache | None
) -> Iterator[tuple[int, Picture, Stamp | None]]:
    """Decode in threads (Pillow lets go of the interpreter), in order, with a bounded number of results waiting."""

    def work(index: int) -> tuple[int, Picture, Stamp | None]:
        row = source.rows[index]
        picture = Picture(row.path, row.label, row.split, row.group)
        stamp = None
        try:
            opened = open_row(source.root, row.path)
            if isinstance(opened, Path):
                stamp = _stamp(opened)
                content: bytes | NDArray[np.uint8] = opened.read_bytes()
            else:
                content = opened
            digest = content_digest(content)
            picture = replace(picture, digest=digest)
            spec = cache.spec if cache is not None else None
            found = pixels.decode(content, spec, max_pixels=max_pixels)
            if cache is not None and found.pixels is not None:
                cache.put(digest, found.pixels)
            picture = replace(picture, width=found.width, height=found.height, mode=found.mode)
        except PictureError as error:
            picture = replace(picture, error=str(error))
        except OSError as error:
            picture = replace(picture, error=f"unreadable: {error.strerror or error}")
        return index, picture, stamp

    yield from in_order(work, indices, ahead=AHEAD)


def _checked(picture: Picture, max_pixels: int) -> Picture:
    """A remembered picture against today's bound."""
    if not picture.error and picture.width * picture.height > max_pixels:
        detail = f"{picture.width}x{picture.height}, the bound is {max_pixels}"
        return replace(picture, error=str(PictureError("too many pixels", detail)))
    return picture


def _stamp(path: Path) -> Stamp:
    state = path.stat()
    return os.fsencode(path.absolute()), state.st_size, state.st_mtime_ns, state.st_ctime_ns


class _Memory:
    """What earlier scans found, by absolute path. A machine on which nothing can be written simply has none."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._last = time.monotonic()

    def __enter__(self) -> _Memory:
        path = cache_root() / "scan-1.sqlite"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _open_memory(path)
        except sqlite3.DatabaseError:
            # A damaged memory is only a memory: it is begun anew.
            with suppress(OSError, sqlite3.Error):
                path.unlink(missing_ok=True)
                self._connection = _open_memory(path)
        except OSError:
            self._connection = None
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.commit()
            self._connection.close()

    def find(self, root: Path, path: str) -> Picture | None:
        if self._connection is None:
            return None
        try:
            name, size, mtime, ctime = _stamp(root / path)
            row = self._connection.execute(
                "SELECT digest, width, height, mode, error FROM pictures"
                " WHERE path = ? AND size = ? AND mtime = ? AND ctime = ?",
                (name, size, mtime, ctime),
            ).fetchone()
        except (OSError, sqlite3.Error):
            return None
        return None if row is None else Picture("", "", "", "", *row)

    def keep(self, stamp: Stamp | None, picture: Picture) -> None:
        # The bound on pixels may change from call to call, and an unreadable file may be readable next time.
        if self._connection is None or stamp is None or picture.error.startswith(("too many", "unreadable")):
            return
        with suppress(sqlite3.Error):
            self._connection.execute(
                "INSERT OR REPLACE INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (*stamp, picture.digest, picture.width, picture.height, picture.mode, picture.error),
            )
            if time.monotonic() - self._last > COMMIT_SECONDS:
                self._connection.commit()
                self._last = time.monotonic()


def _open_memory(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS pictures (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, ctime INTEGER,"
        " digest TEXT, width INTEGER, height INTEGER, mode TEXT, error TEXT) WITHOUT ROWID"
    )
    return connection


def decide_spec(source: Source, config: ImageConfig, side: int, max_pixels: int) -> tuple[ImageSpec, list[str]]:
    """The picture the network will see, and in words what was chosen from a sample of the pictures.

    Small pictures that are all alike keep their size; others take `side`, the model's own. All grey: one channel.
    """
    step = max(1, len(source.rows) // SAMPLE)
    seen = []
    for row in source.rows[::step][:SAMPLE]:
        with suppress(PictureError, OSError):
            seen.append(pixels.decode(open_row(source.root, row.path), None, max_pixels=max_pixels))
    height, width, channels = config.height, config.width, config.channels
    decided = []
    if height is None or width is None:
        sizes = {(found.height, found.width) for found in seen}
        if height is None and width is None and len(sizes) == 1 and max(min(sizes)) <= SMALL_SIDE:
            height, width = next(iter(sizes))
            decided.append(f"the pictures are all {height}x{width} and keep that size")
        else:
            height, width = height or width or side, width or height or side
    if channels is None:
        channels = 1 if seen and all(found.mode.startswith(GREY_MODES) for found in seen) else 3
        if channels == 1:
            decided.append("the pictures are grey, so the network has one channel")
    return ImageSpec(height, width, channels, config.fit, config.interpolation), decided
