"""Random photographs for the GPU benchmark: no two alike, two classes that can be told apart, in splits."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tellapart.parallel import in_order

SPLITS = (*["train"] * 8, "validation", "test")


def make_images(folder: Path, count: int, side: int) -> None:
    """JPEG files of side x side pixels: folder/{train,validation,test}/{even,odd}/N.jpg."""
    for split in set(SPLITS):
        for label in ("even", "odd"):
            (folder / split / label).mkdir(parents=True)

    def make(number: int) -> None:
        import cv2

        rng = np.random.default_rng(number)
        label = number % 2
        coarse = rng.integers(0, 256, (6 + 6 * label, 6 + 6 * label, 3), np.uint8)  # the odd ones have finer spots
        pixels = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC)
        path = folder / SPLITS[number // 2 % len(SPLITS)] / ("even", "odd")[label] / f"{number:05d}.jpg"
        path.write_bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes())

    for _ in in_order(make, range(count)):
        pass
