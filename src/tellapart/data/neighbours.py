"""Features of images -> reduced features, the nearest neighbours of each image, and outliers.

In: features of a frozen backbone for n images, (n, width). Out: arrays. Never imports Keras.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTH = 256
"""Dimensions kept. With 256 of 1,280, label errors are found as well, and the head is fitted in a tenth of the time."""

COUNT = 20
"""Neighbours of each image: more than the usual number of similar outliers."""

FAR = 3.0
"""Distance from the median nearness of all images, in spreads, from which an image is an outlier."""

_FITTED = 20_000
_ALL_PAIRS = 20_000
_CELLS_LOOKED_INTO = 8
_AT_ONCE = 20_000_000

Floats = NDArray[np.float32]


def reduced(features: NDArray[np.floating], seed: int = 0) -> Floats:
    """The features (n, width) projected to the WIDTH directions with the largest sum of squares, (n, at most WIDTH).

    Not centred: an unrelated image lies off the direction that all others share, which centring would remove. Fitted on
    up to 20,000 rows.
    """
    from scipy.linalg import eigh

    count, given = features.shape
    chosen = np.random.default_rng(seed).permutation(count)[:_FITTED]
    sample = features[np.sort(chosen)].astype(np.float32)
    _, directions = eigh(sample.T @ sample, subset_by_index=(max(0, given - WIDTH), given - 1))
    out = np.empty((count, directions.shape[1]), np.float32)
    for start in range(0, count, _FITTED):
        part = slice(start, start + _FITTED)
        out[part] = features[part].astype(np.float32) @ directions
    return out


@dataclass(frozen=True)
class Neighbours:
    """The nearest other images of each image, nearest first. places: (n, k) positions, -1 if there are fewer;
    similarity: (n, k), cosine similarity of their features, -1..1."""

    places: NDArray[np.int64]
    similarity: Floats


def directions_of(values: Floats) -> Floats:
    """The rows (n, width) brought to length 1; rows of zeros stay."""
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9), np.float32)


def neighbours(values: Floats, seed: int = 0) -> Neighbours:
    """The nearest neighbours of each row (n, width) by cosine similarity.

    Up to 20,000 rows, all pairs are compared. Beyond that, k-means divides the rows into about as many cells as a cell
    has rows, and a row is compared with those of the eight nearest cells, so that the time grows with n ** 1.5: copies
    are found (997 of 1,000 among 100,000), but many neighbours that are hardly closer than others are missed.
    """
    directions = directions_of(values)
    places = np.full((len(values), COUNT), -1, np.int64)
    similarity = np.full((len(values), COUNT), -1, np.float32)
    for rows, columns in _parts(directions, seed):
        step = max(1, _AT_ONCE // len(columns))
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            places[some], similarity[some] = _nearest(directions, some, columns, COUNT)
    return Neighbours(places, similarity)


def _parts(directions: Floats, seed: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Which rows are compared with which."""
    every = np.arange(len(directions))
    if len(directions) <= _ALL_PAIRS:
        yield every, every
        return
    from sklearn.cluster import MiniBatchKMeans

    cells = int(np.sqrt(len(directions)))
    means = MiniBatchKMeans(cells, random_state=seed, batch_size=4096, n_init=1, max_iter=5, init="random")
    own = means.fit_predict(directions)
    centres = means.cluster_centers_
    members = np.split(np.argsort(own, kind="stable"), np.cumsum(np.bincount(own, minlength=cells))[:-1])
    for cell, rows in enumerate(members):
        if len(rows):
            apart = ((centres - centres[cell]) ** 2).sum(axis=1)
            near = np.argsort(apart)[:_CELLS_LOOKED_INTO]
            yield rows, np.concatenate([members[place] for place in near])


def _nearest(
    directions: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], Floats]:
    """(rows, count) of the nearest columns of each row, excluding itself."""
    similarity = directions[rows] @ directions[columns].T
    similarity[rows[:, None] == columns[None, :]] = -np.inf
    taken = min(count, len(columns))
    best = np.argpartition(similarity, -taken, axis=1)[:, -taken:]
    values = np.take_along_axis(similarity, best, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    values = np.take_along_axis(values, order, axis=1)
    found = columns[np.take_along_axis(best, order, axis=1)]
    found = np.where(np.isneginf(values), -1, found)
    missing = ((0, 0), (0, count - taken))
    padded = np.pad(found, missing, constant_values=-1)
    return padded, np.pad(np.maximum(values, -1), missing, constant_values=-1).astype(np.float32)


def nearest(values: Floats, row: int, among: NDArray[np.intp], count: int) -> list[tuple[int, float]]:
    """The nearest of the rows `among` to one row of the values (n, width) by angle, nearest first, itself left out: a
    position and the cosine, -1..1. Rows of zeros are near nothing.

    >>> nearest(np.array([[1, 0], [0, 1], [1, 1], [0, 0]], np.float32), 0, np.arange(4), 2)
    [(2, 0.707...), (1, 0.0)]
    """
    others = among[among != row]
    lengths = np.linalg.norm(values[others], axis=1) * np.linalg.norm(values[row])
    others, lengths = others[lengths > 0], lengths[lengths > 0]
    similarity = values[others] @ values[row] / lengths
    order = np.argsort(-similarity, kind="stable")[:count]
    return [(int(others[place]), float(similarity[place])) for place in order]


def farness(found: Neighbours) -> NDArray[np.float64]:
    """How unlike the others each image is, (n,), in spreads from the median; FAR or more is an outlier.

    By the similarity to its 20th neighbour (an earlier one for fewer than 400 images), so that a handful of similar
    outliers do not hide each other. Distance to the k-th neighbour: Ramaswamy and others, SIGMOD 2000; the median and
    quartile are robust to outliers.
    """
    last = max(min(COUNT, len(found.places) // 20, found.places.shape[1]), min(5, found.places.shape[1]))
    near = found.similarity[:, last - 1].astype(np.float64)
    middle, quarter = np.median(near), np.quantile(near, 0.25)
    spread = (middle - quarter) / 0.6745
    return np.asarray((middle - near) / max(spread, 1e-6))
