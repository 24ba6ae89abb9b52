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

Verdict = Literal["sure", "unsure", "unlike"]
VERDICTS: tuple[Verdict, ...] = ("sure", "unsure", "unlike")

MOST_UNLIKE = 0.05
"""Share of images like the validation split's that may be marked unlike."""


@dataclass(frozen=True)
class Thresholds:
    """target: required accuracy of sure predictions. sure: least probability of a sure prediction; above 1 if none
    reaches the target. unlike: largest distance of an image like the training images; None: unknown.

    >>> Thresholds(0.99, sure=0.9, unlike=0.4).verdict(0.95, 0.1)
    'sure'
    >>> Thresholds(0.99, sure=0.9, unlike=0.4).verdict(0.95, 0.5)
    'unlike'
    """

    target: float
    sure: float
    unlike: float | None

    def verdict(self, probability: float, distance: float) -> Verdict:
        """The verdict, for the most probable class. distance: nan if unknown."""
        if self.unlike is not None and distance > self.unlike:
            return "unlike"
        return "sure" if probability >= self.sure else "unsure"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Thresholds:
        unlike = values["unlike"]
        return cls(float(values["target"]), float(values["sure"]), None if unlike is None else float(unlike))


def choose_thresholds(
    truth: Ints, probabilities: NDArray[Any], distance: NDArray[Any] | None, target: float
) -> Thresholds:
    """From the validation split. truth: (n,), probabilities: (n, classes), distance: (n,), target: 0..1.

    sure is the least probability above which the mean calibrated probability reaches the target, and the accuracy does
    not contradict it (the upper end of its 95 % Wilson interval reaches the target). Requiring that of the accuracy
    itself would take hundreds of images, and select by chance.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    unlike = None if distance is None else _unlike(distance.astype(np.float64))
    # Those that are unlike are never sure.
    like = np.ones(len(truth), bool) if distance is None or unlike is None else distance <= unlike
    order = np.argsort(-confidence[like], kind="stable")
    right = (probabilities.argmax(axis=1) == truth)[like][order]
    sorted_confidence = confidence[like][order]
    count = np.arange(1, len(right) + 1)
    promised = np.cumsum(sorted_confidence) / count
    counted = np.array([wilson_interval(int(hits), int(n))[1] for hits, n in zip(np.cumsum(right), count, strict=True)])
    # A threshold takes all answers of its probability, or none.
    last = np.append(sorted_confidence[1:] < sorted_confidence[:-1], True) if len(right) else np.zeros(0, bool)
    reached = np.flatnonzero((promised >= target) & (counted >= target) & last)
    sure = float(sorted_confidence[reached[-1]]) if len(reached) else math.nextafter(1.0, 2.0)
    return Thresholds(target, sure, unlike)


def _unlike(distance: Floats) -> float:
    """The distance that a new image of the same kind exceeds with probability MOST_UNLIKE: a rank, as in conformal
    prediction. With too few images for that rank: as far beyond the farthest as that is from the median."""
    rank = math.ceil((len(distance) + 1) * (1 - MOST_UNLIKE))
    ordered = np.sort(distance)
    if rank <= len(ordered):
        return float(ordered[rank - 1])
    return float(2 * ordered[-1] - np.median(ordered))


def coverage(truth: Ints, probabilities: NDArray[Any]) -> tuple[Floats, Floats, Floats]:
    """If only the most confident images are predicted: coverage, accuracy among them, least probability; each (n,),
    from the most confident image alone to all. truth: (n,), probabilities: (n, classes).

    >>> share, accuracy, _ = coverage(np.array([0, 1]), np.array([[0.9, 0.1], [0.6, 0.4]]))
    >>> share.tolist(), accuracy.tolist()
    ([0.5, 1.0], [1.0, 0.5])
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    order = np.argsort(-confidence, kind="stable")
    right = (probabilities.argmax(axis=1) == truth)[order]
    count = np.arange(1, len(right) + 1)
    return count / len(right), np.cumsum(right) / count, confidence[order]
