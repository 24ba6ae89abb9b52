"""A predicted image -> its heat map as a small PNG, with its position on the image.

Class activation where the run's file allows it, else occlusion; no training library.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from tellapart.task import ImageSpec


@dataclass(frozen=True, slots=True)
class Heat:
    """png: 8-bit grey, of the network's input size; 255 supports the label most. left, top, right, bottom: its place on
    the upright image, as fractions of the sides; beyond 0..1 if the run pads, inside if it crops."""

    png: bytes
    left: float
    top: float
    right: float
    bottom: float


def heat_of(heat: NDArray[np.float32], spec: ImageSpec, width: int, height: int) -> Heat:
    """heat: (spec.height, spec.width), 0..1. width, height: of the upright image."""
    done, png = cv2.imencode(".png", np.round(255 * heat).astype(np.uint8))
    if not done:
        raise RuntimeError("OpenCV could not write a PNG.")
    return Heat(png.tobytes(), *place(spec, width, height))


def place(spec: ImageSpec, width: int, height: int) -> tuple[float, float, float, float]:
    """The place of the network's input on an image of this size: left, top, right, bottom as fractions of its sides.

    >>> place(ImageSpec(100, 100, fit="crop"), 400, 200)
    (0.25, 0.0, 0.75, 1.0)
    >>> place(ImageSpec(100, 100, fit="pad"), 400, 200)
    (0.0, -0.5, 1.0, 1.5)
    """
    if spec.fit == "squash":
        return 0.0, 0.0, 1.0, 1.0
    ratios = (spec.width / width, spec.height / height)
    ratio = max(ratios) if spec.fit == "crop" else min(ratios)
    across, down = spec.width / ratio / width, spec.height / ratio / height
    return (1 - across) / 2, (1 - down) / 2, (1 + across) / 2, (1 + down) / 2
