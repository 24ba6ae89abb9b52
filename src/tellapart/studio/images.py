"""An image of a catalog -> a JPEG or PNG of a size for the page. Files are only read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tellapart.data import pixels
from tellapart.data.batches import catalogued
from tellapart.data.sources import open_row
from tellapart.svg import encoded
from tellapart.task import ImageSpec

if TYPE_CHECKING:
    from tellapart.data.catalog import Catalog, ImageRecord

SIDES = (160, 1024)
"""Longest sides that are offered: of a small image, and of a large one."""

_QUALITY = {160: 78, 1024: 88}
_LOSSLESS = 64  # pixels a side, below which an image is all edges


def shown(catalog: Catalog, image: ImageRecord, side: int) -> tuple[bytes, str]:
    """The file and its media type: upright, in its own proportions, never enlarged. side: of SIDES.

    Raises TellapartError or OSError for an image that is gone or changed.
    """
    scale = min(1.0, side / max(image.width, image.height, 1))
    height, width = (max(1, round(length * scale)) for length in (image.height, image.width))
    content = catalogued(catalog.root, image, open_row)
    found = pixels.read(content, ImageSpec(height, width, 3))
    small = max(found.shape[:2]) <= _LOSSLESS
    return encoded(found, None if small else _QUALITY[side]), "image/png" if small else "image/jpeg"
