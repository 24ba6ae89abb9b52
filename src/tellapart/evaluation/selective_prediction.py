"""A probability and a distance -> a verdict: `sure`, `unsure`, or `unlike` the training images (out-of-distribution).

The distance is that of an image from the nearest class: 1 - the cosine of its features to the mean of the class
(Mensink and others, IEEE PAMI 35 (2013) 2624), less what its logit is above the usual (which tells what is near:
Hendrycks and others, ICML 2022). The thresholds are chosen on the validation split. Reads: arrays. NumPy in, plain
values out; no Keras.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.intervals import wilson_interval
from tellapart.evaluation.metrics import Floats, Ints
from tellapart.runs.predictions import Predictions

Verdict = Literal["sure", "unsure", "unlike"]
VERDICTS: tuple[Verdict, ...] = ("sure", "unsure", "unlike")

MOST_UNLIKE = 0.05
"""Share of images like the validation split's that may be marked unlike."""

_EVEN = 0.5
_SAME = 1e-9


@dataclass(frozen=True)
class Thresholds:
    """target: required accuracy of sure predictions. sure: least probability of a sure prediction; above 1 if none
    reaches the target. unlike: largest distance of an image like the training images; None: unknown. labels: where
    images have several, the least probability of each that is predicted.

    >>> Thresholds(0.99, sure=0.9, unlike=0.4).verdict(0.95, 0.1)
    'sure'
    >>> Thresholds(0.99, sure=0.9, unlike=0.4).verdict(0.95, 0.5)
    'unlike'
    """

    target: float
    sure: float
    unlike: float | None
    labels: tuple[float, ...] | None = None

    def predicted(self, probabilities: NDArray[np.floating]) -> NDArray[np.bool_] | None:
        """Whether each of several labels is predicted, (n, classes); None where an image has one label."""
        return None if self.labels is None else np.asarray(probabilities >= np.array(self.labels))

    def verdict(self, probability: float, distance: float) -> Verdict:
        """The verdict, for the most probable class; of several labels, probability is that all are right. distance: nan
        if unknown."""
        if self.unlike is not None and distance > self.unlike:
            return "unlike"
        return "sure" if probability >= self.sure else "unsure"

    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name != "labels" or value is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Thresholds:
        unlike, labels = values["unlike"], values.get("labels")
        return cls(
            float(values["target"]),
            float(values["sure"]),
            None if unlike is None else float(unlike),
            None if labels is None else tuple(map(float, labels)),
        )


def choose_thresholds(
    truth: Ints, probabilities: NDArray[Any], distance: NDArray[Any] | None, target: float
) -> Thresholds:
    """From the validation split. truth: (n,), probabilities: (n, classes), distance: (n,), target: 0..1. With several
    labels an image truth is (n, classes) of 0 and 1; a prediction is right if all of them are.

    sure is the least probability above which the mean calibrated probability reaches the target, and the accuracy does
    not contradict it (the upper end of its 95 % Wilson interval reaches the target). Requiring that of the accuracy
    itself would take hundreds of images, and select by chance.
    """
    labels = best_f1(truth, probabilities) if truth.ndim == 2 else None
    predicted = None if labels is None else probabilities >= np.array(labels)
    said = Predictions((), truth, probabilities, labels=predicted)
    confidence = said.confidence.astype(np.float64)
    unlike = None if distance is None else _unlike(distance.astype(np.float64))
    # Those that are unlike are never sure.
    like = np.ones(len(truth), bool) if distance is None or unlike is None else distance <= unlike
    order = np.argsort(-confidence[like], kind="stable")
    right = said.right[like][order]
    sorted_confidence = confidence[like][order]
    count = np.arange(1, len(right) + 1)
    promised = np.cumsum(sorted_confidence) / count
    counted = np.array([wilson_interval(int(hits), int(n))[1] for hits, n in zip(np.cumsum(right), count, strict=True)])
    # A threshold takes all answers of its probability, or none.
    last = np.append(sorted_confidence[1:] < sorted_confidence[:-1], True) if len(right) else np.zeros(0, bool)
    reached = np.flatnonzero((promised >= target) & (counted >= target) & last)
    sure = float(sorted_confidence[reached[-1]]) if len(reached) else math.nextafter(1.0, 2.0)
    return Thresholds(target, sure, unlike, labels)


def best_f1(truth: Ints, probabilities: NDArray[Any]) -> tuple[float, ...]:
    """For each label, the least probability of being predicted at which F1 is highest (Lipton, Elkan, Naryanaswamy,
    ECML PKDD 2014), both (n, classes); of equal ones that nearest to 0.5, which is also that of a label of no image.

    >>> best_f1(np.array([[1], [1], [0]]), np.array([[0.9], [0.4], [0.1]]))
    (0.25,)
    """
    return tuple(_best_f1(truth[:, place] == 1, probabilities[:, place]) for place in range(truth.shape[1]))


def _best_f1(there: NDArray[np.bool_], probabilities: NDArray[Any]) -> float:
    if not there.any():
        return _EVEN
    values = np.unique(probabilities.astype(np.float64))
    between = np.append((values[1:] + values[:-1]) / 2, [_EVEN, values[0] / 2])
    predicted = probabilities[:, None] >= between
    hits = (predicted & there[:, None]).sum(axis=0)
    f1 = 2 * hits / (predicted.sum(axis=0) + there.sum())
    best = between[f1 >= f1.max() - _SAME]
    return float(best[np.abs(best - _EVEN).argmin()])


def _unlike(distance: Floats) -> float:
    """The distance that a new image of the same kind exceeds with probability MOST_UNLIKE: a rank, as in conformal
    prediction. With too few images for that rank: as far beyond the farthest as that is from the median."""
    rank = math.ceil((len(distance) + 1) * (1 - MOST_UNLIKE))
    ordered = np.sort(distance)
    if rank <= len(ordered):
        return float(ordered[rank - 1])
    return float(2 * ordered[-1] - np.median(ordered))


def coverage(said: Predictions) -> tuple[Floats, Floats, Floats]:
    """If only the most confident images are predicted: coverage, accuracy among them, least probability; each (n,),
    from the most confident image alone to all.

    >>> said = Predictions(("a", "b"), np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]]))
    >>> share, accuracy, _ = coverage(said)
    >>> share.tolist(), accuracy.tolist()
    ([0.5, 1.0], [1.0, 0.5])
    """
    confidence = said.confidence.astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    right = said.right[order]
    count = np.arange(1, len(right) + 1)
    return count / len(right), np.cumsum(right) / count, confidence[order]
