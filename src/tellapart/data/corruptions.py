"""An image -> the same as a worse camera would have taken it: blurred, noisy, dark, strongly compressed.

After the common corruptions of Hendrycks and Dietterich, ICLR 2019. In and out: uint8 pixels. Never imports Keras.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Corruption = Callable[[Pixels, np.random.Generator], Pixels]

_SIDE = 224  # of the images that the strengths are named for


def blurred(image: Pixels, deviation: float) -> Pixels:
    """deviation: of the Gaussian, in pixels of an image of 224 rows."""
    return _shaped(cv2.GaussianBlur(image, (0, 0), deviation * max(image.shape[0] / _SIDE, 0.2)), image)


def noisy(image: Pixels, deviation: float, generator: np.random.Generator) -> Pixels:
    """deviation: of the Gaussian noise, in grey levels."""
    noise = generator.normal(0, deviation, image.shape).astype(np.float32)
    return np.asarray(np.clip(image + noise, 0, 255), np.uint8)


def darkened(image: Pixels, share: float) -> Pixels:
    """share: of the light that is left of white; shadows lose more."""
    levels: Pixels = (255 * (np.arange(256) / 255) ** 1.5 * share).astype(np.uint8)
    return np.asarray(np.take(levels, image), np.uint8)


def recompressed(image: Pixels, quality: int) -> Pixels:
    """As a JPEG of this quality, 1..100."""
    data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    mode = cv2.IMREAD_GRAYSCALE if image.shape[2] == 1 else cv2.IMREAD_COLOR_RGB
    return _shaped(np.asarray(cv2.imdecode(data, mode)), image)


CORRUPTIONS: tuple[Corruption, ...] = (
    lambda image, _: blurred(image, 1.5),
    lambda image, _: blurred(image, 4),
    lambda image, generator: noisy(image, 15, generator),
    lambda image, generator: noisy(image, 45, generator),
    lambda image, _: darkened(image, 0.6),
    lambda image, _: darkened(image, 0.2),
    lambda image, _: recompressed(image, 20),
    lambda image, _: recompressed(image, 5),
)
"""Each kind twice, so that something is noticed of it, and so that little is left."""


def _shaped(made: NDArray[np.generic], image: Pixels) -> Pixels:
    """OpenCV leaves out the axis of a single channel."""
    return np.asarray(made, np.uint8).reshape(image.shape)
