"""Features -> coordinates in the span of the training images, with the same distances.

There are as many coordinates as images, instead of as many as features. A linear head with a quadratic penalty lies in
that span (the representer theorem: Schölkopf, Herbrich, Smola, COLT 2001), so it is fitted there and converted back to
weights of the features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MOST = 3000
"""Most images that span the space, spread evenly if there are more: the time grows with their cube."""

_TINY = 1e-6  # of the largest eigenvalue: below it, float32 holds noise
_LEAST = 1e-12
_BLOCK = 1024


@dataclass(frozen=True)
class LinearHead:
    """kernel: (width, units), bias: (units,), of a Dense layer over the features; units: 1 for two classes."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


class Span:
    """The span of cached features (n, width), with their parts in `columns`.

    Each part is centred and divided by one number, so that its mean square is 1 and parts of different scale have the
    same weight. Features are not divided by their own deviation, which is mostly noise for few images: with 12 of cats
    and dogs that gave 88 %, and this gives 97 %; from 100 on both give the same.
    """

    def __init__(self, features: NDArray[np.float16], columns: Sequence[slice]) -> None:
        self._columns = columns
        self._centre, self._spread = self._scale(features)
        rows = np.unique(np.linspace(0, len(features) - 1, min(len(features), MOST)).round().astype(np.intp))
        self._landmarks: NDArray[np.float32] | None = None
        if len(rows) < len(self._centre):
            from scipy.linalg import eigh

            self._landmarks = np.concatenate(list(self._scaled(features[rows])))
            gram = self._landmarks @ self._landmarks.T
            values, vectors = eigh(gram, overwrite_a=True, check_finite=False, driver="evd")
            kept = values > _TINY * values[-1]
            kept[-1] = True  # of images that are all alike too
            self._axes = np.asarray(vectors[:, kept] / np.sqrt(np.maximum(values[kept], _LEAST)), np.float32)

    def coordinates(self, features: NDArray[np.float16]) -> NDArray[np.float32]:
        """Coordinates (n, dimensions of the span) of features (n, width)."""
        if self._landmarks is None:
            return np.concatenate(list(self._scaled(features)))
        # The landmarks too, though the eigenvectors tell theirs: along short axes each way gives other values in
        # float32, and a head is fitted to those that it will meet.
        return np.concatenate([part @ self._landmarks.T @ self._axes for part in self._scaled(features)])

    def head(self, kernel: NDArray[np.float64], bias: NDArray[np.float64]) -> LinearHead:
        """A head over the coordinates, (dimensions, units) and (units,), converted to the features in `columns`."""
        if self._landmarks is not None:
            kernel = self._landmarks.T @ (self._axes @ kernel)
        kernel = kernel / self._spread[:, None]
        return LinearHead(kernel.astype(np.float32), (bias - self._centre @ kernel).astype(np.float32))

    def _scale(self, features: NDArray[np.float16]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The mean and the divisor of each feature."""
        centres, spreads = [], []
        for place in self._columns:
            part = features[:, place]
            centre = part.mean(axis=0, dtype=np.float64)
            squares = sum(float(np.square(rows - centre).sum()) for rows in _blocks(part))
            spreads.append(np.full(len(centre), np.sqrt(squares / part.size) or 1.0, np.float32))
            centres.append(centre.astype(np.float32))
        return np.concatenate(centres), np.concatenate(spreads)

    def _scaled(self, features: NDArray[np.float16]) -> Iterator[NDArray[np.float32]]:
        for rows in _blocks(features):
            chosen = np.concatenate([rows[:, place] for place in self._columns], axis=1)
            yield (chosen.astype(np.float32) - self._centre) / self._spread


def _blocks(features: NDArray[np.float16]) -> Iterator[NDArray[np.float16]]:
    return (features[start : start + _BLOCK] for start in range(0, len(features), _BLOCK))
