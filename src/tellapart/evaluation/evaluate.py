"""Truth and probabilities of one split -> Evaluation: every metric with its interval. Stored in metrics.json.

NumPy in, NumPy out; no Keras, no figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tellapart.errors import some
from tellapart.evaluation import metrics as measures
from tellapart.evaluation.calibration import Reliability, reliability
from tellapart.evaluation.class_metrics import ClassMetrics, VerdictMetrics, class_metrics, verdict_metrics
from tellapart.evaluation.intervals import Estimate, auc_estimate, macro_estimates, mean_loss_estimate, proportion
from tellapart.evaluation.judgement import Verdict
from tellapart.evaluation.metrics import Ints
from tellapart.evaluation.mistakes import Mistake, find_mistakes
from tellapart.evaluation.several_labels import Figures, check_labels, label_figures
from tellapart.evaluation.shift import Shift
from tellapart.runs.predictions import Predictions
from tellapart.task import Task

METRICS = (
    "accuracy", "balanced_accuracy", "mean_average_precision", "micro_f1", "macro_f1", "log_loss", "top_5_accuracy",
    "auc",
)  # fmt: skip
_ROW_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Evaluation:
    """The result of a network on one split. Compare two by `to_dict()`.

    n: images. level: confidence level of the intervals. metrics: by name, those of METRICS that are defined here.
    per_class: in class order. confusion: shape (k, k), rows are the truth; of several labels (k, 2, 2), whether each is
    there by whether it is predicted (scikit-learn's multilabel_confusion_matrix). mistakes: the most confident first.
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
    def several(self) -> bool:
        """Whether images have several labels."""
        return self.confusion.ndim == 3

    @property
    def accuracy(self) -> Estimate:
        """Share of all images classified correctly, of several labels in all of them, with its interval."""
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

    With several labels an image, a prediction is right if all of them are (accuracy is then called exact match), and
    there are the means of the labels' average precision and F1. Otherwise rows of probabilities sum to 1, also for a
    binary task, and the prediction is the most probable class, the first of equal ones. level: of the intervals. seed:
    of the bootstrap (balanced accuracy, macro F1, log loss, and those of several labels).

    A class without images in this split has no recall and no F1, and is excluded from the means over classes; a note
    says so. Raises ValueError for no images, or arrays of another shape or range.

    >>> task = Task(("cats", "dogs"))
    >>> given = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]])
    >>> said = Predictions(("a", "b", "c"), np.array([0, 0, 1]), given)
    >>> print(evaluate(task, said, split="test").accuracy)
    0.667 (0.208 to 0.939)
    """
    (check_labels if task.several else _check)(task, said, split)
    found = label_figures(task, said, level, seed) if task.several else _figures(task, said, level, seed)
    truth, per_class, notes = said.truth.astype(np.int64), found.per_class, list(found.notes)
    absent = [row.label for row in per_class if not row.support]
    if absent:
        notes.insert(0, _absent_note(split, absent))
    return Evaluation(
        split=split,
        n=len(truth),
        level=level,
        metrics=found.metrics,
        per_class=per_class,
        confusion=_frozen(found.confusion),
        mistakes=found.mistakes,
        calibration=reliability(truth, said.probabilities, seed=seed),
        verdicts=verdict_metrics(said, level),
        notes=tuple(notes),
    )


def _figures(task: Task, said: Predictions, level: float, seed: int) -> Figures:
    """Of images with one label each: the metrics that are defined, in the order of METRICS, and a note for each that is
    not."""
    truth, probabilities = said.truth.astype(np.int64), said.probabilities
    n, classes = probabilities.shape
    confusion = measures.confusion_matrix(truth, said.named, classes)
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
    rows = zip(task.classes, np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0), strict=True)
    per_class = tuple(class_metrics(label, (int(hit), int(own), int(named)), level) for label, hit, own, named in rows)
    mistakes = find_mistakes(task.classes, truth, probabilities, said.paths)
    return Figures(figures, per_class, confusion, mistakes, tuple(notes))


def _absent_note(split: str, absent: list[str]) -> str:
    return (
        f"The {split} split has no image of {some(absent, 5)}: they have no recall there, and the means "
        "over classes exclude them."
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
