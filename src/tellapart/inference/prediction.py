"""Prediction: the result for one image, and for several: plain values, JSON, a DataFrame. Made by predictor, serve.

`predict --format json`, `serve` and the API have one JSON form: `Prediction.to_dict`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tellapart.dataframes import frame
from tellapart.evaluation.selective_prediction import Verdict
from tellapart.files import printable

if TYPE_CHECKING:
    import pandas

    from tellapart.evaluation.shift import Shift

_DIGITS = 6


@dataclass(frozen=True)
class Prediction:
    """The prediction for one image. probabilities: by class name, calibrated, in 0..1, summing to 1.

    Where images have several labels, labels are those predicted, label is all of them as `a|b`, empty for none,
    probability that all are right, and the probabilities of the labels do not sum to 1.

    path: as given; for an image without one, such as an array, `image 0`, numbered by position. verdict: empty if the
    file has no thresholds. distance: from the nearest class; nan if unknown. If an image cannot
    be read, or the network's output is not a number, `error` tells why and the rest is empty; `warning` tells what is
    damaged in an image that could still be read.

    >>> made = Prediction("a.jpg", "dog", 0.75, {"cat": 0.25, "dog": 0.75})
    >>> made.top(1)
    [('dog', 0.75)]
    >>> made.to_dict()["distance"] is None
    True
    """

    path: str
    label: str = ""
    probability: float = float("nan")
    probabilities: dict[str, float] = field(default_factory=dict)
    verdict: Verdict | Literal[""] = ""
    distance: float = float("nan")
    error: str = ""
    warning: str = ""
    labels: tuple[str, ...] | None = None

    def top(self, k: int) -> list[tuple[str, float]]:
        """The k most probable classes with their probabilities, in descending order."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:k]

    def told(self, k: int = 1) -> list[tuple[str, float]]:
        """What is told of an image, with probabilities: the k most probable classes; where images have several labels,
        those predicted, unless more are asked for. Empty for none of them."""
        if self.labels is None or k > 1:
            return self.top(k)
        return [(label, self.probabilities[label]) for label in self.labels]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as `predict --format json` writes and `serve` sends them: numbers to 6 digits, None if
        undefined; for an image without a prediction, only its path and the error."""
        if self.error:
            return {"path": printable(self.path), "error": printable(self.error)}
        return {
            "path": printable(self.path),
            "verdict": self.verdict or None,
            "label": self.label,
            **({} if self.labels is None else {"labels": list(self.labels)}),
            "probability": _figure(self.probability),
            "probabilities": {label: _figure(value) for label, value in self.probabilities.items()},
            "distance": _figure(self.distance),
            "warning": self.warning or None,
        }


def _figure(value: float) -> float | None:
    return round(value, _DIGITS) if math.isfinite(value) else None


class PredictionList(list[Prediction]):
    """A list of predictions, one per image, in the given order. classes: in their order. shift: whether the images
    differ from the run's validation images; None for fewer than 50, or if unknown. Where it withholds them, no verdict
    is sure.

    >>> answers = ta.predict("runs/pets", "photos/Bengal")
    >>> answers[0].label, list(answers.to_frame().columns)[:3]
    ('Bengal', ['path', 'label', 'probability'])
    """

    def __init__(self, predictions: Iterable[Prediction], classes: tuple[str, ...], shift: Shift | None = None) -> None:
        super().__init__(predictions)
        self.classes = classes
        self.shift = shift

    def to_frame(self) -> pandas.DataFrame:
        """A DataFrame with a row per image: path, label, probability, verdict, distance, the probability of each class,
        warning and error. Raises MissingExtraError without pandas."""
        columns = ["path", "label", "probability", "verdict", "distance", *self.classes, "warning", "error"]
        return frame(map(self._row, self), columns)

    def _row(self, p: Prediction) -> list[Any]:
        each = (p.probabilities.get(name, math.nan) for name in self.classes)
        return [p.path, p.label, p.probability, p.verdict, p.distance, *each, p.warning, p.error]
