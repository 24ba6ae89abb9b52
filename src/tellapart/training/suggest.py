"""Coordinates of images, of which some are labelled -> which to label next.

At first images that are typical of many others (TypiClust: Hacohen, Dekel, Weinshall, ICML 2022): as long as a head
knows little, what it is unsure of is no good question. Then those that the head is least sure of, spread over as many
clusters as images are asked for (weighted k-means over the most uncertain: Zhdanov, arXiv 1901.05954), so that one
batch does not ask the same question five times. In between a fixed share is drawn at random, by which accuracy is
estimated. benchmarks/labels.py measures it beside random order and the least confident.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Places = NDArray[np.intp]

TYPICAL = 2
"""Images a class, on average, up to which those are asked for that are typical."""

_NEAR = 20  # neighbours that tell how typical an image is, as in the paper
_CLUSTERS = 500
_AMONG = 10  # times as many uncertain images as are asked for
_LOOKED_AT = 4000


def typical(coordinates: Floats, labelled: Places, free: Places, count: int, seed: int = 0) -> list[int]:
    """Up to `count` of the images `free`, the most typical of each of the largest clusters without a label.

    coordinates: (n, width); labelled, free: positions. Of many free images the first 4,000 are looked at.

    >>> several = np.array([[5, 0], [5, 1], [5, -1], [0, 5], [1, 5]], np.float32)
    >>> typical(several, np.array([3]), np.array([0, 1, 2, 4]), 1)
    [0]
    """
    looked = np.concatenate([labelled[:_LOOKED_AT], free[:_LOOKED_AT]])
    directions = _directions(coordinates[looked])
    clusters = min(len(labelled) + count, _CLUSTERS, len(looked))
    own = _clustered(directions, None, clusters, seed)[0]
    known = np.arange(len(looked)) < len(labelled[:_LOOKED_AT])
    sizes, labels = np.bincount(own, minlength=clusters), np.bincount(own[known], minlength=clusters)
    found: list[int] = []
    for cluster in np.lexsort((-sizes, labels)):
        members = np.flatnonzero((own == cluster) & ~known)
        if len(members) and len(found) < count:
            similarity = directions[members] @ directions[members].T
            nearest = np.sort(similarity, axis=1)[:, -_NEAR:]
            found.append(int(looked[members[nearest.mean(axis=1).argmax()]]))
    return found


def uncertain(coordinates: Floats, probabilities: Floats, free: Places, count: int, seed: int = 0) -> list[int]:
    """Up to `count` of the images `free` that a head is unsure of and that differ from each other, the least sure
    first. probabilities: (n, classes), of all.

    >>> said = np.array([[0.9, 0.1], [0.51, 0.49], [0.5, 0.5], [0.6, 0.4]], np.float32)
    >>> where = np.array([[9, 0], [0, 9], [0, 9], [9, 1]], np.float32)
    >>> uncertain(where, said, np.arange(4), 2)
    [2, 3]
    """
    sure = margins(probabilities[free])
    among = free[np.argsort(sure, kind="stable")[: _AMONG * count]]
    if len(among) <= count:
        return [int(place) for place in among]
    directions = _directions(coordinates[among])
    weights = 1 - margins(probabilities[among]) + 1e-6
    _, distances = _clustered(directions, weights, min(count, len(among)), seed)
    picked = set(distances.argmin(axis=0).tolist())
    return [int(among[place]) for place in sorted(picked)]


def obvious(probabilities: Floats, free: Places, least: float, count: int) -> tuple[int, list[int]]:
    """The class of which the head is sure most often, at least `least`, and up to `count` of those images, in the order
    of `free`: no images where there are none.

    >>> obvious(np.array([[0.99, 0.01], [0.2, 0.8], [0.98, 0.02]], np.float32), np.arange(3), 0.95, 5)
    (0, [0, 2])
    """
    said = probabilities[free]
    sure = said.max(axis=1) >= least
    if not sure.any():
        return 0, []
    named = said.argmax(axis=1)
    label = int(np.bincount(named[sure]).argmax())
    return label, [int(place) for place in free[sure & (named == label)][:count]]


def margins(probabilities: Floats) -> Floats:
    """How much likelier the likeliest class of each image is than the second, 0..1."""
    ordered = np.sort(probabilities, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2], np.float32)


def _directions(values: Floats) -> Floats:
    return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-9), np.float32)


def _clustered(
    directions: Floats, weights: Sequence[float] | Floats | None, clusters: int, seed: int
) -> tuple[NDArray[np.int32], Floats]:
    """The cluster of each row, and its distance from each centre."""
    from sklearn.cluster import KMeans

    from tellapart.training.head import one_thread

    with one_thread():
        means = KMeans(clusters, n_init=1, max_iter=20, random_state=seed)
        distances = means.fit_transform(directions, sample_weight=weights)
    return means.labels_, distances
