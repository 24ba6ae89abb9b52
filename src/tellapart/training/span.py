"""Features -> coordinates in the span of the training images, long axes shortened.

There are as many coordinates as images, instead of as many as features. A linear head with a quadratic penalty lies in
that span (the representer theorem: Schölkopf, Herbrich, Smola, COLT 2001), so it is fitted there and converted back to
weights of the features. Many images have the longest axes of some of them (the Nyström method: Williams, Seeger, NIPS
2000), so many that the coordinates of all take bounded memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.models.features import root_of, widened
from tellapart.training.feature_rows import blocks

MOST = 3000
"""Most images that span the space, spread evenly if there are more: the time grows with their cube."""

COORDINATE_BYTES = 512 * 2**20
"""Most that the coordinates of the training images take: of more than 45,000 the shortest axes are left out."""

_TINY = 1e-5  # of the largest eigenvalue: below it, float32 holds noise
_LEAST = 1e-12


@dataclass(frozen=True)
class Reading:
    """What a head reads of cached features. columns: the parts, each scaled by itself. root: of each value, as a
    FeatureSet has it. shortened: an axis of the
    images is as long as their deviation along it to the power of 1 - this: 0 leaves it, 1 would make all equal. What
    most images share on a few long axes, such as light and background, tells classes apart less than its length
    says, if there is much of it."""

    columns: Sequence[slice]
    shortened: float = 0.0
    root: bool = False

    def of(self, rows: NDArray[np.float16]) -> NDArray[np.float32]:
        """What a head reads of rows that hold its columns alone."""
        return root_of(rows) if self.root else widened(rows)


def read_rows(features: NDArray[np.float16], reading: Reading) -> Iterator[NDArray[np.float32]]:
    """What a head reads of features (n, width), in blocks."""
    for rows in blocks(features):
        yield reading.of(np.concatenate([rows[:, place] for place in reading.columns], axis=1))


@dataclass(frozen=True)
class LinearHead:
    """kernel: (width, units), bias: (units,), of a Dense layer over the features; units: 1 for two classes."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


class Span:
    """The span of cached features (n, width).

    Each part is centred and divided by one number, so that its mean square is 1 and parts of different scale have the
    same weight. Features are not divided by their own deviation, which is mostly noise for few images: with 12 of cats
    and dogs that gave 88 %, and this gives 97 %; from 100 on both give the same.

    coordinates: (n, dimensions), of those features.
    """

    def __init__(self, features: NDArray[np.float16], reading: Reading) -> None:
        self._reading = reading
        self._centre, self._spread = self._scale(features)
        rows = np.unique(np.linspace(0, len(features) - 1, min(len(features), MOST)).round().astype(np.intp))
        most = COORDINATE_BYTES // (4 * len(features))
        self._landmarks: NDArray[np.float32] | None = None
        self._products: NDArray[np.float32] | None = None
        if len(rows) >= len(self._centre):
            products = np.zeros((len(self._centre), len(self._centre)), np.float32)
            for part in self._scaled(features):
                products += part.T @ part
            self._axes = self._axes_of(products, most, dual=False)
        else:
            self._landmarks = np.concatenate(list(self._scaled(features[rows])))
            self._products = self._landmarks @ self._landmarks.T
            self._axes = self._axes_of(self._products, most)
        if self._products is not None and len(rows) == len(features):
            self.coordinates = self._products @ self._axes
        else:
            self.coordinates = self.of(features)

    def of(self, features: NDArray[np.float16]) -> NDArray[np.float32]:
        """Coordinates (n, dimensions of the span) of other features (n, width)."""
        steps = [self._axes] if self._landmarks is None else [self._landmarks.T, self._axes]
        if len(features) > MOST:
            steps = [self._map(self._axes)]
        out = np.empty((len(features), self._axes.shape[1]), np.float32)
        start = 0
        for part in self._scaled(features):
            there = part
            for step in steps:
                there = there @ step
            out[start : start + len(part)] = there
            start += len(part)
        return out

    def fold(self, seen: NDArray[np.intp], held: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Coordinates of some of the training images in the span of `seen` alone: of these, and of those held out."""
        if self._products is None or len(self._products) != len(self.coordinates):
            return self.coordinates[seen], self.coordinates[held]
        among = self._products[np.ix_(seen, seen)]
        axes = self._axes_of(among, len(seen))
        return among @ axes, self._products[np.ix_(held, seen)] @ axes

    def head(self, kernel: NDArray[np.float64], bias: NDArray[np.float64]) -> LinearHead:
        """A head over the coordinates, (dimensions, units) and (units,), converted to the features that are read."""
        kernel = self._map(self._axes @ kernel) / self._spread[:, None]
        return LinearHead(kernel.astype(np.float32), (bias - self._centre @ kernel).astype(np.float32))

    def gradient(self, kernel: NDArray[np.float64], bias: NDArray[np.float64]) -> NDArray[np.float64]:
        """The gradient of a loss by the kernel over the coordinates, from those by kernel and bias of `head`."""
        scaled = (kernel - np.outer(self._centre, bias)) / self._spread[:, None]
        if self._landmarks is not None:
            scaled = self._landmarks @ scaled
        return np.asarray(self._axes.T @ scaled, np.float64)

    def _map(self, axes: NDArray[Any]) -> NDArray[Any]:
        """Combinations of the landmarks, as combinations of the features."""
        return axes if self._landmarks is None else self._landmarks.T @ axes

    def _scale(self, features: NDArray[np.float16]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The mean and the divisor of each feature."""
        centre = sum(rows.sum(axis=0, dtype=np.float64) for rows in self._rows(features)) / len(features)
        near = centre.astype(np.float32)
        squares = sum(np.square(rows - near).sum(axis=0, dtype=np.float64) for rows in self._rows(features))
        squares = squares / len(features)
        ends = np.cumsum([len(range(*part.indices(features.shape[1]))) for part in self._reading.columns])
        spreads = [np.sqrt(part.mean()) or 1.0 for part in np.split(squares, ends[:-1])]
        return near, np.repeat(spreads, np.diff(ends, prepend=0)).astype(np.float32)

    def _rows(self, features: NDArray[np.float16]) -> Iterator[NDArray[np.float32]]:
        """The features that are read, in blocks."""
        return read_rows(features, self._reading)

    def _scaled(self, features: NDArray[np.float16]) -> Iterator[NDArray[np.float32]]:
        return ((rows - self._centre) / self._spread for rows in self._rows(features))

    def _axes_of(self, products: NDArray[np.float32], most: int, *, dual: bool = True) -> NDArray[np.float32]:
        """The axes of images, (rows, dimensions), the longest last; at most so many.

        products: of the images with each other, and each axis is a combination of them; or not `dual`, of the features
        with each other. All axes together stay as long as they were.
        """
        from scipy.linalg import eigh

        values, vectors = eigh(products, check_finite=False, driver="evd")
        kept = values > _TINY * values[-1]
        kept[-1] = True  # of images that are all alike too
        values, vectors = np.maximum(values[kept], _LEAST)[-most:], vectors[:, kept][:, -most:]
        length = values ** (-self._reading.shortened / 2)
        length *= np.sqrt(values.sum() / (values * length**2).sum())
        return np.asarray(vectors * (length / np.sqrt(values) if dual else length), np.float32)
