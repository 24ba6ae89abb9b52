"""Features or held-out probabilities + given labels -> likely label errors, and classes that overlap.

In: arrays. Out: suspects, the most likely first. Never imports Keras; labels are judged with the extra `check`.
"""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import require_extra

FOLDS = 5
STRENGTH = 0.001
"""C of logistic regression: strong regularisation, as a head that fits every label finds no label errors."""

TOLD_APART = 2 / 3
"""Share of a class's images that held-out heads must classify as labelled for its labels to be judged."""

_ITERATIONS = 200


@dataclass(frozen=True, slots=True)
class LabelIssue:
    """A label that looks wrong. index: of the image. score: 0..1, how well the label fits, the worst first. suggested:
    position of the class that the image looks like; probability: of that class."""

    index: int
    score: float
    suggested: int
    probability: float


def has_cleanlab() -> bool:
    """Whether it is installed; it is not imported."""
    return importlib.util.find_spec("cleanlab") is not None


def held_out_probabilities(
    values: NDArray[np.floating], labels: NDArray[np.int64], groups: NDArray[np.int64], classes: int, seed: int = 0
) -> NDArray[np.float64]:
    """Held-out predictions of linear heads: (n, classes), rows sum to 1.

    values: (n, width), features. labels: (n,), positions of classes. groups: (n,), equal for images that belong
    together: they are held out together, as a copy in training would reveal the label. Five folds, stratified by class.
    A class that is only in one fold has probability 0 there. At least two classes need two groups.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    centred = values - values.mean(axis=0)
    centred /= float(np.sqrt(np.square(centred).mean())) or 1.0
    folds = _folds(labels, groups, seed)
    found = np.zeros((len(labels), classes))
    for fold in range(FOLDS):
        held = folds == fold
        if not held.any():
            continue
        model = LogisticRegression(C=STRENGTH, max_iter=_ITERATIONS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(centred[~held], labels[~held])
        found[np.ix_(held, model.classes_)] = model.predict_proba(centred[held])
    return found


def _folds(labels: NDArray[np.int64], groups: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """A fold for each image: whole groups, assigned class by class in random order."""
    _, first, own = np.unique(groups, return_index=True, return_inverse=True)
    shuffled = np.random.default_rng(seed).permutation(len(first))
    order = shuffled[np.argsort(labels[first[shuffled]], kind="stable")]
    fold = np.empty(len(first), np.int64)
    fold[order] = np.arange(len(first)) % FOLDS
    return fold[own]


def label_scores(truth: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """How well each label fits the prediction of a network that was not trained on it: (n,), 0..1, 0 fits least.

    Half of one plus the probability of the given label minus that of the most probable other one: cleanlab's normalised
    margin (Northcutt, Jiang and Chuang, Journal of Artificial Intelligence Research 70 (2021) 1373). Raises
    MissingExtraError.
    """
    require_extra("Finding wrong labels", "check", "cleanlab")
    from cleanlab.rank import get_label_quality_scores

    return np.asarray(get_label_quality_scores(truth, probabilities, method="normalized_margin"), np.float64)


def suspect_labels(truth: NDArray[np.int64], probabilities: NDArray[np.float64]) -> tuple[LabelIssue, ...]:
    """The images whose label looks wrong, the most likely first, by cleanlab's confident learning.

    truth: (n,), positions of the given classes. probabilities: (n, classes), rows sum to 1, of a network that was not
    trained on these labels: of a test split, or held out in folds. As many labels of each class are suspected as are
    estimated to be wrong. Raises MissingExtraError without the extra `check`.

    >>> truth = np.array([0] * 20 + [1] * 20)
    >>> probabilities = np.where(truth[:, None] == [0, 1], 0.9, 0.1)
    >>> probabilities[3] = 0.05, 0.95
    >>> suspect_labels(truth, probabilities)
    (LabelIssue(index=3, score=0.05..., suggested=1, probability=0.95),)
    """
    scores = label_scores(truth, probabilities)
    # cleanlab requires images of every class.
    present, own = np.unique(truth, return_inverse=True)
    if len(present) < 2:
        return ()
    from cleanlab.filter import find_label_issues

    among = probabilities[:, present] + np.finfo(np.float32).tiny
    among /= among.sum(axis=1, keepdims=True)
    flagged = np.flatnonzero(find_label_issues(own, among, n_jobs=1, min_examples_per_class=0))
    others = probabilities.copy()
    others[np.arange(len(truth)), truth] = -1
    suggested = others.argmax(axis=1)
    # A label that the network finds most probable is never suspected, however many errors its class is estimated to
    # have.
    ranked = sorted((i for i in flagged.tolist() if scores[i] < 0.5), key=lambda i: (scores[i], i))
    return tuple(LabelIssue(i, float(scores[i]), int(suggested[i]), float(others[i, suggested[i]])) for i in ranked)


def told_apart(truth: NDArray[np.int64], probabilities: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the labels of each class can be judged, (classes,): held-out heads must classify at least TOLD_APART of
    its images as labelled. Below that, the heads have not learned the class, or too many of its labels are wrong.

    >>> told_apart(np.array([0, 0, 0, 1, 1, 1]), np.eye(2)[[0, 0, 0, 1, 0, 0]])
    array([ True, False])
    """
    classes = probabilities.shape[1]
    right = np.bincount(truth[probabilities.argmax(axis=1) == truth], minlength=classes)
    return right >= TOLD_APART * np.bincount(truth, minlength=classes)


def overlaps(truth: NDArray[np.int64], probabilities: NDArray[np.float64]) -> list[tuple[int, int, int, int]]:
    """For each pair of classes, how many images of one are taken for the other: (class, class, mistaken, images of
    both), the largest share first; pairs without a mistake are left out."""
    classes = probabilities.shape[1]
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (truth, probabilities.argmax(axis=1)), 1)
    either = confusion + confusion.T
    sizes = confusion.sum(axis=1)
    first, second = np.nonzero(np.triu(either, 1))
    rows = [(int(a), int(b), int(either[a, b]), int(sizes[a] + sizes[b])) for a, b in zip(first, second, strict=True)]
    return sorted(rows, key=lambda row: (-row[2] / row[3], row))
