"""The images of a class, or those with a verdict -> their metrics, with intervals.

NumPy in, plain values out; no Keras.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tellapart.evaluation.intervals import Estimate, f1_estimate, proportion
from tellapart.evaluation.selective_prediction import VERDICTS
from tellapart.runs.predictions import Predictions

Counts = tuple[int, int, int]
"""Of a class: the images of it that were predicted as it, all images of it, and all predicted as it."""


@dataclass(frozen=True)
class ClassMetrics:
    """The metrics of one class. support: its images. None: not defined (recall and F1 without images, precision of a
    class that was never predicted). average_precision: where images have several labels."""

    label: str
    support: int
    precision: Estimate | None
    recall: Estimate | None
    f1: Estimate | None
    average_precision: Estimate | None = None

    def to_dict(self) -> dict[str, Any]:
        figures = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        more = self.average_precision
        return {
            "label": self.label,
            "support": self.support,
            **{name: figure and figure.to_dict() for name, figure in figures.items()},
            **({} if more is None else {"average_precision": more.to_dict()}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassMetrics:
        names = ("precision", "recall", "f1", "average_precision")
        figures = (values[name] and Estimate.from_dict(values[name]) for name in names if name in values)
        return cls(values["label"], values["support"], *figures)


@dataclass(frozen=True)
class VerdictMetrics:
    """The images with one verdict. accuracy: of their predictions; None without images."""

    n: int
    accuracy: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        return {"n": self.n, "accuracy": self.accuracy and self.accuracy.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VerdictMetrics:
        return cls(values["n"], values["accuracy"] and Estimate.from_dict(values["accuracy"]))


def class_metrics(label: str, counts: Counts, level: float) -> ClassMetrics:
    """Of one class, without its average precision."""
    hits, support, named = counts
    return ClassMetrics(
        label,
        support,
        precision=proportion(hits, named, level) if named else None,
        recall=proportion(hits, support, level) if support else None,
        f1=f1_estimate(hits, support, named, level) if support else None,
    )


def verdict_metrics(said: Predictions, level: float) -> dict[str, VerdictMetrics]:
    """By verdict; empty without verdicts."""
    right, found = said.right, dict[str, VerdictMetrics]()
    for name in VERDICTS if any(said.verdicts) else ():
        chosen = right[np.array(said.verdicts) == name]
        accuracy = proportion(int(chosen.sum()), len(chosen), level) if len(chosen) else None
        found[name] = VerdictMetrics(len(chosen), accuracy)
    return found
