"""Truth and probabilities of one split -> Evaluation: every metric with its interval. Stored in metrics.json.

NumPy in, NumPy out; no Keras, no figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import some
from tellapart.evaluation import metrics as measures
from tellapart.evaluation.calibration import Reliability, reliability
from tellapart.evaluation.intervals import (
    Estimate,
    auc_estimate,
    f1_estimate,
    macro_estimates,
    mean_loss_estimate,
    proportion,
)
from tellapart.evaluation.judgement import Verdict
from tellapart.evaluation.metrics import Ints
from tellapart.evaluation.mistakes import Mistake, find_mistakes
from tellapart.evaluation.selective_prediction import VERDICTS
from tellapart.evaluation.shift import Shift
from tellapart.runs.predictions import Predictions
from tellapart.task import Task

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss", "top_5_accuracy", "auc")
_ROW_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class ClassMetrics:
    """The metrics of one class. support: its images. None: not defined (recall and F1 without images, precision of a
    class that was never predicted)."""

    label: str
    support: int
    precision: Estimate | None
    recall: Estimate | None
    f1: Estimate | None

    def to_dict(self) -> dict[str, Any]:
        figures = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        return {
            "label": self.label,
            "support": self.support,
            **{name: figure and figure.to_dict() for name, figure in figures.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClassMetrics:
        figures = (values[name] and Estimate.from_dict(values[name]) for name in ("precision", "recall", "f1"))
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


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of a network on one split. Compare two by `to_dict()`.

    n: images. level: confidence level of the intervals. metrics: by name, those of METRICS that are defined here.
    per_class: in class order. confusion: shape (k, k), rows are the truth. mistakes: the most confident first.
    calibration: whether the probabilities are reliable. verdicts: by name, empty if there are none. notes: what is not
    defined here and why. verdict: whether to use the run, and what next; None if it is not judged. shift: whether the
    images differ from the validation images; None if that was not tested.
    """

    split: str
    n: int
    level: float
    metrics: dict[str, Estimate]
    per_class: tuple[ClassMetrics, ...]
    confusion: Ints
    mistakes: tuple[Mistake, ...]
    calibration: Reliability
    verdicts: dict[str, VerdictMetrics]
    notes: tuple[str, ...] = ()
    verdict: Verdict | None = None
    shift: Shift | None = None

    @property
    def accuracy(self) -> Estimate:
        """Share of all images classified correctly, with its interval."""
        return self.metrics["accuracy"]

    def __repr__(self) -> str:
        """In short: the metrics with their intervals."""
        figures = ", ".join(f"{name} {estimate}" for name, estimate in self.metrics.items())
        return f"<Evaluation of {self.n} images of the {self.split} split: {figures}>"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values: the metrics by name, and the rest beside them. metrics.json holds `{split: this}`."""
        return {
            **{name: estimate.to_dict() for name, estimate in self.metrics.items()},
            "split": self.split,
            "n": self.n,
            "level": self.level,
            "per_class": [row.to_dict() for row in self.per_class],
            "confusion": self.confusion.tolist(),
            "mistakes": [mistake.to_dict() for mistake in self.mistakes],
            "calibration": self.calibration.to_dict(),
            "verdicts": {name: found.to_dict() for name, found in self.verdicts.items()},
            "notes": list(self.notes),
            "verdict": self.verdict and self.verdict.to_dict(),
            "shift": self.shift and self.shift.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Evaluation:
        """The inverse of `to_dict`. Raises ValueError for anything else."""
        try:
            return cls(
                split=values["split"],
                n=values["n"],
                level=values["level"],
                metrics={name: Estimate.from_dict(values[name]) for name in METRICS if name in values},
                per_class=tuple(ClassMetrics.from_dict(row) for row in values["per_class"]),
                confusion=_frozen(np.array(values["confusion"], dtype=np.int64)),
                mistakes=tuple(Mistake.from_dict(mistake) for mistake in values["mistakes"]),
                calibration=Reliability.from_dict(values["calibration"]),
                verdicts={name: VerdictMetrics.from_dict(found) for name, found in values["verdicts"].items()},
                notes=tuple(values["notes"]),
                verdict=Verdict.from_dict(values["verdict"]) if values.get("verdict") else None,
                shift=Shift.from_dict(values["shift"]) if values.get("shift") else None,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"Expected the values of an evaluation as Evaluation.to_dict gives them; {error!r}."
            ) from None


def evaluate(task: Task, said: Predictions, *, split: str, level: float = 0.95, seed: int = 0) -> Evaluation:
    """Evaluate the predictions of a network for the images of one split.

    Rows of probabilities sum to 1, also for a binary task. The prediction for an image is its most probable class, the
    first of equal ones. level: of the intervals. seed: of the bootstrap (balanced accuracy, macro F1, log loss).

    A class without images in this split has no recall and no F1, and is excluded from the means over classes; a note
    says so. Raises ValueError for no images, or arrays of another shape or range.

    >>> task = Task(("cats", "dogs"))
    >>> given = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    >>> said = Predictions(("a", "b", "c"), np.array([0, 0, 1]), given)
    >>> print(evaluate(task, said, split="test").accuracy)
    0.667 (0.208 to 0.939)
    """
    _check(task, said, split)
    truth, probabilities = said.truth.astype(np.int64), said.probabilities
    confusion = measures.confusion_matrix(truth, probabilities.argmax(axis=1), len(task.classes))
    per_class = _per_class(task, confusion, level)
    figures, notes = _figures(task, truth, probabilities, confusion, level, seed)
    absent = [row.label for row in per_class if not row.support]
    if absent:
        notes.insert(0, _absent_note(split, absent))
    return Evaluation(
        split=split,
        n=len(truth),
        level=level,
        metrics=figures,
        per_class=per_class,
        confusion=_frozen(confusion),
        mistakes=find_mistakes(task.classes, truth, probabilities, said.paths),
        calibration=reliability(truth, probabilities, seed=seed),
        verdicts=_per_verdict(truth, probabilities, said.verdicts, level) if any(said.verdicts) else {},
        notes=tuple(notes),
    )


def _figures(
    task: Task, truth: Ints, probabilities: NDArray[Any], confusion: Ints, level: float, seed: int
) -> tuple[dict[str, Estimate], list[str]]:
    """The metrics that are defined, in the order of METRICS, and a note for each that is not."""
    n, classes = probabilities.shape
    balanced_accuracy, macro_f1 = macro_estimates(confusion, level, seed)
    losses = measures.log_losses(truth, probabilities)
    figures = {
        "accuracy": proportion(int(np.trace(confusion)), n, level),
        "balanced_accuracy": balanced_accuracy,
        "macro_f1": macro_f1,
        "log_loss": mean_loss_estimate(losses, level, seed),
    }
    notes = []
    if classes > 5:
        figures["top_5_accuracy"] = proportion(int(measures.in_top(truth, probabilities, 5).sum()), n, level)
    if task.kind == "binary":
        positives = int(truth.sum())
        if 0 < positives < n:
            area = measures.area_under_curve(truth == 1, probabilities[:, 1])
            figures["auc"] = auc_estimate(area, positives, n - positives, level)
        else:
            notes.append("The area under the ROC curve is not defined: it needs images of both classes.")
    return figures, notes


def _per_class(task: Task, confusion: Ints, level: float) -> tuple[ClassMetrics, ...]:
    rows = []
    for index, label in enumerate(task.classes):
        hits, support, named = (
            int(v) for v in (confusion[index, index], confusion[index].sum(), confusion[:, index].sum())
        )
        rows.append(
            ClassMetrics(
                label,
                support,
                precision=proportion(hits, named, level) if named else None,
                recall=proportion(hits, support, level) if support else None,
                f1=f1_estimate(hits, support, named, level) if support else None,
            )
        )
    return tuple(rows)


def _per_verdict(
    truth: Ints, probabilities: NDArray[Any], verdicts: Sequence[str], level: float
) -> dict[str, VerdictMetrics]:
    right = probabilities.argmax(axis=1) == truth
    found: dict[str, VerdictMetrics] = {}
    for name in VERDICTS:
        chosen = right[np.array(verdicts) == name]
        accuracy = proportion(int(chosen.sum()), len(chosen), level) if len(chosen) else None
        found[name] = VerdictMetrics(len(chosen), accuracy)
    return found


def _absent_note(split: str, absent: list[str]) -> str:
    return (
        f"The {split} split has no image of {some(absent, 5)}: they have no recall there, and the means "
        "over classes (balanced accuracy, macro F1) exclude them."
    )


def _check(task: Task, said: Predictions, split: str) -> None:
    truth, probabilities, paths = said.truth, said.probabilities, said.paths
    n, classes = len(truth), len(task.classes)
    if n == 0:
        raise ValueError(f"The {split} split has no images: there is nothing to evaluate. Name a split that has some.")
    if truth.shape != (n,) or probabilities.shape != (n, classes) or len(paths) != n:
        raise ValueError(
            f"Given truth {truth.shape}, probabilities {probabilities.shape} and {len(paths)} paths; "
            f"expected ({n},), ({n}, {classes}) and {n}."
        )
    if not np.issubdtype(truth.dtype, np.integer) or truth.min() < 0 or truth.max() >= classes:
        raise ValueError(
            f"truth holds whole numbers 0..{classes - 1}, positions in the classes; given {truth.dtype} "
            f"{truth.min()}..{truth.max()}."
        )
    # Written so that nan fails too.
    if not (probabilities.min() >= 0 and np.all(np.abs(probabilities.sum(axis=1) - 1) <= _ROW_SUM_TOLERANCE)):
        raise ValueError(
            "Each row of probabilities is 0 or more and sums to 1. Are these logits, or is one not a number?"
        )


def _frozen(confusion: Ints) -> Ints:
    confusion.setflags(write=False)
    return confusion
