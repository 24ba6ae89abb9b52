"""A decoded image of any mode -> 8-bit grey or colour, reduced, subsampled or whole, strip by strip.

So a huge image with more than 8 bits or with transparency is never in memory in several copies.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tellapart.data.pillow import damage_told

STRIP = 2**20
"""Number of pixels converted at a time."""

Box = tuple[int, int, int, int]


class Raster:
    """image: a Pillow image, in any mode; or uint8 (h, w), (h, w, 3) or, for CMYK as stored by Adobe, (h, w, 4).

    Transparency is composited over white. Values of more than 8 bits are scaled as described in data.pixels.decode.
    """

    def __init__(self, image: Image.Image | NDArray[np.uint8]) -> None:
        self._image = image
        self.size: tuple[int, int]
        self.size = image.size if isinstance(image, Image.Image) else (image.shape[1], image.shape[0])

    def reduced(self, factors: tuple[int, int], box: Box) -> NDArray[np.uint8]:
        """Means over blocks of `factors` pixels (across, down) of the box (left, top, right, bottom)."""
        with damage_told():
            return self._reduced(factors, box)

    def _reduced(self, factors: tuple[int, int], box: Box) -> NDArray[np.uint8]:
        image, shrinks = self._image, factors != (1, 1)
        if isinstance(image, Image.Image) and image.mode in ("L", "RGB") and not _transparent(image):
            if shrinks:
                return np.asarray(image.reduce(factors, box))
            return np.asarray(image if box == (0, 0, *image.size) else image.crop(box))
        if isinstance(image, np.ndarray) and not shrinks and not _is_cmyk(image):
            return image[box[1] : box[3], box[0] : box[2]]
        if isinstance(image, np.ndarray) and factors == (2, 2) and not _is_cmyk(image):
            return _halved(image[box[1] : box[3], box[0] : box[2]])
        out, top = None, 0
        for part in self._parts(box, factors[1]):
            some = np.asarray(Image.fromarray(part).reduce(factors)) if shrinks else part
            if out is None:
                height = -(-(box[3] - box[1]) // factors[1])
                out = some if len(some) == height else np.empty((height, *some.shape[1:]), np.uint8)
            if out is not some:
                out[top : top + len(some)] = some
            top += len(some)
        assert out is not None
        return out

    def nearest(self, size: tuple[int, int], box: tuple[float, float, float, float]) -> NDArray[np.uint8]:
        """The box at `size` (width, height) by nearest-neighbour sampling at the centres of equal cells."""
        image = self._image
        if isinstance(image, Image.Image):
            with damage_told():
                return self._plain(image.resize(size, Image.Resampling.NEAREST, box))
        across, down = (_middles(box[at], box[at + 2], size[at], self.size[at]) for at in (0, 1))
        picked = image.take(down, 0).take(across, 1)  # a quarter of the time of indexing by both
        return _colours(picked) if _is_cmyk(image) else picked

    def resized(
        self, size: tuple[int, int], kind: Image.Resampling, box: tuple[float, float, float, float]
    ) -> NDArray[np.uint8]:
        """The box at this size with a Pillow filter. When downscaling by 6 or more, first reduced by whole numbers,
        which is indistinguishable from one step (Pillow's words), and faster."""
        across, down = (max(1, int((box[at + 2] - box[at]) / size[at] / 3)) for at in (0, 1))
        image = Image.fromarray(self.reduced((across, down), (0, 0, *self.size)))
        return np.asarray(image.resize(size, kind, (box[0] / across, box[1] / down, box[2] / across, box[3] / down)))

    def _parts(self, box: Box, step: int) -> Iterator[NDArray[np.uint8]]:
        """The box in strips of a multiple of `step` rows."""
        left, top, right, bottom = box
        rows = max(1, STRIP // (right - left) // step) * step
        for start in range(top, bottom, rows):
            stop = min(start + rows, bottom)
            if isinstance(self._image, Image.Image):
                yield self._plain(self._image.crop((left, start, right, stop)))
            else:
                part = self._image[start:stop, left:right]
                yield _colours(part) if _is_cmyk(part) else part

    def _plain(self, part: Image.Image) -> NDArray[np.uint8]:
        """A part of the image as 8-bit pixels, whatever its mode."""
        if part.mode.startswith("I;16"):
            return np.asarray((np.asarray(part).astype(np.uint32) + 128) // 257, np.uint8)
        if part.mode in ("I", "F"):
            return _narrow(np.asarray(part), *self._range)
        if _transparent(part):
            # Premultiplied grey can only be converted to grey with transparency.
            coloured = (part.convert("LA") if part.mode == "La" else part).convert("RGBA")
            part = Image.alpha_composite(Image.new("RGBA", part.size, "white"), coloured).convert("RGB")
        elif part.mode not in ("L", "RGB"):
            part = part.convert("L" if part.mode == "1" else "RGB")
        return np.asarray(part)

    @cached_property
    def _range(self) -> tuple[float, float]:
        """The values of 32-bit integers or floats that become 0 and 255."""
        assert isinstance(self._image, Image.Image)
        low, high = np.inf, -np.inf
        width, height = self.size
        rows = max(1, STRIP // width)
        for top in range(0, height, rows):
            values = np.asarray(self._image.crop((0, top, width, min(top + rows, height))))
            finite = values[np.isfinite(values)]
            if finite.size:
                low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        natural = 1.0 if self._image.mode == "F" else 65535.0
        return (low, high) if low < 0 or natural < high else (0.0, natural)


def _narrow(values: NDArray[np.generic], low: float, high: float) -> NDArray[np.uint8]:
    wide = np.nan_to_num(values.astype(np.float64), nan=low, posinf=high, neginf=low)
    return np.rint((wide - low) * (255 / ((high - low) or 1))).astype(np.uint8)


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Means over 2x2 pixels, as by Pillow's reduce, but faster; over fewer at an odd edge."""
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        pixels = cast(
            "NDArray[np.uint8]", cv2.copyMakeBorder(pixels, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        )
    half = (-(-width // 2), -(-height // 2))
    return cast("NDArray[np.uint8]", cv2.resize(pixels, half, interpolation=cv2.INTER_AREA))


def _transparent(image: Image.Image) -> bool:
    return image.mode == "La" or image.has_transparency_data


def _is_cmyk(pixels: NDArray[np.uint8]) -> bool:
    return pixels.ndim == 3 and pixels.shape[2] == 4


def _colours(stored: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """CMYK -> RGB as Pillow does."""
    height, width = stored.shape[:2]
    image = Image.frombuffer("CMYK", (width, height), np.ascontiguousarray(255 - stored), "raw", "CMYK", 0, 1)
    return np.asarray(image.convert("RGB"))


@lru_cache(maxsize=256)
def _middles(start: float, stop: float, count: int, most: int) -> NDArray[np.intp]:
    """The positions at the centres of equal cells; in Pillow's precision and order of summation, so that ties are
    rounded alike."""
    first, last = np.float32(start), np.float32(stop)
    step = float(last - first) / count
    places = np.cumsum([float(first) + step * 0.5, *[step] * (count - 1)])
    middles = np.minimum(places.astype(np.intp), most - 1)
    middles.flags.writeable = False
    return middles
