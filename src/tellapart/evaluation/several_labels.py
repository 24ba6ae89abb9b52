"""Truth and probabilities of images with several labels -> the metrics of all and of each label, with intervals.

Macro-averages and the mean average precision are bootstrapped over images, so that labels that come together stay
together. NumPy in, plain values out; no Keras.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation import metrics as measures
from tellapart.evaluation.class_metrics import ClassMetrics, class_metrics
from tellapart.evaluation.intervals import (
    Estimate,
    average_precision_estimate,
    mean_loss_estimate,
    percentile,
    proportion,
    quantile,
)
from tellapart.evaluation.metrics import Floats, Ints
from tellapart.evaluation.mistakes import Mistake
from tellapart.runs.predictions import Predictions, in_words
from tellapart.task import Task

_BLOCK_VALUES = 1_000_000
_RESAMPLES = 500
"""Of the bootstrap, which sorts the images by each label: half of what the other intervals take hardly moves them."""


@dataclass(frozen=True, eq=False)
class Figures:
    """Parts of an Evaluation, as it has them."""

    metrics: dict[str, Estimate]
    per_class: tuple[ClassMetrics, ...]
    confusion: Ints
    mistakes: tuple[Mistake, ...]
    notes: tuple[str, ...] = ()


def label_figures(task: Task, said: Predictions, level: float, seed: int) -> Figures:
    """Of images with several labels each. Labels without images are left out of the means over labels."""
    truth, predicted = said.truth == 1, _predicted(said)
    tables = _tables(truth, predicted)
    right = int(said.right.sum())
    per_class = tuple(
        _of_label(label, table, truth[:, place], said.probabilities[:, place], level)
        for place, (label, table) in enumerate(zip(task.classes, tables, strict=True))
    )
    metrics = {"accuracy": proportion(right, len(truth), level)}
    if truth.any():
        metrics |= _means(truth, predicted, said.probabilities, level, seed)
    losses = measures.label_losses(said.truth, said.probabilities)
    metrics["log_loss"] = mean_loss_estimate(losses, level, seed)
    return Figures(metrics, per_class, tables, _mistakes(task, said))


def check_labels(task: Task, said: Predictions, split: str) -> None:
    """Raise ValueError for no images, or arrays of another shape or range."""
    n, classes = len(said.truth), len(task.classes)
    if n == 0:
        raise ValueError(f"The {split} split has no images: there is nothing to evaluate. Name a split that has some.")
    labels = said.labels
    shapes = [said.truth.shape, said.probabilities.shape, () if labels is None else labels.shape]
    if shapes != [(n, classes)] * 3 or len(said.paths) != n:
        raise ValueError(
            f"Given truth, probabilities and labels {shapes}, and {len(said.paths)} paths; expected ({n}, {classes}) "
            f"each, and {n}."
        )
    if not np.isin(said.truth, (0, 1)).all():
        raise ValueError("truth holds 0 and 1: whether an image has each of the labels.")
    if not ((said.probabilities >= 0) & (said.probabilities <= 1)).all():  # nan fails too
        raise ValueError("Probabilities are 0 to 1. Are these logits, or is one not a number?")


def _predicted(said: Predictions) -> NDArray[np.bool_]:
    assert said.labels is not None
    return said.labels


def _tables(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> Ints:
    """(labels, 2, 2): whether it is there, by whether it is predicted."""
    cells = [[(truth == there) & (predicted == named) for named in (False, True)] for there in (False, True)]
    return np.asarray(np.array(cells).sum(axis=2).transpose(2, 0, 1), np.int64)


def _of_label(label: str, table: Ints, truth: NDArray[np.bool_], probabilities: Floats, level: float) -> ClassMetrics:
    hits, support, named = int(table[1, 1]), int(table[1].sum()), int(table[:, 1].sum())
    found = class_metrics(label, (hits, support, named), level)
    if not support:
        return found
    value = measures.average_precision(truth, probabilities)
    return replace(found, average_precision=average_precision_estimate(value, support, level))


def _mistakes(task: Task, said: Predictions) -> tuple[Mistake, ...]:
    """Every image of which a label is wrong, the most confident first."""
    (truth, predicted), confidence = in_words(said, task), said.confidence
    found = [
        Mistake(said.paths[i], truth[i], predicted[i], float(confidence[i]))
        for i in np.flatnonzero(~said.right).tolist()
    ]
    return tuple(sorted(found, key=lambda mistake: (-mistake.probability, mistake.path)))


def _means(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_], probabilities: Floats, level: float, seed: int
) -> dict[str, Estimate]:
    """Mean average precision, micro F1 and macro F1, each with a bootstrap percentile interval over images.

    Before drawing, z^2/2 hits and z^2/2 misses are spread evenly over the labels, as intervals.macro_estimates has it:
    without them, images without a mistake would look certain.
    """
    present = truth.any(axis=0)
    truth, predicted, probabilities = truth[:, present], predicted[:, present], probabilities[:, present]
    count = truth.shape[1]
    added = quantile(level) ** 2 / 2 / count
    # The images of one label that are added: found with certainty, and missed.
    more = np.eye(count, dtype=bool)
    above, below = np.where(more, 1.0, 0.0), np.where(more, -1.0, 0.0)
    all_truth = np.concatenate([truth, more, more])
    all_named = np.concatenate([predicted, more, np.zeros_like(more)])
    scores = np.concatenate([probabilities, above, below])
    weights = np.concatenate([np.ones(len(truth)), np.full(2 * count, added)])
    draws = [_drawn(all_truth, all_named, scores, drawn) for drawn in _weights(weights, len(truth), seed)]
    of_all = _drawn(truth, predicted, probabilities, np.ones((1, len(truth))))
    each = {name: np.concatenate([block[name] for block in draws]) for name in of_all}
    return {name: percentile(float(value[0]), each[name], level) for name, value in of_all.items()}


def _weights(weights: Floats, size: int, seed: int) -> Iterator[Floats]:
    """How often each image is drawn in each of _RESAMPLES samples, a limited block at a time."""
    generator = np.random.default_rng(seed)
    rows = max(1, _BLOCK_VALUES // len(weights))
    for start in range(0, _RESAMPLES, rows):
        yield generator.multinomial(size, weights / weights.sum(), size=min(rows, _RESAMPLES - start)).astype(
            np.float64
        )


def _drawn(truth: NDArray[np.bool_], predicted: NDArray[np.bool_], scores: Floats, drawn: Floats) -> dict[str, Floats]:
    """The means of each sample, (samples,). drawn: (samples, n), how often it has each image."""
    hits, support, named = (drawn @ table.astype(np.float64) for table in (truth & predicted, truth, predicted))
    f1 = 2 * hits / np.maximum(support + named, 1e-12)
    micro = 2 * hits.sum(axis=1) / np.maximum((support + named).sum(axis=1), 1e-12)
    precisions = np.stack([_average_precision(*each, drawn) for each in zip(truth.T, scores.T, strict=True)], axis=1)
    # A sample without an image of a label tells nothing of it.
    there = support > 0
    parts = np.maximum(there.sum(axis=1), 1)
    return {
        "mean_average_precision": (precisions * there).sum(axis=1) / parts,
        "micro_f1": micro,
        "macro_f1": (f1 * there).sum(axis=1) / parts,
    }


def _average_precision(positive: NDArray[np.bool_], scores: Floats, drawn: Floats) -> Floats:
    """Of one label, in each sample, as metrics.average_precision has it."""
    order = np.argsort(-scores, kind="stable")
    last = np.append(scores[order][1:] != scores[order][:-1], True)
    count = np.cumsum(drawn[:, order], axis=1)[:, last]
    hits = np.cumsum(drawn[:, order] * positive[order], axis=1)[:, last]
    gained = np.diff(hits, axis=1, prepend=0)
    return np.asarray((gained * hits / np.maximum(count, 1e-12)).sum(axis=1) / np.maximum(hits[:, -1], 1e-12))
