"""Paths -> small images embedded in the page, as many as its size limit allows.

Whatever shows images asks one Album, the most important first, so that they share one budget of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.data import pixels
from tellapart.data.batches import catalogued
from tellapart.data.catalog import Catalog
from tellapart.data.sources import open_row
from tellapart.errors import TellapartError
from tellapart.parallel import in_order
from tellapart.svg import data_url
from tellapart.task import ImageSpec

BUDGET = 3_100_000
"""Limit in bytes for all images embedded in a page: with its tables it stays under 5 MB."""
_LOSSLESS_SIDE = 64  # smaller ones are all edges, and a JPEG's tables alone outweigh them
_QUALITY = 78


@dataclass(frozen=True)
class Thumbnail:
    """source: a data URL with the image, or "" if `missing` tells why there is none. small: so few pixels that they are
    shown as squares."""

    path: str
    source: str = ""
    missing: str = ""
    small: bool = False


class Album:
    """read: path and longest side to uint8 (height, width, 1 or 3); it may raise TellapartError or OSError."""

    def __init__(self, read: Callable[[str, int], NDArray[np.uint8]], budget: int = BUDGET) -> None:
        self._read = read
        self._left = budget
        self._kept: dict[tuple[str, int], Thumbnail] = {}

    def take(self, paths: Sequence[str], side: int) -> list[Thumbnail]:
        """As many of the images as the size limit allows, in order, at most `side` pixels per side, upright."""
        taken: list[Thumbnail] = []
        for thumbnail in in_order(lambda path: self._kept.get((path, side)) or self._made(path, side), paths):
            if (thumbnail.path, side) not in self._kept and not self._afford(thumbnail.source):
                break
            self._kept[thumbnail.path, side] = thumbnail
            taken.append(thumbnail)
        return taken

    def add(self, path: str, pixels: NDArray[np.uint8]) -> Thumbnail | None:
        """An image already in memory, or None if the size limit is reached."""
        made = _thumbnail(path, pixels)
        return made if self._afford(made.source) else None

    def _afford(self, source: str) -> bool:
        if len(source) > self._left:
            self._left = 0
            return False
        self._left -= len(source)
        return True

    def _made(self, path: str, side: int) -> Thumbnail:
        try:
            return _thumbnail(path, self._read(path, side))
        except (TellapartError, OSError) as error:
            reason = (isinstance(error, OSError) and error.strerror) or str(error)
            return Thumbnail(path, missing=f"The image cannot be read any more: {reason.rstrip('.')}.")


def _thumbnail(path: str, pixels: NDArray[np.uint8]) -> Thumbnail:
    small = max(pixels.shape[:2]) <= _LOSSLESS_SIDE
    return Thumbnail(path, data_url(pixels, None if small else _QUALITY), small=small)


def shrunk(pixels: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The image as the network sees it, at the size shown on the page."""
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image.thumbnail((side, side))
    found = np.asarray(image)
    return found if found.ndim == 3 else found[..., None]


class Thumbnails:
    """A path and the longest side -> the full image in its own proportions, never enlarged."""

    def __init__(self, catalog: Catalog, channels: int = 3) -> None:
        self._root, self._channels = catalog.root, channels
        self._images = {image.path: image for image in catalog.images}

    def __call__(self, path: str, side: int) -> NDArray[np.uint8]:
        """Raises TellapartError, OSError."""
        image = self._images.get(path)
        if image is None:
            raise TellapartError(f"{path} is not in the catalog")
        scale = min(1.0, side / max(image.width, image.height, 1))
        height, width = (max(1, round(length * scale)) for length in (image.height, image.width))
        content = catalogued(self._root, image, open_row)
        return pixels.read(content, ImageSpec(height, width, self._channels))
