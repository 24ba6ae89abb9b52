"""Source -> images: every file read and decoded once, in parallel, with its digest, size, mode, hash or error.

If a cache is given, the same decoding fills it, so that training does not decode again. Results are stored by (path,
size, times): a second scan of unchanged files takes one stat call each.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.config import DataConfig, ImageConfig
from tellapart.data import perceptual_hash as fingerprints
from tellapart.data import pixels
from tellapart.data.cache import PixelCache, content_digest
from tellapart.data.catalog import Catalog, ImageRecord
from tellapart.data.decode_pool import IsolatedDecoder
from tellapart.data.exif import shot_of
from tellapart.data.image_file import read_file, within
from tellapart.data.sources import open_row
from tellapart.data.sources.members import member_of
from tellapart.data.sources.source import LabelledPath, Source, source_of_catalog
from tellapart.errors import ImageError
from tellapart.files import cache_root
from tellapart.parallel import cores, in_order, without_collecting
from tellapart.progress import SILENT, Phase, Progress
from tellapart.task import Fit, ImageSpec

SAMPLE = 32
SMALL_SIDE = 96
GREY_MODES = ("1", "L", "LA", "La", "I", "F")
COMMIT_SECONDS = 2.0
GROUP = 16
GROUP_BYTES = 2 * 2**20
QUERY = 500


def scan(
    source: Source,
    config: DataConfig,
    *,
    cache: PixelCache | None = None,
    progress: Progress = SILENT,
) -> tuple[ImageRecord, ...]:
    """One ImageRecord per row, in the source's order; one that cannot be decoded has an error, as has a damaged one if
    the configuration excludes those.

    Files are only read. An unchanged file (by size and times) is not opened, unless the cache lacks its pixels.
    """
    with _Memory() as memory, _decoder(config) as decoder:
        with without_collecting():
            stamps = _stamps(source)
            images = memory.recall(source, stamps, config)
        lacking: set[str] = set()
        if cache is not None:
            lacking = cache.missing(p.digest for p in images if p is not None and not p.error)
        fresh = [i for i, p in enumerate(images) if p is None or (not p.error and p.digest in lacking)]
        stage, done = Phase.READING, len(source.rows) - len(fresh)
        spec = None if cache is None else cache.spec
        decode = partial(decoder.decode_where_due, spec=spec, max_pixels=config.max_pixels)
        for group in _decoded(source, stamps, _groups(fresh, stamps), config, decode, images):
            memory.keep(group)
            for found in group:
                images[found.index] = found.image
                if cache is not None and found.pixels is not None:
                    cache.put(found.image.digest, found.pixels)
                done += 1
                progress.update(stage, done, len(source.rows))
        if cache is not None:
            cache.flush()
        if not fresh:
            progress.update(stage, done, len(source.rows), "unchanged since the last scan")
    return tuple(_judged(p, config) for p in images if p is not None)


def _lasts(error: str) -> bool:
    """Whether the result may be stored: no error, or one caused by the file itself."""
    return ImageError.reason_of(error) not in ImageError.PASSING


def _judged(image: ImageRecord, config: DataConfig) -> ImageRecord:
    if config.damaged == "keep" or not image.warning or image.error:
        return image
    return replace(image, error=f"damaged: {image.warning}")


Stamp = tuple[bytes, int, int, int]
"""A file's absolute path, size, and the times of change of its content and its inode: equal if the file is unchanged.
Of a member of a container: its own path, no size, and the times of the container."""


@dataclass(frozen=True, slots=True)
class _Found:
    """The result for a row's file. stamp: None if it cannot be opened."""

    index: int
    image: ImageRecord
    stamp: Stamp | None
    pixels: NDArray[np.uint8] | None


def _stamps(source: Source) -> list[Stamp | None]:
    """The stamp of each row's file or member; None if it has none."""
    root = os.fspath(source.root.absolute())
    stamps: list[Stamp | None] = []
    containers: dict[Path, os.stat_result] = {}
    for row in source.rows:
        name = os.path.join(root, row.path)  # noqa: PTH118 - a Path an image takes longer than all else here
        try:
            if (member := member_of(source.root, row.path)) is not None:
                state = containers.get(member.file) or containers.setdefault(member.file, member.file.stat())
                stamps.append((os.fsencode(name), 0, state.st_mtime_ns, state.st_ctime_ns))
                continue
            stamps.append(_stamp(name, os.stat(name)))  # noqa: PTH116 - likewise
        except (OSError, ValueError):
            stamps.append(None)
    return stamps


def _stamp(name: str, state: os.stat_result) -> Stamp:
    return os.fsencode(name), state.st_size, state.st_mtime_ns, state.st_ctime_ns


def _groups(indices: list[int], stamps: list[Stamp | None]) -> list[list[int]]:
    """The indices in groups, one task each: a task per image would add a tenth to its decoding time. Groups of large
    files are small, so that stopping early does not take long."""
    groups: list[list[int]] = []
    held = GROUP_BYTES
    for index in indices:
        stamp = stamps[index]
        if held >= GROUP_BYTES or len(groups[-1]) == GROUP:
            groups.append([])
            held = 0
        groups[-1].append(index)
        held += 0 if stamp is None else stamp[1]
    return groups


def _decoded(
    source: Source,
    stamps: list[Stamp | None],
    groups: list[list[int]],
    config: DataConfig,
    decode: Callable[..., pixels.Decoded],
    known: Sequence[ImageRecord | None],
) -> Iterator[list[_Found]]:
    """Decode in threads (the decoders release the interpreter lock), in order, with few results waiting. known: the
    stored result of each row, for which only the pixels are needed."""
    root = os.fspath(source.root.absolute())

    def work(group: list[int]) -> list[_Found]:
        return [look(index) for index in group]

    def look(index: int) -> _Found:
        row = source.rows[index]
        stamp: Stamp | None = None
        digest, shot, decoded, error = "", "", pixels.Decoded(None, 0, 0, ""), ""
        try:
            opened = open_row(source.root, row.path)
            if isinstance(opened, Path):
                name = os.path.join(root, row.path)  # noqa: PTH118 - speed
                content: bytes | NDArray[np.uint8]
                content, state = read_file(name, config.max_bytes)
                stamp = _stamp(name, state)
            else:
                content, stamp = within(opened, config.max_bytes), stamps[index]
            digest = content_digest(content)
            before = known[index]
            if before is not None and before.digest == digest:
                return _Found(index, before, stamp, decode(content).pixels)
            shot = shot_of(content) if isinstance(content, bytes) else ""
            decoded = decode(content, thumbnail=True)
        except ImageError as problem:
            error = str(problem)
        size = (decoded.width, decoded.height, decoded.mode)
        looks = ""
        if decoded.thumbnail is not None:
            looks = fingerprints.fingerprint(decoded.thumbnail, min(decoded.width, decoded.height))
        image = ImageRecord(
            row.path, row.label, row.split, row.group, digest, *size, error, looks, decoded.warning, shot
        )
        return _Found(index, image, stamp, decoded.pixels)

    yield from in_order(work, groups, ahead=2 * cores())


def changed_images(
    catalog: Catalog, config: DataConfig, *, cache: PixelCache, progress: Progress
) -> tuple[list[str], bool]:
    """The paths of a catalog's images that are gone, or of other content now; and whether none of all can be read.
    Reads them as `scan` does."""
    found = scan(source_of_catalog(catalog), config, cache=cache, progress=progress)
    changed = [was.path for was, now in zip(catalog.images, found, strict=True) if was.digest != now.digest]
    return changed, all(now.error for now in found)


class _Memory:
    """Results of earlier scans, by absolute path. Empty on a machine without a writable cache."""

    def __init__(self) -> None:
        self._connection: sqlite3.Connection | None = None
        self._last = time.monotonic()

    def __enter__(self) -> _Memory:
        path = cache_root() / f"scan-3-{fingerprints.VERSION}.sqlite"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = _open_memory(path)
        except sqlite3.DatabaseError:
            # A damaged file of stored results is discarded.
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

    def recall(self, source: Source, stamps: list[Stamp | None], config: DataConfig) -> list[ImageRecord | None]:
        """The stored result of each row's file, checked against the current limit; None if it must be read."""
        known = self._known([stamp[0] for stamp in stamps if stamp is not None])
        images: list[ImageRecord | None] = []
        for row, stamp in zip(source.rows, stamps, strict=True):
            entry = None if stamp is None else known.get(stamp[0])
            if stamp is None or entry is None or entry[:3] != stamp[1:]:
                images.append(None)
                continue
            digest, width, height, mode, error, looks, warning, shot = entry[3:]
            if not error and stamp[1] > config.max_bytes:
                images.append(None)  # it is refused when opened
                continue
            if not error and width * height > config.max_pixels:
                error = str(ImageError("too many pixels", f"{width}x{height}, the limit is {config.max_pixels}"))
            found = (digest, width, height, mode, error, looks, warning, shot)
            images.append(ImageRecord(row.path, row.label, row.split, row.group, *found))
        return images

    def _known(self, names: list[bytes]) -> dict[bytes, tuple[Any, ...]]:
        """name -> the other columns."""
        known: dict[bytes, tuple[Any, ...]] = {}
        if self._connection is None:
            return known
        with suppress(sqlite3.Error):
            for start in range(0, len(names), QUERY):
                some = names[start : start + QUERY]
                marks = ",".join("?" * len(some))
                columns = "path, size, mtime, ctime, digest, width, height, mode, error, fingerprint, warning, shot"
                rows = self._connection.execute(f"SELECT {columns} FROM images WHERE path IN ({marks})", some)
                known.update((row[0], row[1:]) for row in rows)
        return known

    def keep(self, group: list[_Found]) -> None:
        # The limit on pixels may change between calls, and an unreadable file may become readable.
        rows = [
            (
                *found.stamp,
                image.digest,
                image.width,
                image.height,
                image.mode,
                image.error,
                image.fingerprint,
                image.warning,
                image.shot,
            )
            for found in group
            if found.stamp is not None and _lasts((image := found.image).error)
        ]
        if self._connection is None or not rows:
            return
        marks = ",".join("?" * len(rows[0]))
        with suppress(sqlite3.Error):
            self._connection.executemany(f"INSERT OR REPLACE INTO images VALUES ({marks})", rows)
            if time.monotonic() - self._last > COMMIT_SECONDS:
                self._connection.commit()
                self._last = time.monotonic()


def _open_memory(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=10)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS images (path BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, ctime INTEGER,"
        " digest TEXT, width INTEGER, height INTEGER, mode TEXT, error TEXT, fingerprint TEXT, warning TEXT, shot TEXT)"
        " WITHOUT ROWID"
    )
    return connection


def sample(source: Source, config: DataConfig) -> list[pixels.Decoded]:
    """Size and mode of up to SAMPLE images, evenly spaced; unreadable ones are skipped."""

    def look(row: LabelledPath) -> pixels.Decoded | None:
        with suppress(ImageError, OSError):
            opened = open_row(source.root, row.path)
            content = (
                read_file(opened, config.max_bytes)[0] if isinstance(opened, Path) else within(opened, config.max_bytes)
            )
            if isinstance(content, bytes) and not decoder.surely_holds(content):
                return decoder.decode(content, None, config.max_pixels)
            return pixels.look(content, config.max_pixels)
        return None

    step = max(1, len(source.rows) // SAMPLE)
    with _decoder(config) as decoder:
        return [found for found in in_order(look, source.rows[::step][:SAMPLE]) if found is not None]


def _decoder(config: DataConfig) -> IsolatedDecoder:
    """For images whose header does not guarantee the limits; its processes start with the first of them."""
    return IsolatedDecoder(seconds=config.max_seconds, memory=config.max_memory)


def decide_spec(
    config: ImageConfig, seen: Callable[[], list[pixels.Decoded]], *, side: int, fit: Fit, channels: int | None
) -> tuple[ImageSpec, list[str]]:
    """The input image of the network, and in words what was chosen from a sample of the images.

    seen: returns the sample, and is only called if something is open. side, fit: the model's defaults. channels: what
    the model requires, or None if it takes any: then small images of equal size keep it, and one channel is used if all
    are grey.
    """
    height, width, decided = config.height, config.width, []
    if channels is not None:
        height, width = height or width or side, width or height or side
        channels = config.channels or channels
    else:
        channels = config.channels
    if height is None or width is None:
        sizes = {(found.height, found.width) for found in seen()}
        if height is None and width is None and len(sizes) == 1 and max(min(sizes)) <= SMALL_SIDE:
            height, width = next(iter(sizes))
            decided.append(f"all images are {height}x{width} and keep that size")
        else:
            height, width = height or width or side, width or height or side
    if channels is None:
        grey = bool(seen()) and all(found.mode.startswith(GREY_MODES) for found in seen())
        channels = 1 if grey else 3
        if grey:
            decided.append("the images are grey, so the network has one channel")
    return ImageSpec(height, width, channels, config.fit or fit, config.interpolation), decided
