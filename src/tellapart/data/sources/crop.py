"""A part of an image, `photo.jpg#10,20,64,48`, -> its pixels: x, y, width and height in the upright image."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from tellapart.data import pixels
from tellapart.data.decode_cost import cost
from tellapart.data.image_file import read_file
from tellapart.errors import ImageError
from tellapart.task import MAX_SIDE, ImageSpec

MAX_COST = 300_000_000
"""Of data.decode_cost: a whole image is decoded in this process, so its header must tell that this is soon done."""

_decoding = Lock()


def read_crop(path: Path, member: str, max_bytes: int) -> NDArray[np.uint8]:
    """uint8 (height, width, 3), a copy. Raises ImageError if the image cannot be read, or the part is outside it."""
    x, y, width, height = map(int, member.split(","))
    try:
        state = path.stat()
    except OSError as error:
        raise ImageError("unreadable", f"it cannot be opened: {error.strerror}") from error
    with _decoding:  # the boxes of one image follow each other
        whole = _whole(path, state.st_size, state.st_mtime_ns, max_bytes)
    part = whole[y : y + height, x : x + width]
    if not part.size:
        sides = f"{whole.shape[1]}x{whole.shape[0]}"
        raise ImageError("unreadable", f"the box {member} is outside the image of {sides}")
    return np.ascontiguousarray(part)


@lru_cache(maxsize=4)
def _whole(path: Path, size: int, changed: int, max_bytes: int) -> NDArray[np.uint8]:  # noqa: ARG001 - of the key
    content = read_file(path, max_bytes)[0]
    known = cost(content)
    if known is None or known > MAX_COST:
        raise ImageError("too slow", "its header does not tell that it is decoded soon; save it as JPEG or PNG")
    found = pixels.look(content)
    if max(found.height, found.width) > MAX_SIDE:
        raise ImageError("too many pixels", f"{found.width}x{found.height}; at most {MAX_SIDE} a side to crop from")
    return pixels.read(content, ImageSpec(found.height, found.width, 3, fit="squash"))
