"""Features of many images, (n, width) float16, as an array whose memory is bounded: in a file, and read in blocks.

Those of few images stand in memory. Of more, the array is the window of a file without a name beside the cache: what is
read of it stays in memory until `let_go`, which `blocks` calls behind each block.
"""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tellapart.files import cache_root
from tellapart.models.features import root_of

HELD_BYTES = 256 * 2**20
"""Features that take no more stand in memory."""

BLOCK = 1024
"""Images read at once."""


def room(count: int, width: int) -> NDArray[np.float16]:
    """An array (count, width) to write to; in memory too where the disk has no room for the file."""
    size = count * width * np.dtype(np.float16).itemsize
    window = _window(size) if size > HELD_BYTES else None
    if window is None:
        return np.empty((count, width), np.float16)
    return np.frombuffer(window, np.float16).reshape(count, width)


def blocks(features: NDArray[np.float16]) -> Iterator[NDArray[np.float16]]:
    """The rows, BLOCK at a time; a block has no meaning after the next is asked for where it was written to."""
    for start in range(0, len(features), BLOCK):
        yield features[start : start + BLOCK]
        let_go(features)


def chosen(features: NDArray[np.float16], columns: Sequence[slice], *, root: bool = False) -> NDArray[np.float16]:
    """Those columns of the features, beside each other, or their root: the same array where they are all of them, in
    order."""
    places = np.concatenate([np.arange(features.shape[1])[part] for part in columns])
    if not root and np.array_equal(places, np.arange(features.shape[1])):
        return features
    out = room(len(features), len(places))
    start = 0
    for rows in blocks(features):
        read = np.concatenate([rows[:, part] for part in columns], axis=1)
        out[start : start + len(rows)] = root_of(read) if root else read
        start += len(rows)
        let_go(out)
    return out


def let_go(features: NDArray[np.float16]) -> None:
    """Of features in a file, give back the memory that was read or written; the file keeps it."""
    owner: object = features
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    if isinstance(owner, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        owner.madvise(mmap.MADV_DONTNEED)


def _window(size: int) -> mmap.mmap | None:
    """Of a new file of that size, which goes with it; None where the disk cannot hold it."""
    try:
        folder = cache_root()
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            if shutil.disk_usage(folder).free < 2 * size:
                return None
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)  # a disk that fills up later would kill the process
            else:
                file.truncate(size)
            return mmap.mmap(file.fileno(), size)
    except OSError:
        return None
