"""Pixels -> what an image looks like, whatever it shows: brightness, contrast, colour, sharpness, noise.

In: images as the network sees them. Out: arrays. Never imports Keras.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from tellapart.data.quality import measure_quality

LOOKS = ("brightness", "contrast", "highlights", "sharpness", "noise", "saturation", "warmth", "tint")
"""The columns of measure_looks, in order."""

_NOISE = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
_TINY = 1e-3


def measure_looks(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Of each image (n, height, width, channels), (n, 8): its mean grey level; their standard deviation and 95th
    percentile; log2 of its steepest edges as a share of the contrast; log2 of the noise (Immerkaer, CVIU 64 (1996)
    300); the mean difference of the largest and the smallest colour, of red and blue, and of green and these two."""
    quality = measure_quality(pixels)
    found = np.empty((len(pixels), len(LOOKS)), np.float32)
    for row, image in enumerate(pixels):
        three = image if image.shape[2] == 3 else cv2.merge([image[:, :, 0]] * 3)
        red, green, blue = cv2.split(three)
        spread = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
        grey = cv2.cvtColor(three, cv2.COLOR_RGB2GRAY)
        # A difference of two Laplacians: blind to edges, so what is left is noise.
        noise = cv2.norm(cv2.filter2D(grey, cv2.CV_16S, _NOISE), cv2.NORM_L1) / grey.size * np.sqrt(np.pi / 2) / 6
        contrast, high, sharpness = quality[row]
        edges, grain = np.log2(sharpness + _TINY), np.log2(noise + _TINY)
        of_red, of_green, of_blue, _ = cv2.mean(three)
        warm, green_tint = of_red - of_blue, of_green - (of_red + of_blue) / 2
        found[row] = cv2.mean(grey)[0], contrast, high, edges, grain, cv2.mean(spread)[0], warm, green_tint
    return found
