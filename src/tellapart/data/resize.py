"""Fit and resize: which part of an image is used, at which size, by its ImageSpec; antialiased resampling."""

from __future__ import annotations

from math import ceil, floor
from typing import cast

import cv2
import numpy as np
from numpy.typing import NDArray

from tellapart.data.raster import Raster
from tellapart.task import ImageSpec

_EDGE = cv2.BORDER_REPLICATE


def geometry(
    size: tuple[int, int], spec: ImageSpec, turn: int
) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """The box of a stored image of this size (width, height) that is used, and the size it is resized to, before
    rotation."""
    width, height = size
    target = (spec.height, spec.width) if turn >= 5 else (spec.width, spec.height)
    ratios = (target[0] / width, target[1] / height)
    if spec.fit == "crop":
        ratio = max(ratios)
        left = max(0.0, (width - target[0] / ratio) / 2)
        top = max(0.0, (height - target[1] / ratio) / 2)
        return (left, top, width - left, height - top), target
    if spec.fit == "pad":
        ratio = min(ratios)
        return (0, 0, width, height), (max(1, round(width * ratio)), max(1, round(height * ratio)))
    return (0, 0, width, height), target


def bilinear(raster: Raster, box: tuple[float, float, float, float], inner: tuple[int, int]) -> NDArray[np.uint8]:
    """The box resized to the inner size: equal to Pillow's antialiased bilinear filter within about one grey level, in
    half the time. Reduced by whole numbers while more than halved, blurred for the rest, sampled once."""
    if box == (0, 0, *raster.size) and inner == raster.size:
        return raster.reduced((1, 1), (0, 0, *raster.size))
    steps = ((box[2] - box[0]) / inner[0], (box[3] - box[1]) / inner[1])
    factors = (ceil(steps[0] / 2), ceil(steps[1] / 2))
    whole = (round(box[0]), round(box[1]), round(box[2]), round(box[3]))
    # Both ends of one pixel's width may be rounded to the same place.
    if factors == (1, 1) and min(steps) >= 1 and whole[0] < whole[2] and whole[1] < whole[3]:
        # At most half a pixel of the image, and of the result: whole pixels are sampled faster.
        box = whole
        steps = ((box[2] - box[0]) / inner[0], (box[3] - box[1]) / inner[1])
    outer = (floor(box[0]), floor(box[1]), ceil(box[2]), ceil(box[3]))
    pixels = raster.reduced(factors, outer)
    across, down = steps[0] / factors[0], steps[1] / factors[1]
    if across > 1 or down > 1:
        pixels = cast(NDArray[np.uint8], cv2.sepFilter2D(pixels, -1, _blur(across), _blur(down), borderType=_EDGE))
    if box == outer and not (outer[2] - outer[0]) % factors[0] and not (outer[3] - outer[1]) % factors[1]:
        return cast(NDArray[np.uint8], cv2.resize(pixels, inner, interpolation=cv2.INTER_LINEAR))
    # Pixels are areas: the centre of the first one is at 0.5.
    left, top = (box[0] - outer[0]) / factors[0], (box[1] - outer[1]) / factors[1]
    places = np.array([[across, 0, left + across / 2 - 0.5], [0, down, top + down / 2 - 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cast(NDArray[np.uint8], cv2.warpAffine(pixels, places, inner, flags=flags, borderMode=_EDGE))


def _blur(step: float) -> NDArray[np.float32]:
    """Three weights that widen a bilinear sample to a triangle of `step` pixels a side, by matching its variance:
    s²/6."""
    side = max(0.0, step * step - 1) / 12
    return np.array([side, 1 - 2 * side, side], np.float32)
