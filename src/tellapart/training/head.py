"""Features of a frozen backbone + labels -> the linear head, by logistic regression, fitted to convergence.

The strength of the regularisation is chosen on the validation split: from strong to weak, each fit beginning where the
one before ended, until the validation split has gained nothing for a while. Kept is the strongest within one standard
error of the best (Breiman and others, Classification and Regression Trees, 1984): a weaker one that a few validation
images cannot tell from it is only surer of its mistakes. Which features the head reads is chosen likewise. A validation
split of few images is helped by the training images, each judged by a head that did not see it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.config import TrainConfig
from tellapart.evaluation.intervals import Estimate, proportion
from tellapart.evaluation.logistic import Logistic, Problem
from tellapart.evaluation.metrics import label_losses
from tellapart.runs.history import HistoryRow
from tellapart.training.span import LinearHead, Reading, Span
from tellapart.words import percent

STRENGTHS = np.logspace(-6, 1, 15)
"""C of logistic regression over features of mean 0 and mean square 1: the inverse of the regularisation."""

FOLDS, REPEATS = 5, 4


@dataclass(frozen=True)
class Examples:
    """features: (n, width), float16 as they are cached; labels: (n,) class positions, or (n, classes) of 0 and 1 where
    images have several. groups: (n,), equal for images
    that belong together, where the validation split is too small to choose by alone."""

    features: NDArray[np.float16]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64] | None = None


def some_of(examples: Examples, most: int) -> Examples:
    """As many of each class, spread evenly, where there are more than `most` in all.

    >>> some_of(Examples(np.zeros((9, 1), np.float16), np.array([0, 0, 0, 0, 0, 0, 0, 1, 1])), 4).labels
    array([0, 0, 1, 1])
    """
    if len(examples.labels) <= most:
        return examples
    labels = examples.labels
    if labels.ndim == 2:
        rows = np.unique(np.linspace(0, len(labels) - 1, most).round().astype(np.intp))
        return Examples(examples.features[rows], labels[rows])
    each = max(1, most // (int(labels.max()) + 1))
    places = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    rows = np.sort(np.concatenate([there[:: -(-len(there) // each)] for there in places]))
    return Examples(examples.features[rows], labels[rows])


@dataclass(frozen=True)
class HeadFit:
    """head: with the selected strength; best: its row of history, which has a row for each strength. losses: (n,) log
    loss of each validation image, and of each group of training images where `folds` of them were judged too."""

    head: LinearHead
    best: HistoryRow
    history: list[HistoryRow]
    losses: NDArray[np.float64]
    folds: int


def fit_linear(
    training: Examples,
    validation: Examples,
    reading: Reading,
    class_weights: NDArray[np.float32] | None,
    train: TrainConfig,
    progress: Callable[[int, str], None],
) -> HeadFit:
    """The selected head over what is read of the features.

    Both sets contain every class. class_weights: a weight for each class, or None. progress: called with each strength,
    from 1, and its metrics.
    """
    with one_thread():
        span = Span(training.features, reading)
        seen = {"": span.coordinates, "val_": span.of(validation.features)}
        weights = None if class_weights is None else class_weights[training.labels]
        problem = Problem(span.coordinates, training.labels, _classes(training.labels), weights)
        folds = _folds_of(training, span, class_weights)
        found: Logistic | None = None
        history: list[HistoryRow] = []
        fitted: list[Logistic] = []
        wanted = train.monitor.removeprefix("val_")
        judgements: list[NDArray[np.float64]] = []
        losses: list[NDArray[np.float64]] = []
        for epoch, strength in enumerate(STRENGTHS, start=1):
            started = time.perf_counter()
            found = problem.fit(float(strength), found)
            figures: dict[str, Any] = {}
            for prefix, part in (("", training), ("val_", validation)):
                judged = judge(found.probabilities(seen[prefix]), part.labels)
                figures |= {f"{prefix}{name}": float(values.mean()) for name, values in judged.items()}
            if folds:
                apart = _judged_apart(training, folds, float(strength))
                judged = {name: np.concatenate([values, apart[name]]) for name, values in judged.items()}
            seconds = time.perf_counter() - started
            row = HistoryRow(
                epoch=epoch,
                phase="head",
                regularization=1 / float(strength),
                **figures,
                images_per_second=round(len(training.labels) / seconds, 1),
                seconds=round(seconds, 2),
            )
            history.append(row)
            fitted.append(found)
            judgements.append(judged[wanted] if wanted == "loss" else -judged[wanted])
            losses.append(judged["loss"])
            progress(epoch, f"val_accuracy {percent(row.val_accuracy)}")
            if train.patience and epoch - 1 - int(np.argmin([each.mean() for each in judgements])) >= train.patience:
                break
        kept = simplest(judgements)
        head = span.head(fitted[kept].kernel, fitted[kept].bias)
    return HeadFit(head, history[kept], history, losses[kept], len(folds))


@dataclass
class _Fold:
    """problem: of the images that are seen; held: positions of the others; there: their coordinates. found: the last
    fit, from which the next begins."""

    problem: Problem
    held: NDArray[np.intp]
    there: NDArray[np.float32]
    found: Logistic | None = None


def _folds_of(training: Examples, span: Span, class_weights: NDArray[np.float32] | None) -> list[_Fold]:
    """Those that help the validation split to choose, if they are to and every class can be on both sides."""
    if training.groups is None:
        return []
    try:
        return list(_folds(training, training.groups, span, class_weights, 0))
    except ValueError:
        return []


def _folds(
    examples: Examples, groups: NDArray[np.int64], span: Span, class_weights: NDArray[np.float32] | None, seed: int
) -> Iterator[_Fold]:
    """Stratified folds, groups kept together, each in the span of what it sees. Raises ValueError if a class has fewer
    than two groups."""
    from sklearn.model_selection import StratifiedGroupKFold

    labels = examples.labels
    folds = StratifiedGroupKFold(fold_count(labels, groups), shuffle=True, random_state=seed)
    for seen, held in folds.split(labels[:, None], labels, groups):
        among, there = span.fold(seen, held)
        weights = None if class_weights is None else class_weights[labels[seen]]
        yield _Fold(Problem(among, labels[seen], int(labels.max()) + 1, weights), held, there)


def _judged_apart(training: Examples, folds: Sequence[_Fold], strength: float) -> dict[str, NDArray[np.float64]]:
    """Log loss and correctness of each training image by the head that did not see it, averaged over its group: images
    that belong together tell no more than one of them."""
    labels, groups = training.labels, training.groups
    assert groups is not None
    apart = {name: np.zeros(len(labels)) for name in ("loss", "accuracy")}
    for fold in folds:
        fold.found = fold.problem.fit(strength, fold.found)
        for name, values in judge(fold.found.probabilities(fold.there), labels[fold.held]).items():
            apart[name][fold.held] = values
    _, number, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    return {name: np.bincount(number, values) / sizes for name, values in apart.items()}


def simplest(losses: Sequence[NDArray[np.float64]]) -> int:
    """The position of the first whose mean loss is within one standard error of the lowest.

    losses: of the same images, (n,) each, for each candidate, the simplest first. The standard error is that of the
    paired difference, which is much smaller than that of either mean.

    >>> simplest([np.array([1.0, 9.0]), np.array([0.5, 8.5]), np.array([0.0, 8.6])])
    1
    """
    best = losses[int(np.argmin([values.mean() for values in losses]))]
    more = (values - best for values in losses)
    return next(place for place, by in enumerate(more) if by.mean() <= by.std() / np.sqrt(len(by)))


def fold_count(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> int:
    """FOLDS, or the number of groups of the rarest class. Raises ValueError if that is fewer than two.

    >>> import numpy as np
    >>> fold_count(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 3, 4, 4]))
    2
    """
    scarcest = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    if scarcest < 2:
        raise ValueError("A class has fewer than two images: it cannot be both trained and validated.")
    return min(FOLDS, scarcest)


def repeated_folds(
    examples: Examples,
    reading: Reading,
    groups: NDArray[np.int64],
    strength: float,
    class_weights: NDArray[np.float32] | None,
    seed: int,
) -> Estimate:
    """Accuracy on held-out images: stratified folds, REPEATS times, groups kept together.

    groups: (n,), equal for images that belong together. The interval is that for n images, not for n * REPEATS:
    predicting an image again adds little information. The strength is given, not selected in each fold.
    Raises ValueError if a class has fewer than two groups.
    """
    hits = 0
    with one_thread():
        span = Span(examples.features, reading)
        for repeat in range(REPEATS):
            for fold in _folds(examples, groups, span, class_weights, seed + repeat):
                said = fold.problem.fit(strength).probabilities(fold.there)
                hits += int((said.argmax(axis=1) == examples.labels[fold.held]).sum())
    return proportion(round(hits / REPEATS), len(examples.labels))


def one_thread() -> AbstractContextManager[object]:
    """Threads of matrix products: products this small gain nothing from more, and on busy cores the threads wait for
    each other, spinning: 10 s for the head of 400 images where one thread takes 0.3."""
    import scipy.linalg  # noqa: F401 - it brings threads of its own, which are limited once they are there
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, "blas")
    return limits


def _classes(labels: NDArray[np.int64]) -> int:
    return labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1


def judge(probabilities: NDArray[np.floating[Any]], labels: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Log loss and correctness of each image, from probabilities (n, classes); of several labels, the mean
    loss, and whether all are right."""
    if labels.ndim == 2:
        right = (probabilities >= 0.5) == (labels == 1)
        return {"loss": label_losses(labels, probabilities), "accuracy": right.all(axis=1).astype(np.float64)}
    right = np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float32).tiny)
    return {"loss": -np.log(right), "accuracy": (probabilities.argmax(axis=1) == labels).astype(np.float64)}
