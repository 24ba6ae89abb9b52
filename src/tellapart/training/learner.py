"""Coordinates + the labels that a person gave so far -> a head, fitted again after each, and how accurate it is.

In: plain arrays; a label is given to a position. Out: probabilities of every image, and an assessment. Nothing here
depends on the time or on what was asked before, so that a studio that was killed goes on as if it had not been.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.intervals import Estimate, proportion
from tellapart.evaluation.logistic import Logistic, Problem
from tellapart.training.head import one_thread

Floats = NDArray[np.float32]

STRENGTH = 0.3
"""Of the regularisation, as STRENGTHS of training/head.py; not chosen anew: few labels cannot tell."""

AUDIT = 5
"""One in so many images is drawn at random: the first of the pool's order, whatever the head says of them."""

STABLE = 0.99
"""Agreement of successive heads from which more labels hardly pay: Bloodgood and Vijay-Shanker, CoNLL 2009."""

_WINDOW, _WINDOWS = 10, 3
_FOLDS = 5
_LEAST = 10  # images drawn at random, below which an accuracy would say nothing
_LOOKED_AT = 2000


@dataclass(frozen=True)
class Head:
    """classes: (k,) numbers of those that have a label, in order; k > 1."""

    classes: NDArray[np.int64]
    fitted: Logistic

    def probabilities(self, coordinates: Floats, classes: int) -> Floats:
        """(n, classes) of coordinates (n, width): 0 for a class without a label."""
        found = np.zeros((len(coordinates), classes), np.float32)
        found[:, self.classes] = self.fitted.probabilities(coordinates)
        return found


def fit_head(coordinates: Floats, labels: NDArray[np.int64], before: Head | None = None) -> Head | None:
    """The head of coordinates (n, width) and labels (n,); None before there are two classes. before: one of nearly the
    same labels, from which the fit begins."""
    classes, own = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        return None
    start = before.fitted if before is not None and np.array_equal(before.classes, classes) else None
    with one_thread():
        return Head(classes, Problem(coordinates, own, len(classes)).fit(STRENGTH, start))


@dataclass(frozen=True)
class Assessment:
    """accuracy: of the head on the images of the folder, None while too few are drawn at random. drawn: how many its
    interval rests on. changed: share of images that the last labels made it call otherwise, None before there are
    enough; enough: whether more labels hardly pay."""

    accuracy: Estimate | None
    drawn: int
    changed: float | None = None
    enough: bool = False


def audited(decided: int) -> int:
    """How many of the first images of the pool's order are to be decided by the time that so many are.

    >>> audited(0), audited(4), audited(5)
    (1, 1, 2)
    """
    return decided // AUDIT + 1


def assess(coordinates: Floats, labels: NDArray[np.int64], drawn: NDArray[np.bool_], sample: Floats) -> Assessment:
    """How accurate the head is and whether more labels pay.

    coordinates (n, width) and labels (n,), in the order in which they were given; drawn: (n,) those drawn at random;
    sample: (m, width), images of the folder.

    Accuracy is that of cross-validation on the drawn images alone. Of what was asked because the head was unsure, or
    accepted because it was sure, accuracy is much too low, or too high; a weight for it would be the inverse of the
    probability with which it was chosen, and that is 0 or 1. So these weigh nothing, and the drawn ones all the same.
    """
    hits = _held_out_hits(coordinates, labels)[drawn]
    accuracy = proportion(int(hits.sum()), len(hits)) if len(hits) >= _LEAST else None
    window = max(_WINDOW, len(labels) // 10)
    if len(labels) < 2 * _WINDOWS * window:
        return Assessment(accuracy, len(hits))
    said = []
    for back in range(_WINDOWS + 1):
        some = slice(len(labels) - back * window)
        head = fit_head(coordinates[some], labels[some])
        if head is None:
            return Assessment(accuracy, len(hits))
        said.append(head.classes[head.fitted.probabilities(sample[:_LOOKED_AT]).argmax(axis=1)])
    agreement = [kappa(one, other) for one, other in itertools.pairwise(said)]
    changed = float((said[0] != said[-1]).mean())
    return Assessment(accuracy, len(hits), changed, bool(np.mean(agreement) >= STABLE))


def _held_out_hits(coordinates: Floats, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each label is told right by a head that did not see it: in turn, each class is dealt to the folds."""
    turn = np.zeros(len(labels), np.int64)
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        turn[places] = np.arange(len(places)) % _FOLDS
    hits = np.zeros(len(labels), np.bool_)
    for fold in range(_FOLDS):
        held = turn == fold
        head = fit_head(coordinates[~held], labels[~held])
        if head is not None and held.any():
            hits[held] = head.classes[head.fitted.probabilities(coordinates[held]).argmax(axis=1)] == labels[held]
    return hits


def kappa(one: Sequence[int] | NDArray[np.int64], other: Sequence[int] | NDArray[np.int64]) -> float:
    """Agreement beyond chance, at most 1: Cohen, Educational and Psychological Measurement 20 (1960) 37.

    >>> kappa([0, 0, 1, 1], [0, 0, 1, 1]), kappa([0, 0, 1, 1], [0, 1, 0, 1])
    (1.0, 0.0)
    """
    first, second = np.asarray(one), np.asarray(other)
    same = float((first == second).mean())
    chance = float(sum((first == c).mean() * (second == c).mean() for c in np.unique(first)))
    return 1.0 if chance == 1 else (same - chance) / (1 - chance)
