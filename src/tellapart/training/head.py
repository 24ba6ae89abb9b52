"""Features of a frozen backbone + labels -> the linear head, by logistic regression, fitted to convergence.

The strength of the regularisation is chosen on the validation split: from strong to weak, each fit beginning where the
one before ended, until the validation split has gained nothing for a while. Kept is the strongest within one standard
error of the best (Breiman and others, Classification and Regression Trees, 1984): a weaker one that a few validation
images cannot tell from it is only surer of its mistakes. Which features the head reads is chosen likewise.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.config import TrainConfig
from tellapart.evaluation.intervals import Estimate, proportion
from tellapart.runs.history import HistoryRow
from tellapart.training.epochs import enough
from tellapart.training.span import LinearHead, Span
from tellapart.words import percent

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

STRENGTHS = np.logspace(-5, 1, 13)
"""C of logistic regression over features of mean 0 and mean square 1: the inverse of the regularisation."""

FOLDS, REPEATS = 5, 4

_ITERATIONS = 300


@dataclass(frozen=True)
class Examples:
    """features: (n, width), float16 as they are cached; labels: (n,) class positions."""

    features: NDArray[np.float16]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class HeadFit:
    """head: with the selected strength; best: its row of history, which has a row for each strength. losses: (n,) log
    loss of each validation image."""

    head: LinearHead
    best: HistoryRow
    history: list[HistoryRow]
    losses: NDArray[np.float64]


def fit_linear(
    training: Examples,
    validation: Examples,
    columns: Sequence[slice],
    class_weights: NDArray[np.float32] | None,
    train: TrainConfig,
    progress: Callable[[int, str], None],
) -> HeadFit:
    """The selected head over those columns of the features.

    Both sets contain every class. columns: each part is scaled separately. class_weights: a weight for each class, or
    None. progress: called with each strength, from 1, and its metrics.
    """
    with one_thread():
        span = Span(training.features, columns)
        seen = {"": span.coordinates(training.features), "val_": span.coordinates(validation.features)}
    weights = None if class_weights is None else class_weights[training.labels]
    model = _regression(float(STRENGTHS[0]))
    history: list[HistoryRow] = []
    fitted: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []
    judgements: list[dict[str, NDArray[np.float64]]] = []
    for epoch, strength in enumerate(STRENGTHS, start=1):
        started = time.perf_counter()
        model.C = float(strength)
        _fit(model, seen[""], training.labels, weights)
        figures: dict[str, Any] = {}
        for prefix, part in (("", training), ("val_", validation)):
            judged = _judged(model.predict_proba(seen[prefix]), part.labels)
            figures |= {f"{prefix}{name}": float(values.mean()) for name, values in judged.items()}
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
        fitted.append((model.coef_.T.copy(), model.intercept_.copy()))
        judgements.append(judged)
        progress(epoch, f"val_accuracy {percent(row.val_accuracy)}")
        if enough(history, train.monitor, train.patience):
            break
    wanted = train.monitor.removeprefix("val_")
    kept = simplest([judged[wanted] if wanted == "loss" else -judged[wanted] for judged in judgements])
    with one_thread():
        head = span.head(*fitted[kept])
    return HeadFit(head, history[kept], history, judgements[kept]["loss"])


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
    columns: Sequence[slice],
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
    from sklearn.model_selection import StratifiedGroupKFold

    labels = examples.labels
    count = fold_count(labels, groups)
    # Equal distances, so equal heads, in fewer numbers.
    with one_thread():
        features = Span(examples.features, columns).coordinates(examples.features)
    hits = 0
    for repeat in range(REPEATS):
        folds = StratifiedGroupKFold(count, shuffle=True, random_state=seed + repeat)
        for seen, held in folds.split(features, labels, groups):
            model = _regression(strength)
            weights = None if class_weights is None else class_weights[labels[seen]]
            _fit(model, features[seen], labels[seen], weights)
            hits += int((model.predict(features[held]) == labels[held]).sum())
    return proportion(round(hits / REPEATS), len(labels))


def _regression(strength: float) -> LogisticRegression:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=_ITERATIONS, warm_start=True, tol=1e-4)


def one_thread() -> AbstractContextManager[object]:
    """Threads of matrix products: products this small gain nothing from more, and on busy cores the threads wait for
    each other, spinning: 10 s for the head of 400 images where one thread takes 0.3."""
    from threadpoolctl import threadpool_limits

    limits: AbstractContextManager[object] = threadpool_limits(1, "blas")
    return limits


def _fit(
    model: LogisticRegression,
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    weights: NDArray[np.float32] | None,
) -> None:
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(), one_thread():
        # A weak regularisation may still change in the last digits; the validation split judges what it is.
        warnings.simplefilter("ignore", ConvergenceWarning)
        # Many classes of few images are classes all the same.
        warnings.filterwarnings("ignore", "The number of unique classes is greater", UserWarning)
        model.fit(features, labels, sample_weight=weights)


def _judged(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Log loss and correctness of each image, from probabilities (n, classes)."""
    right = np.maximum(probabilities[np.arange(len(labels)), labels], np.finfo(np.float32).tiny)
    return {"loss": -np.log(right), "accuracy": (probabilities.argmax(axis=1) == labels).astype(np.float64)}
