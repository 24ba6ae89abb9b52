"""Probabilities -> calibrated probabilities: of predictions with a probability of 0.8, 80 % are correct.

One temperature divides all logits (Guo and others, On Calibration of Modern Neural Networks, ICML 2017): the order of
the classes, and so the accuracy, cannot change. NumPy in, floats out; no Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.intervals import Estimate, proportion
from tellapart.evaluation.metrics import Floats, Ints
from tellapart.task import Task

BINS = 15
COLDEST, HOTTEST = 0.05, 20.0
_RESAMPLES = 200
_AT_ONCE = 2**15  # images, whose numbers stay in the processor's cache


@dataclass(frozen=True)
class Bin:
    """Predictions of similar probability. confidence: their mean probability; accuracy: the share of correct ones."""

    n: int
    confidence: float
    accuracy: Estimate

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Reliability:
    """How far probabilities are from the observed accuracy.

    error: expected calibration error, 0..1: the mean distance of confidence and accuracy over the bins, weighted by
    their images. by_chance: the 95th percentile of the error of perfectly calibrated probabilities, on as many
    images. bins: those with images, in ascending order of probability.
    """

    error: float
    by_chance: float
    bins: tuple[Bin, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"error": self.error, "by_chance": self.by_chance, "bins": [part.to_dict() for part in self.bins]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Reliability:
        bins = (Bin(row["n"], row["confidence"], Estimate.from_dict(row["accuracy"])) for row in values["bins"])
        return cls(values["error"], values["by_chance"], tuple(bins))


def reliability(truth: Ints, probabilities: NDArray[Any], *, seed: int = 0) -> Reliability:
    """For the most probable class of each image, over BINS bins of equal width.

    truth: positions of classes, (n,). probabilities: (n, classes), rows sum to 1. Of several labels an image, (n,
    classes) of 0 and 1, and their own probabilities: whether each is there counts like an image. by_chance is drawn
    with labels that follow the probabilities themselves (Broecker and Smith, Weather and Forecasting 22 (2007) 651).

    >>> given = np.array([[0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.8, 0.2], [0.2, 0.8]])
    >>> round(reliability(np.array([0, 0, 0, 1, 1]), given).error, 6)
    0.0
    """
    truth, probabilities = _each(truth, probabilities)
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == truth
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    sums = np.bincount(place, confidence, BINS)
    hits = np.bincount(place, right, BINS)
    generator = np.random.default_rng(seed)
    drawn = np.zeros((_RESAMPLES, BINS))
    for start in range(0, len(truth), _AT_ONCE):
        some, there = confidence[start : start + _AT_ONCE], place[start : start + _AT_ONCE]
        for sample in drawn:
            sample += np.bincount(there, generator.random(len(some)) < some, BINS)
    errors = np.abs(drawn - sums).sum(axis=1) / len(truth)
    bins = tuple(
        Bin(int(counts[i]), float(sums[i] / counts[i]), proportion(int(hits[i]), int(counts[i])))
        for i in np.flatnonzero(counts)
    )
    return Reliability(float(np.abs(hits - sums).sum()) / len(truth), float(np.quantile(errors, 0.95)), bins)


def fit_temperature(logits: NDArray[Any], truth: Ints) -> float:
    """The divisor of logits that minimises the log loss, COLDEST..HOTTEST; 1 changes nothing.

    logits: (n, 1) of the second of two classes, or (n, classes). truth: (n,) positions of classes, or (n, classes) of
    0 and 1 for several labels, whose logits are divided by the same number. A prior keeps it
    near 1 with few images: its logarithm is normal with deviation 1. And images without a mistake do not prove that
    there are none: then half a mistake is added, at the median distance of the two most probable classes.
    """
    from scipy.optimize import minimize_scalar

    if truth.ndim == 2:
        logits, truth = logits.reshape(-1, 1), truth.reshape(-1)
    wide = every_logit(logits)
    rows = np.arange(len(truth))
    ordered = np.sort(wide, axis=1)
    margin = float(np.median(ordered[:, -1] - ordered[:, -2]))
    added = 0.0 if (wide.argmax(axis=1) != truth).any() else 0.5

    def loss(log_temperature: float) -> float:
        temperature = np.exp(log_temperature)
        seen = -_log_softmax(wide / temperature)[rows, truth].sum()
        return float(seen + added * np.logaddexp(0, margin / temperature) + log_temperature**2 / 2)

    found = minimize_scalar(loss, bounds=(np.log(COLDEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def softmax(logits: NDArray[Any]) -> Floats:
    """Probabilities (n, classes), rows summing to 1, from logits as in fit_temperature."""
    return np.exp(_log_softmax(every_logit(logits)))


def probabilities_of(task: Task, logits: NDArray[Any]) -> Floats:
    """(n, classes), from logits (n, units of the last layer): rows sum to 1, unless images have several labels.

    >>> probabilities_of(Task(("a", "b"), several=True), np.zeros((1, 2))).tolist()
    [[0.5, 0.5]]
    """
    if task.several:
        return softmax(logits.reshape(-1, 1))[:, 1].reshape(logits.shape)
    return softmax(logits)


def sharpened(probabilities: NDArray[Any], temperature: float, *, several: bool = False) -> Floats:
    """The probabilities (n, classes) before their logits were divided by `temperature`. several: whether images have
    several labels.

    >>> sharpened(np.array([[0.75, 0.25]]), 2).round(3).tolist()
    [[0.9, 0.1]]
    """
    if several:
        flat = probabilities.reshape(-1)
        return sharpened(np.stack([1 - flat, flat], axis=1), temperature)[:, 1].reshape(probabilities.shape)
    with np.errstate(divide="ignore"):
        return np.exp(_log_softmax(np.log(probabilities.astype(np.float64)) * temperature))


def _each(truth: Ints, probabilities: NDArray[Any]) -> tuple[Ints, NDArray[Any]]:
    """Of several labels, whether each of them is there, as a prediction of two classes of its own."""
    if truth.ndim == 1:
        return truth, probabilities
    flat = probabilities.reshape(-1)
    return truth.reshape(-1), np.stack([1 - flat, flat], axis=1)


def every_logit(logits: NDArray[Any]) -> Floats:
    """(n, 1) of the second of two classes, or (n, classes) -> (n, classes)."""
    wide = logits.astype(np.float64)
    return np.hstack([np.zeros_like(wide), wide]) if wide.shape[1] == 1 else wide


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))
