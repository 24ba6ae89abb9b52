"""A trained network + its validation images -> calibrated probabilities, and the thresholds of the verdicts.

The temperature is divided into the weights of the last layer, so that every file made of the network has it. The test
split takes no part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.data.batches import Images
from tellapart.data.catalog import Split
from tellapart.evaluation.calibration import Reliability, fit_temperature, probabilities_of, reliability
from tellapart.evaluation.selective_prediction import Thresholds, choose_thresholds
from tellapart.models.classifier import Calibration, Classifier
from tellapart.models.compute import Infer, feeders, inferring
from tellapart.models.linear import LinearClassifier
from tellapart.parallel import in_order
from tellapart.training.feature_rows import blocks
from tellapart.training.head import Examples, judge

MOST_SEEN = 500
"""Training images, or PER_CLASS times the classes if that is more, whose features a class mean is made of where they
are not at hand: more hardly move it."""
PER_CLASS = 20

WIDEST = 16384
"""Features: of a wider last layer, which reads pixels or a map as it is, no distance is given."""

LOGITS = 2.0
"""Weight of the largest logit against the largest cosine, each in its spread on the validation split: chosen by
python -m benchmarks.unlike (docs/trust.md)."""

_BATCH = 32


@dataclass(frozen=True)
class Trust:
    """calibration: what of it is a part of the classifier. before, after: the calibration error on the validation
    split; probabilities, (n, classes), and seen, (n,): of its images, with their distances, nan where not known. loss:
    their mean log loss, by these probabilities."""

    calibration: Calibration
    thresholds: Thresholds
    before: Reliability
    after: Reliability
    probabilities: NDArray[np.float64]
    seen: NDArray[np.floating]
    loss: float

    def distances(self, features: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n,), of features (n, width) and logits (n, classes): 1 - the largest similarity; nan where that is not
        known."""
        means = self.calibration.means
        if means is None:
            return np.full(len(features), np.nan, np.float32)
        return np.asarray(1 - self.calibration.similarity(features[:, : means.shape[1]], logits).max(axis=1))

    def to_dict(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "temperature": self.calibration.temperature,
            "logits": {"weight": self.calibration.weight, "centre": self.calibration.centre},
            "thresholds": self.thresholds.to_dict(),
            "validation_error_before": self.before.error,
            "validation_error_after": self.after.error,
            "validation_loss": self.loss,
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
        means = _class_means(features[:, : classifier.compared_width], labels["train"][taught])
    found, read = zip(*_seen(look, images["validation"], np.arange(len(labels["validation"]))), strict=True)
    own = np.concatenate(found) if means is not None else None
    kernel, bias = classifier.head.weights()
    return _trust(classifier, means, own, np.concatenate(read) @ kernel + bias, labels["validation"], target)


def calibrate_head(
    classifier: Classifier | LinearClassifier, training: Examples, validation: Examples, target: float
) -> Trust:
    """The same for a network on a frozen backbone, from its features alone."""
    compared = classifier.compared_width
    own = np.concatenate([part[:, :compared].astype(np.float32) for part in blocks(validation.features)])
    means = _class_means(training.features[:, :compared].astype(np.float32), training.labels)
    return _trust(classifier, means, own, _logits(classifier, validation.features), validation.labels, target)


def calibrated_losses(
    classifier: Classifier | LinearClassifier, held: Images | Examples, labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n,) log loss of each validation image, by calibrated_probabilities."""
    return judge(calibrated_probabilities(classifier, held, labels), labels)["loss"]


def calibrated_probabilities(
    classifier: Classifier | LinearClassifier, held: Images | Examples, labels: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(n, classes) of the validation images after the temperature that they give. The network stays as it is.

    held: the images, or their features where the backbone was frozen.
    """
    if isinstance(held, Examples) or isinstance(classifier, LinearClassifier):
        assert isinstance(held, Examples)
        logits = _logits(classifier, held.features)
    else:
        kernel, bias = classifier.head.weights()
        seen = _seen(inferring(classifier.probe()), held, np.arange(len(labels)))
        logits = np.concatenate([read @ kernel + bias for _, read in seen])
    return probabilities_of(classifier.task, logits / fit_temperature(logits, labels))


def head_logits(classifier: Classifier | LinearClassifier, features: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, classes), of features (n, width)."""
    return _by_class(_logits(classifier, features))


def _logits(classifier: Classifier | LinearClassifier, features: NDArray[np.floating]) -> NDArray[np.float32]:
    """(n, units of the last layer), of features (n, width)."""
    kernel, bias = classifier.head.weights()
    parts = [classifier.read_by_head(part.astype(np.float32)) @ kernel + bias for part in blocks(features)]
    return np.concatenate(parts)


def _by_class(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, 1) or (n, classes) -> (n, classes), as Head.linear has them."""
    return np.hstack([-logits / 2, logits / 2]) if logits.shape[1] == 1 else logits


def _trust(
    classifier: Classifier | LinearClassifier,
    means: NDArray[np.float32] | None,
    own: NDArray[np.float32] | None,
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    target: float,
) -> Trust:
    """means: as Calibration has them. own: features of the validation images, at least those of the means. logits: of
    these images, (n, units of the last layer)."""
    kernel, bias = classifier.head.weights()
    temperature = fit_temperature(logits, labels)
    classifier.head.set_linear(kernel / temperature, bias / temperature)
    probabilities = probabilities_of(classifier.task, logits / temperature)
    found, distance = Calibration(temperature, means), None
    if own is not None and means is not None:
        of_classes = _by_class(logits / np.float32(temperature))
        found = _weighed(found, own[:, : means.shape[1]], of_classes)
        distance = 1 - found.similarity(own[:, : means.shape[1]], of_classes).max(axis=1)
    thresholds = choose_thresholds(labels, probabilities, distance, target)
    before = reliability(labels, probabilities_of(classifier.task, logits))
    after = reliability(labels, probabilities)
    seen = np.full(len(labels), np.nan) if distance is None else distance
    loss = float(judge(probabilities, labels)["loss"].mean())
    return Trust(found, thresholds, before, after, probabilities, seen, loss)


def _weighed(found: Calibration, features: NDArray[np.float32], logits: NDArray[np.float32]) -> Calibration:
    """The same with the weight of the logits: what is usual of the validation images tells how much the largest logit
    varies for each step of the largest cosine."""
    cosine, largest = found.similarity(features, logits).max(axis=1), logits.max(axis=1)
    spread = float(largest.std())
    weight = LOGITS * float(cosine.std()) / spread if spread > 0 else 0.0
    return replace(found, weight=weight, centre=float(np.median(largest)))


def _class_means(features: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Of images with several labels, the mean of those that have each."""
    unit = _unit(features)
    return _unit(np.stack([unit[there].mean(axis=0) for there in _of_each_class(labels)]))


def _of_each_class(labels: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Which images are of each class, (n,)."""
    if labels.ndim == 2:
        return [column == 1 for column in labels.T]
    return [labels == label for label in range(int(labels.max()) + 1)]


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), np.float32)


def _some(labels: NDArray[np.int64]) -> NDArray[np.intp]:
    """Places of some of the images, as many of each class as there are, and none of a class left out."""
    classes = _of_each_class(labels)
    each = max(MOST_SEEN // len(classes), PER_CLASS)
    return np.unique(np.concatenate([np.flatnonzero(there)[:each] for there in classes]))


def _seen(
    look: Infer, images: Images, rows: NDArray[np.intp]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    parts = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    for batch in in_order(images.take, parts, workers=feeders(), ahead=feeders() + 1):
        features, read = look(batch)
        yield features, read
