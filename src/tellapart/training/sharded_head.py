"""The linear head of more features than can be held: L-BFGS over all of them, read shard by shard in each pass.

A sample, fitted by `head`, tells the regularisation to begin with and a first head; its span has the axes, along which
the loss is about as curved as over all images, so that ten or twenty passes are enough. The head is that which `head`
would find over all features in the span of the sample: nothing is drawn at random, and no step size is chosen.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.config import TrainConfig
from tellapart.evaluation.logistic import Logistic, Problem, fitted, loss_of, probabilities_of, truth_of
from tellapart.runs.history import HistoryRow
from tellapart.training.head import STRENGTHS, Examples, HeadFit, judge, one_thread, simplest
from tellapart.training.sharded import Sharded
from tellapart.training.span import LinearHead, Reading, Span, read_rows
from tellapart.words import percent

SAMPLED = 20_000
"""Training images of the sample, spread evenly over each class; and at least so many of each class:"""
EACH = 20
_AT_ONCE = 256  # rows whose float32 stay in the processor's cache


@dataclass(frozen=True)
class Whole:
    """All training images: features, labels (n,), and how much an image of each class weighs; None: all the same."""

    features: Sharded
    labels: NDArray[np.int64]
    class_weights: NDArray[np.float32] | None = None

    def sample(self, most: int = SAMPLED) -> Examples:
        """Of each class in proportion, but not fewer than EACH."""
        places = []
        for label in np.unique(self.labels):
            there = np.flatnonzero(self.labels == label)
            wanted = min(len(there), max(EACH, round(len(there) * most / len(self.labels))))
            places.append(there[np.linspace(0, len(there) - 1, wanted).round().astype(np.intp)])
        rows = np.unique(np.concatenate(places))
        return Examples(self.features.of(rows), self.labels[rows])


def fit_sharded(
    whole: Whole,
    sample: Examples,
    validation: Examples,
    found: tuple[Reading, HeadFit],
    train: TrainConfig,
    progress: Callable[[int, str], None],
) -> HeadFit:
    """The selected head. found: what to read of the features, and the fit of the sample.

    From the penalty that suits the sample, relative to the loss of an image, to weaker ones, which more images allow,
    until the validation images gain nothing. progress: called with each fit, from 1, and its metrics.
    """
    reading, begun = found
    classes = int(whole.labels.max()) + 1
    with one_thread():
        span = Span(sample.features, reading)
        weights = None if whole.class_weights is None else whole.class_weights[sample.labels]
        problem = Problem(span.coordinates, sample.labels, classes, weights)
        first = 1 / begun.best.figure("regularization")
        now: Logistic = problem.fit(first)
        passes = _Passes(whole, span, reading, problem.squares)
        del problem
        lowest = first * len(sample.labels) / len(whole.labels)
        strengths = [lowest, *(each for each in STRENGTHS.tolist() if each > lowest * 1.01)]
        history: list[HistoryRow] = []
        heads: list[LinearHead] = []
        losses: list[NDArray[np.float64]] = []
        judgements: list[NDArray[np.float64]] = []
        wanted = train.monitor.removeprefix("val_")
        for epoch, strength in enumerate(strengths, start=1):
            started = time.perf_counter()
            now = fitted(passes, strength, now)
            head = span.head(now.kernel, now.bias)
            loss, accuracy = passes.judged(head)
            judged = judge(_probabilities(head, validation.features, reading), validation.labels)
            seconds = time.perf_counter() - started
            row = HistoryRow(
                epoch=epoch,
                phase="head",
                regularization=1 / strength,
                loss=loss,
                accuracy=accuracy,
                val_loss=float(judged["loss"].mean()),
                val_accuracy=float(judged["accuracy"].mean()),
                images_per_second=round(len(whole.labels) / seconds, 1),
                seconds=round(seconds, 2),
            )
            history.append(row)
            heads.append(head)
            losses.append(judged["loss"])
            judgements.append(judged[wanted] if wanted == "loss" else -judged[wanted])
            progress(epoch, f"val_accuracy {percent(row.val_accuracy)}")
            if train.patience and judgements[-1].mean() > min(each.mean() for each in judgements):
                break
    kept = simplest(judgements)
    return HeadFit(heads[kept], history[kept], history, losses[kept], 0)


class _Passes:
    """An Objective whose coordinates are those of the features in shards, in the span of a sample."""

    several = False

    def __init__(self, whole: Whole, span: Span, reading: Reading, squares: NDArray[np.float32]) -> None:
        self._whole, self._span, self._reading, self.squares = whole, span, reading, squares
        labels = whole.labels
        self._classes = int(labels.max()) + 1
        self.units = 1 if self._classes == 2 else self._classes
        given = whole.class_weights
        self._each = np.ones(len(labels), np.float32) if given is None else given[labels].astype(np.float32)
        self.total = float(self._each.sum(dtype=np.float64))

    def look(
        self, kernel: NDArray[np.float64], bias: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """As Objective has it."""
        head = self._span.head(kernel, bias)
        loss, by_kernel = 0.0, np.zeros(head.kernel.shape)
        by_bias = np.zeros(self.units)

        def work(rows: NDArray[np.intp], features: NDArray[np.float16]) -> tuple[float, NDArray[np.float32]]:
            part, gradient = 0.0, np.zeros((self.units, len(head.kernel) + 1), np.float32)
            for start in range(0, len(rows), _AT_ONCE):
                some = rows[start : start + _AT_ONCE]
                read = self._reading.of(features[start : start + _AT_ONCE])
                truth = truth_of(self._whole.labels[some], self._classes)
                lost, error = loss_of(read @ head.kernel + head.bias, truth, self._each[some][:, None])
                part += lost
                gradient[:, :-1] += error.T @ read
                gradient[:, -1] += error.sum(axis=0)
            return part, gradient

        for part, gradient in self._whole.features.map(work, self._reading.columns):
            loss += part
            by_kernel += gradient[:, :-1].T
            by_bias += gradient[:, -1]
        back = self._span.gradient(by_kernel / self.total, by_bias / self.total)
        return loss / self.total, back, by_bias / self.total

    def judged(self, head: LinearHead) -> tuple[float, float]:
        """The mean log loss and the accuracy of all."""

        def work(rows: NDArray[np.intp], features: NDArray[np.float16]) -> NDArray[np.float64]:
            found = np.zeros(2)
            for start in range(0, len(rows), _AT_ONCE):
                said = self._reading.of(features[start : start + _AT_ONCE]) @ head.kernel + head.bias
                known = judge(probabilities_of(said), self._whole.labels[rows[start : start + _AT_ONCE]])
                found += known["loss"].sum(), known["accuracy"].sum()
            return found

        found = np.sum(list(self._whole.features.map(work, self._reading.columns)), axis=0) / len(self._whole.labels)
        return float(found[0]), float(found[1])


def _probabilities(head: LinearHead, features: NDArray[np.float16], reading: Reading) -> NDArray[np.float32]:
    return np.concatenate([probabilities_of(part @ head.kernel + head.bias) for part in read_rows(features, reading)])
