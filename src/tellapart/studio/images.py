"""An image of a catalog -> a JPEG or PNG of a size for the page. Files are only read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tellapart.data import pixels
from tellapart.data.batches import catalogued
from tellapart.data.sources import open_row
from tellapart.svg import encoded
from tellapart.task import ImageSpec

if TYPE_CHECKING:
    from pathlib import Path

    from tellapart.data.catalog import ImageRecord
    from tellapart.studio.thumbnails import Thumbnails

SIDES = (160, 1024)
"""Longest sides that are offered: of a small image, and of a large one."""

_QUALITY = {160: 78, 1024: 88}
_LOSSLESS = 64  # pixels a side, below which an image is all edges


def shown(root: Path, image: ImageRecord, side: int, kept: Thumbnails) -> tuple[bytes, str]:
    """The file of an image below a folder, and its media type: upright, in its own proportions, never enlarged. side:
    of SIDES; the small are kept.

    Raises TellapartError or OSError for an image that is gone or changed.
    """
    key = f"{image.digest} {side} {pixels.ROAD}"
    small = side == SIDES[0]
    found = kept.get(key) if small and image.digest else None
    if found is None:
        found = _made(root, image, side)
        if small and image.digest:
            kept.put(key, *found)
    return found


def _made(root: Path, image: ImageRecord, side: int) -> tuple[bytes, str]:
    scale = min(1.0, side / max(image.width, image.height, 1))
    height, width = (max(1, round(length * scale)) for length in (image.height, image.width))
    content = catalogued(root, image, open_row)
    found = pixels.read(content, ImageSpec(height, width, 3))
    small = max(found.shape[:2]) <= _LOSSLESS
    return encoded(found, None if small else _QUALITY[side]), "image/png" if small else "image/jpeg"
