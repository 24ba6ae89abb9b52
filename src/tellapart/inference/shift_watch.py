"""Predictions as they come -> the traits of a bounded sample of their images, and at the end a Shift."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from heapq import heappush, heappushpop
from itertools import count

import numpy as np
from numpy.typing import NDArray

from tellapart.data.looks import measure_looks
from tellapart.data.pixels import Decoded
from tellapart.evaluation.shift import MOST, Reference, Shift, compare, traits_of
from tellapart.inference.prediction import Prediction


def withheld(said: Iterable[Prediction], shift: Shift | None) -> list[Prediction]:
    """The predictions, of which none is sure where sure ones cannot be relied on: then those are unsure."""
    if shift is None or not shift.withheld:
        return list(said)
    return [replace(each, verdict="unsure") if each.verdict == "sure" else each for each in said]


class ShiftWatch:
    """Sees each image that is predicted, from any thread, and compares them with a run's validation images.

    The sample is that of the lowest checksums of the names, so it does not depend on the order. sides: the shorter side
    of each image by its name, where the pixels that are seen were resized.
    """

    def __init__(self, reference: Reference, sides: Mapping[str, int] | None = None) -> None:
        self._reference = reference
        self._sides = sides or {}
        self._lock = threading.Lock()
        # The number decides between images of one name, such as one that is given twice.
        self._kept: list[tuple[int, str, int, NDArray[np.float32]]] = []
        self._numbers = count()

    def see(self, image: Decoded, said: Prediction) -> None:
        """A decoded image, with its pixels, and what was said of it."""
        if said.error or image.pixels is None:
            return
        rank = -zlib.crc32(said.path.encode(errors="surrogateescape"))
        with self._lock:
            wanted = len(self._kept) < MOST or rank > self._kept[0][0]
        if wanted:
            side = self._sides.get(said.path, min(image.width, image.height))
            row = traits_of(
                measure_looks(image.pixels[None]),
                np.array([side]),
                np.array([said.probability]),
                np.array([said.distance]),
            )
            with self._lock:
                (heappush if len(self._kept) < MOST else heappushpop)(
                    self._kept, (rank, said.path, next(self._numbers), row)
                )

    def shift(self) -> Shift | None:
        """Of all that was seen; None of too few."""
        if not self._kept:
            return None
        traits = np.concatenate([row for *_, row in sorted(self._kept, key=lambda kept: kept[:3])])
        return compare(self._reference, traits)
