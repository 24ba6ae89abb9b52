"""Features of a frozen backbone + labels -> the linear head, by logistic regression, fitted to convergence.

The strength of the regularisation is chosen on the validation split: from strong to weak, each fit beginning where the
one before ended, until the validation split has gained nothing for a while. Kept is the strongest within one standard
error of the best (Breiman and others, Classification and Regression Trees, 1984): a weaker one that a few validation
images cannot tell from it is only surer of its mistakes.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tellapart.config import TrainConfig
from tellapart.evaluation.intervals import Estimate, proportion
from tellapart.progress import Phase, Progress
from tellapart.training.epochs import HistoryRow, best_row, enough, is_better
from tellapart.words import percent

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

STRENGTHS = np.logspace(-5, 1, 13)
"""C of logistic regression over features of mean 0 and mean square 1: the inverse of the regularisation."""

FOLDS, REPEATS = 5, 4

_ITERATIONS = 300


@dataclass(frozen=True)
class Examples:
    """features: (n, width), float16 as they are kept; labels: (n,) class positions."""

    features: NDArray[np.float16]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class LinearHead:
    """kernel: (width, units), bias: (units,), of a Dense layer over the features; units: 1 for two classes."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]


def fit_linear(
    training: Examples,
    validation: Examples,
    class_weights: NDArray[np.float32] | None,
    train: TrainConfig,
    progress: Progress,
) -> tuple[LinearHead, HistoryRow, list[HistoryRow]]:
    """The head that was chosen, its row of history, and a row for each strength.

    Both sets hold every class. class_weights: a weight for each class, or None.
    """
    centre, spread = _scale(training.features)
    value = "loss" if train.monitor.endswith("loss") else "accuracy"
    scaled = {
        name: (part.features.astype(np.float32) - centre) / spread
        for name, part in (("", training), ("val_", validation))
    }
    weights = None if class_weights is None else class_weights[training.labels]
    model = _regression(float(STRENGTHS[0]))
    history: list[HistoryRow] = []
    heads: list[LinearHead] = []
    errors: list[float] = []
    for epoch, strength in enumerate(STRENGTHS, start=1):
        started = time.perf_counter()
        model.C = float(strength)
        _fit(model, scaled[""], training.labels, weights)
        row: HistoryRow = {"epoch": epoch, "phase": "head", "regularization": 1 / float(strength)}
        for prefix, part in (("", training), ("val_", validation)):
            judged = _judged(model.predict_proba(scaled[prefix]), part.labels)
            row |= {f"{prefix}{name}": float(values.mean()) for name, values in judged.items()}
        seconds = time.perf_counter() - started
        row |= {"images_per_second": round(len(training.labels) / seconds, 1), "seconds": round(seconds, 2)}
        history.append(row)
        heads.append(_unscaled(model, centre, spread))
        errors.append(float(judged[value].std() / np.sqrt(len(validation.labels))))
        progress.update(Phase.HEAD, epoch, len(STRENGTHS), f"val_accuracy {percent(row['val_accuracy'])}")
        if enough(history, train.monitor, train.patience):
            break
    progress.update(Phase.HEAD, len(STRENGTHS), len(STRENGTHS))
    best = int(best_row(history, train.monitor)["epoch"]) - 1
    bound = history[best][train.monitor] + (errors[best] if value == "loss" else -errors[best])
    within = {train.monitor: bound, "epoch": 0}
    kept = next(place for place, row in enumerate(history) if not is_better(within, row, train.monitor))
    return heads[kept], history[kept], history


def _unscaled(model: LogisticRegression, centre: NDArray[np.float32], spread: float) -> LinearHead:
    """The same for features as they are."""
    kernel = (model.coef_ / spread).T.astype(np.float32)
    return LinearHead(kernel, (model.intercept_ - model.coef_ @ (centre / spread)).astype(np.float32))


def fold_count(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> int:
    """FOLDS, or as many as the scarcest class has groups. Raises ValueError where that is fewer than two.

    >>> import numpy as np
    >>> fold_count(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 3, 4, 4]))
    2
    """
    scarcest = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    if scarcest < 2:
        raise ValueError("A class has fewer than two images: it cannot be both learned and tried.")
    return min(FOLDS, scarcest)


def repeated_folds(
    examples: Examples,
    groups: NDArray[np.int64],
    strength: float,
    class_weights: NDArray[np.float32] | None,
    seed: int,
) -> Estimate:
    """Accuracy on images that each head had not seen: stratified folds, REPEATS times, groups kept together.

    groups: (n,), equal for images that belong together. The interval is that of as many images as there are, not
    of n * REPEATS: to predict an image again tells little new. The strength is given, not chosen in each fold.
    Raises ValueError where a class has fewer than two groups.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels = examples.labels
    count = fold_count(labels, groups)
    hits = 0
    for repeat in range(REPEATS):
        folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed + repeat)
        for seen, held in folds.split(examples.features, labels, groups):
            centre, spread = _scale(examples.features[seen])
            model = _regression(strength)
            weights = None if class_weights is None else class_weights[labels[seen]]
            _fit(model, (examples.features[seen] - centre) / spread, labels[seen], weights)
            hits += int((model.predict((examples.features[held] - centre) / spread) == labels[held]).sum())
    return proportion(round(hits / REPEATS), len(labels))


def _regression(strength: float) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=_ITERATIONS, warm_start=True, tol=1e-4)


def _fit(
    model: LogisticRegression,
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    weights: NDArray[np.float32] | None,
) -> None:
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # Products as small as these gain nothing from more threads, and on cores that others use too the threads wait for
    # each other, spinning: 10 s for the head of 400 images where one thread takes 0.3.
    with warnings.catch_warnings(), threadpool_limits(1, "blas"):
        # A weak regularisation may still change in the last digits; the validation split judges what it is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Many classes of few images are classes all the same.
        warnings.filterwarnings("ignore", "The number of unique classes is greater", UserWarning)
        model.fit(features, labels, sample_weight=weights)


def _scale(features: NDArray[np.float16]) -> tuple[NDArray[np.float32], float]:
    """Mean of each feature, (width,), and what divides all alike so that their mean square is 1.

    Not each by its own deviation: of few images that is mostly noise. With 12 of cats and dogs it gave 88 % where
    this gives 97 %; from 100 on both give the same.
    """
    wide = features.astype(np.float32)
    spread = float(np.sqrt(wide.var(axis=0).mean()))
    return wide.mean(axis=0), spread or 1.0


def _judged(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Log loss and whether it is right, of each image, from probabilities (n, classes)."""
    right = np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float32).tiny)
    return {"loss": -np.log(right), "accuracy": (probabilities.argmax(axis=1) == labels).astype(np.float64)}
