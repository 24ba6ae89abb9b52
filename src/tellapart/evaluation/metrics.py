"""Truth and probabilities -> metrics, without their uncertainty.

NumPy in, NumPy out; no Keras. Throughout: truth is int, shape (n,), positions in `Task.classes`; probabilities is
float, shape (n, k), rows sum to 1; a confusion matrix is int, shape (k, k), rows are the truth and columns the
prediction.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 1024

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SMALLEST_PROBABILITY = 1e-7
"""Log loss replaces a smaller probability of the true class by this one (float32's resolution near 1), so that a single
certain mistake costs 16.1 instead of infinity."""


def confusion_matrix(truth: Ints, predicted: Ints, classes: int) -> Ints:
    """Counts of every (truth, predicted) pair.

    >>> confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    cells = np.bincount(truth * classes + predicted, minlength=classes * classes)
    return cells.reshape(classes, classes).astype(np.int64)


def log_losses(truth: Ints, probabilities: NDArray[Any]) -> Floats:
    """-ln of the probability given to the true class, shape (n,), in 0..16.1 (see SMALLEST_PROBABILITY)."""
    given = probabilities[np.arange(len(truth)), truth].astype(np.float64)
    # Adding 0 turns the -0.0 of a certain, correct prediction into 0.0.
    return -np.log(np.clip(given, SMALLEST_PROBABILITY, 1.0)) + 0.0


def label_losses(truth: Ints, probabilities: NDArray[Any]) -> Floats:
    """Mean over the labels of -ln of the probability that each is as it is, shape (n,). Both (n, classes)."""
    given = np.where(truth == 1, probabilities, 1 - probabilities).astype(np.float64)
    return np.asarray(-np.log(np.clip(given, SMALLEST_PROBABILITY, 1.0)).mean(axis=1) + 0.0)


def average_precision(positive: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Mean of the precision at each positive, from the highest score down: the area under the curve of precision
    against recall, without interpolation, as in scikit-learn. Raises ValueError without a positive.

    >>> average_precision(np.array([True, False, True]), np.array([0.9, 0.8, 0.7])).__round__(3)
    0.833
    """
    if not positive.any():
        raise ValueError("Given no positive; expected at least one.")
    order = np.argsort(-scores, kind="stable")
    hits, ordered = np.cumsum(positive[order]), scores[order]
    # Equal scores are one step.
    last = np.append(ordered[1:] != ordered[:-1], True)
    hits, count = hits[last], np.flatnonzero(last) + 1
    return float((np.diff(hits, prepend=0) * hits / count).sum() / hits[-1])


def in_top(truth: Ints, probabilities: NDArray[Any], top: int) -> NDArray[np.bool_]:
    """Whether the true class is among the `top` most probable, shape (n,). Ties are in class order, as in argmax."""
    found = np.empty(len(truth), np.bool_)
    for start in range(0, len(truth), _AT_ONCE):  # memory that is used again is already there
        rows, true = probabilities[start : start + _AT_ONCE], truth[start : start + _AT_ONCE]
        given = rows[np.arange(len(true)), true][:, None]
        earlier = np.arange(rows.shape[1])[None, :] < true[:, None]
        ahead = (rows > given) | ((rows == given) & earlier)
        found[start : start + _AT_ONCE] = ahead.sum(axis=1) < top
    return found


def area_under_curve(positive: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Probability that a positive scores above a negative, ties counted half (Mann and Whitney, 1947).

    Raises ValueError unless there is one of each.

    >>> area_under_curve(np.array([False, True, True]), np.array([0.2, 0.2, 0.9]))
    0.75
    """
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        raise ValueError(f"Given {positives} positives and {negatives} negatives; expected at least one of each.")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_ranks = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = float(mean_ranks[place][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
