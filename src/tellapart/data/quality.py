"""Pixels -> brightness, contrast and sharpness of an image, and which images are dark, blurred or blank.

In: images as the network sees them. Out: arrays. Never imports Keras.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Fault = Literal["blank", "dark", "blurred"]
FAULTS: tuple[Fault, ...] = ("blank", "dark", "blurred")

BLANK = 3.0
"""Standard deviation in grey levels below which an image is blank."""

DARK = 50.0
"""Grey level, 0..255, that 19 of 20 pixels of a dark image are below."""

BLURRED = 0.07
"""The steepest edges (99th percentile of the Laplacian) relative to the contrast; photographs in focus have 0.1 to
2."""


def measure_quality(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """For each image (n, height, width, channels): standard deviation and 95th percentile in grey levels, and
    sharpness: (n, 3)."""
    return np.array([_measure(image) for image in pixels], np.float32).reshape(-1, 3)


def _measure(image: NDArray[np.uint8]) -> tuple[float, float, float]:
    grey = image[:, :, 0] if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    steepness = np.abs(cv2.Laplacian(grey, cv2.CV_16S))
    levels = np.bincount(grey.reshape(-1), minlength=256).cumsum() / grey.size
    low, high = (int(np.searchsorted(levels, share)) for share in (0.05, 0.95))
    steepest = np.bincount(steepness.reshape(-1)).cumsum() / grey.size
    edge = int(np.searchsorted(steepest, 0.99))
    return float(grey.std()), float(high), edge / max(1, high - low)


def faults(quality: NDArray[np.float32]) -> dict[Fault, NDArray[np.intp]]:
    """Positions of the faulty images by kind, from `measure_quality`; each image has at most one kind.

    If half of all images have the same fault, it is the nature of the collection (X-rays, the night sky), not a fault.
    """
    spread, high, sharpness = quality.T
    blank = spread < BLANK
    dark = ~blank & (high < DARK)
    blurred = ~blank & ~dark & (sharpness < BLURRED)
    found: dict[Fault, NDArray[np.intp]] = {}
    for kind, which in zip(FAULTS, (blank, dark, blurred), strict=True):
        usual = len(which) > 1 and which.mean() >= 0.5
        found[kind] = np.flatnonzero(which & (not usual))
    return found
