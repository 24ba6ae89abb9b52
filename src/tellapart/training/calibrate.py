"""A trained network + its validation images -> calibrated probabilities, and the thresholds of the verdicts.

The temperature is divided into the weights of the last layer, so that every file made of the network has it. The test
split takes no part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.data.batches import Images
from tellapart.data.catalog import Split
from tellapart.evaluation.calibration import Reliability, fit_temperature, reliability, softmax
from tellapart.evaluation.selective_prediction import Thresholds, choose_thresholds
from tellapart.models.classifier import Calibration, Classifier
from tellapart.models.compute import Infer, feeders, inferring
from tellapart.parallel import in_order
from tellapart.training.head import Examples

MOST_SEEN = 500
"""Training images, or PER_CLASS times the classes if that is more, whose features a class mean is made of where they
are not at hand: more hardly move it."""
PER_CLASS = 20

WIDEST = 16384
"""Features: of a wider last layer, which reads pixels or a map as it is, no distance is given."""

_BATCH = 32


@dataclass(frozen=True)
class Trust:
    """means: (classes, width), of length 1, the direction of each class's features; None where it is not known.

    before, after: the calibration error on the validation split.
    """

    temperature: float
    thresholds: Thresholds
    means: NDArray[np.float32] | None
    before: Reliability
    after: Reliability

    def distances(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n,), 0..2, of features (n, width): 1 - the largest cosine to a mean; nan where that is not known."""
        return np.full(len(features), np.nan, np.float32) if self.means is None else _distances(features, self.means)

    @property
    def calibration(self) -> Calibration:
        """What of it is a part of the classifier."""
        return Calibration(self.temperature, self.means)

    def to_dict(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "temperature": self.temperature,
            "thresholds": self.thresholds.to_dict(),
            "validation_error_before": self.before.error,
            "validation_error_after": self.after.error,
        }


def calibrate(
    classifier: Classifier,
    images: Mapping[Split, Images],
    labels: Mapping[Split, NDArray[np.int64]],
    target: float,
) -> Trust:
    """Divides the last layer of the network by the temperature; the accuracy cannot change.

    images, labels: of `train` and `validation`. target: required accuracy of sure predictions.
    """
    look = inferring(classifier.probe())
    taught = _some(labels["train"])
    means = None
    if classifier.features.width <= WIDEST:
        features = np.concatenate([found for found, _ in _seen(look, images["train"], taught)])
        means = _class_means(features, labels["train"][taught])
    found, read = zip(*_seen(look, images["validation"], np.arange(len(labels["validation"]))), strict=True)
    own = np.concatenate(found) if means is not None else None
    held = np.concatenate(read)
    return _trust(classifier, means, own, held, labels["validation"], target)


def calibrate_head(classifier: Classifier, training: Examples, validation: Examples, target: float) -> Trust:
    """The same for a network on a frozen backbone, from its features alone."""
    own = validation.features.astype(np.float32)
    means = _class_means(training.features.astype(np.float32), training.labels)
    return _trust(classifier, means, own, _read(classifier, validation), validation.labels, target)


def calibrated_losses(
    classifier: Classifier, held: Images | Examples, labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n,) log loss of each validation image after the temperature that these images give. The network stays as it is.

    held: the images, or their features where the backbone was frozen.
    """
    if isinstance(held, Examples):
        read = _read(classifier, held)
    else:
        read = np.concatenate([part for _, part in _seen(inferring(classifier.probe()), held, np.arange(len(labels)))])
    kernel, bias = classifier.head.last.get_weights()
    logits = read @ kernel + bias
    given = softmax(logits / fit_temperature(logits, labels))[np.arange(len(labels)), labels]
    return -np.log(np.maximum(given, np.finfo(np.float32).tiny))


def _read(classifier: Classifier, held: Examples) -> NDArray[np.float32]:
    """What the last layer reads of features."""
    look, features = classifier.head_network(last=False), held.features.astype(np.float32)
    return np.concatenate([np.asarray(look(part)) for part in np.array_split(features, -(-len(features) // 1024))])


def _distances(features: NDArray[np.float32], means: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 - (_unit(features) @ means.T).max(axis=1))


def _trust(
    classifier: Classifier,
    means: NDArray[np.float32] | None,
    own: NDArray[np.float32] | None,
    read: NDArray[np.float32],
    labels: NDArray[np.int64],
    target: float,
) -> Trust:
    """means: as Trust has them. own: features of the validation images. read: what the last layer reads of these."""
    kernel, bias = classifier.head.last.get_weights()
    logits = read @ kernel + bias
    temperature = fit_temperature(logits, labels)
    classifier.head.set_linear(kernel / temperature, bias / temperature)
    probabilities = softmax(logits / temperature)
    distance = None if own is None or means is None else _distances(own, means)
    thresholds = choose_thresholds(labels, probabilities, distance, target)
    before, after = reliability(labels, softmax(logits)), reliability(labels, probabilities)
    return Trust(temperature, thresholds, means, before, after)


def _class_means(features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    unit = _unit(features)
    return _unit(np.stack([unit[labels == label].mean(axis=0) for label in range(int(labels.max()) + 1)]))


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)


def _some(labels: NDArray[np.int64]) -> NDArray[np.intp]:
    """Places of some of the images, as many of each class as there are, and none of a class left out."""
    counts = np.bincount(labels)
    each = max(MOST_SEEN // len(counts), PER_CLASS)
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:each] for label in range(len(counts))]))


def _seen(
    look: Infer, images: Images, rows: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    parts = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    for batch in in_order(images.take, parts, workers=feeders(), ahead=feeders() + 1):
        features, read = look(batch)
        yield features, read
