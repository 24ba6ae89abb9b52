"""A path -> the bytes of an image file. All image files of a user are opened here.

Only regular files are read: reading a pipe would block, and a device has no end.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tellapart.data.image_formats import PREFIX, foreign, format_of
from tellapart.errors import ImageError

MAX_BYTES = 2**30
"""A larger file is refused. 100 million pixels of three times 16 bits take 600 MB."""
LARGE = 16 * 2**20
"""Of a larger file, the first bytes are checked before the rest is read."""

Content = TypeVar("Content", bytes, NDArray[np.uint8], bytes | NDArray[np.uint8])

_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)


def read_file(path: str | Path, max_bytes: int = MAX_BYTES) -> tuple[bytes, os.stat_result]:
    """The whole file, and its state when it was opened.

    Raises ImageError: `unreadable` if it cannot be opened or is not a regular file, `empty`, `too many bytes`, and `not
    an image` for a large file that does not begin like one.
    """
    try:
        # does not wait for the other end of a pipe
        with open(path, "rb", buffering=0, opener=lambda name, _: os.open(name, _FLAGS)) as file:
            state = os.fstat(file.fileno())
            if not stat.S_ISREG(state.st_mode):
                raise ImageError("unreadable", f"it is {_kind(state.st_mode)}, not a file; save it as one first")
            if state.st_size > min(LARGE, max_bytes):
                first = file.read(PREFIX)
                if format_of(first) is None:
                    raise ImageError("not an image", foreign(first))
                file.seek(0)
            if state.st_size > max_bytes:
                raise ImageError("too many bytes", f"{state.st_size:,}; at most {max_bytes:,} are read")
            content = file.readall()
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        reason = error.strerror if isinstance(error, OSError) else error
        raise ImageError("unreadable", f"it cannot be opened: {reason}") from error
    if not content:
        raise ImageError("empty", "the file is empty")
    return content, state


def within(content: Content, max_bytes: int) -> Content:
    """What a container holds, if it is not larger than a file may be. Raises ImageError."""
    if len(content) > max_bytes and isinstance(content, bytes):
        raise ImageError("too many bytes", f"{len(content):,}; at most {max_bytes:,} are read")
    return content


def _kind(mode: int) -> str:
    kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
    return next((words for test, words in kinds if test(mode)), "a device")
