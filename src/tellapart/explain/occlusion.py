"""Images + a Predictor -> occlusion heat maps: how much a class loses if a patch of the image is covered.

Works for any network, as it only asks for predictions; the check on the heat that a network gives of itself. (Zeiler
and Fergus, ECCV 2014.)
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from tellapart.inference.predictor import Predictor, require_numbers

SHARE = 0.25
"""Side of the patch as a fraction of the image's."""
STEPS = 3
"""Patch positions per patch side: each pixel is covered this often in each direction."""
BATCH = 8
_LEAST_REST = 2.0**-25  # of two classes the first has what the output, a float32, leaves of 1

Done = Callable[[int, int], None]


def occlusion(
    predictor: Predictor,
    images: NDArray[np.uint8],
    classes: NDArray[np.int64],
    *,
    steps: int = STEPS,
    done: Done = lambda *_: None,
) -> NDArray[np.float32]:
    """The decrease of the class's log odds when a pixel of an image is covered, (n, height, width): the mean over all
    patches with the pixel, smoothed over a step; negative if the class gains.

    images: uint8 (n, height, width, channels); classes: (n,) positions. The patch has the mean colour of the image.
    steps: see STEPS; the time grows with its square. done: called with the number of predictions made and their total.
    """
    n, height, width, _ = images.shape
    boxes = _boxes(height, width, steps)
    out = np.zeros((n, height, width), np.float32)
    covered = np.zeros((height, width), np.float32)
    for top, bottom, left, right in boxes:
        covered[top:bottom, left:right] += 1
    total = n * (len(boxes) + 1)
    for number, (image, label) in enumerate(zip(images, classes, strict=True)):
        colour = np.round(image.mean(axis=(0, 1))).astype(np.uint8)
        whole = log_odds(require_numbers(predictor.probabilities(image[None])), label)[0]
        for start in range(0, len(boxes), BATCH):
            some = boxes[start : start + BATCH]
            batch = np.repeat(image[None], len(some), axis=0)
            for row, (top, bottom, left, right) in zip(batch, some, strict=True):
                row[top:bottom, left:right] = colour
            losses = whole - log_odds(require_numbers(predictor.probabilities(batch)), label)
            for loss, (top, bottom, left, right) in zip(losses, some, strict=True):
                out[number, top:bottom, left:right] += loss
            done(number * (len(boxes) + 1) + 1 + start + len(some), total)
    return np.stack(
        [
            cv2.blur(losses, (_side_and_step(width, steps)[1], _side_and_step(height, steps)[1]))
            for losses in out / covered
        ]
    )


def log_odds(probabilities: NDArray[np.float64], label: int) -> NDArray[np.float64]:
    """Log odds of one class, from probabilities (n, classes): its logarithm minus that of the others' sum."""
    least = np.full(probabilities.shape[1], np.finfo(np.float32).tiny)
    if len(least) == 2:
        least[0] = _LEAST_REST
    values = np.maximum(probabilities, least)
    others = np.delete(values, label, axis=1).sum(axis=1)
    return np.asarray(np.log(values[:, label]) - np.log(others))


def _boxes(height: int, width: int, steps: int) -> list[tuple[int, int, int, int]]:
    """(top, bottom, left, right) of every patch; those at the edges are cut, so that all pixels are covered equally."""
    return [(top, bottom, left, right) for top, bottom in _spans(height, steps) for left, right in _spans(width, steps)]


def _side_and_step(length: int, steps: int) -> tuple[int, int]:
    side = max(1, round(SHARE * length))
    return side, max(1, side // steps)


def _spans(length: int, steps: int) -> list[tuple[int, int]]:
    side, step = _side_and_step(length, steps)
    starts = range(step - side, length, step)
    return [(max(0, start), min(length, start + side)) for start in starts]
