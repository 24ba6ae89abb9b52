"""Predictions -> likely label errors, by confident learning.

The rule is confident learning's (Northcutt, Jiang and Chuang, JAIR 70 (2021) 1373): an image counts as one of another
class if it is given that class with at least the mean probability that images labelled so have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tellapart.runs.predictions import Predictions


@dataclass(frozen=True)
class Suspect:
    """label, suggested: positions of classes; given, wanted: their probabilities."""

    path: str
    label: int
    suggested: int
    given: float
    wanted: float


def find_suspects(found: Predictions) -> list[Suspect]:
    """Of images that were not used in training: the most likely label errors first."""
    n, classes = found.probabilities.shape
    threshold = np.full(classes, np.inf)
    for label in np.unique(found.truth):
        threshold[label] = found.probabilities[found.truth == label, label].mean()
    own = found.probabilities[np.arange(n), found.truth]
    other = np.where(found.probabilities >= threshold, found.probabilities, -1.0)
    other[np.arange(n), found.truth] = -1.0
    suggested = other.argmax(axis=1)
    wanted = other.max(axis=1)
    rows = np.flatnonzero((wanted > own) & (own < threshold[found.truth]))
    order = rows[np.argsort(own[rows] - wanted[rows], kind="stable")]
    return [
        Suspect(found.paths[i], int(found.truth[i]), int(suggested[i]), float(own[i]), float(wanted[i]))
        for i in order.tolist()
    ]
