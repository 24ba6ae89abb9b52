"""predictions.csv of a run -> the prediction for every evaluated image. The only reader of that file."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import RunError
from tellapart.files import from_cell
from tellapart.task import Task


@dataclass(frozen=True, slots=True)
class StoredPrediction:
    """A run's prediction for an image: a class name and its probability, 0..1."""

    label: str
    probability: float


@dataclass(frozen=True, eq=False)
class Predictions:
    """paths: n names. truth: (n,), positions of classes. probabilities: (n, classes). verdicts: n names, or empty if
    there are none. distances: (n,) from the nearest class, nan where undefined; None: unknown. labels: where images
    have several, whether each is predicted, (n, classes); then truth is (n, classes) too, 0 or 1."""

    paths: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    verdicts: tuple[str, ...] = ()
    distances: NDArray[np.float64] | None = None
    labels: NDArray[np.bool_] | None = None

    @property
    def named(self) -> NDArray[np.int64]:
        """The position of the most probable class of each image, (n,)."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of what is predicted, (n,): of the most probable class, or that all labels are right."""
        if self.labels is not None:
            return all_right(self.probabilities, self.labels)
        return np.asarray(self.probabilities.max(axis=1))

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the prediction is right, (n,): of several labels, all of them."""
        if self.labels is not None:
            return np.asarray((self.labels == (self.truth == 1)).all(axis=1))
        return np.asarray(self.named == self.truth)


def in_words(said: Predictions, task: Task) -> tuple[list[str], list[str]]:
    """The true and the predicted label of each image, as a catalog has it."""
    if said.labels is not None:
        both = said.truth == 1, said.labels
        return tuple([task.join(row.tolist()) for row in table] for table in both)  # type: ignore[return-value]
    return [task.classes[place] for place in said.truth], [task.classes[place] for place in said.named]


def all_right(probabilities: NDArray[np.floating], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The probability that all labels of an image are right, (n,), if their mistakes are independent. Both (n,
    classes).

    >>> all_right(np.array([[0.9, 0.2]]), np.array([[True, False]])).round(3)
    array([0.72])
    """
    return np.asarray(np.where(labels, probabilities, 1 - probabilities).prod(axis=1), np.float64)


def read_predictions(path: Path, task: Task) -> Predictions | None:
    """The rows of a run's predictions.csv; None if it is missing, has other classes, or its values are not
    probabilities.

    task: the run's. The columns of probabilities are those named like the classes, adjacent and in their order: a class
    may also be called `path` or `label`.
    """
    if not path.exists():
        return None
    try:
        header, *rows = _cells(path)
    except (ValueError, csv.Error):  # ValueError: no rows
        return None
    width = len(task.classes)
    starts = [i for i in range(2, len(header) - width + 1) if header[i : i + width] == list(task.classes)]
    position = {name: index for index, name in enumerate(task.classes)}
    if not starts or not rows or any(len(row) != len(header) for row in rows):
        return None
    if any(name not in position for row in rows for name in task.labels(row[1])):
        return None
    start = starts[-1]
    before = header[:start]
    try:
        probabilities = np.array([row[start : start + width] for row in rows], dtype=np.float64)
        place = before.index("distance") if "distance" in before else -1
        distances = np.array([row[place] or "nan" for row in rows], dtype=np.float64) if place >= 0 else None
    except ValueError:
        return None
    verdicts = tuple(row[before.index("verdict")] for row in rows) if "verdict" in before else ()
    paths = tuple(row[0] for row in rows)
    if not (probabilities >= 0).all():  # nan fails too
        return None
    if task.several:
        said = [task.labels(row[before.index("label")]) for row in rows] if "label" in before else []
        if not said or (probabilities > 1).any():
            return None
        truth = _table([task.labels(row[1]) for row in rows], task).astype(np.int64)
        return Predictions(paths, truth, probabilities, verdicts, distances, _table(said, task))
    if not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):
        return None
    truth = np.array([position[row[1]] for row in rows], dtype=np.int64)
    return Predictions(paths, truth, probabilities, verdicts, distances)


def _table(labels: Sequence[Collection[str]], task: Task) -> NDArray[np.bool_]:
    """(n, classes): which of them each image has."""
    return np.array([[name in there for name in task.classes] for there in labels])


def read_stored(path: Path) -> dict[str, StoredPrediction]:
    """The predicted class of each image, by path. Columns are found by name, the first if several have it, as a class
    may also be called `label`. Raises RunError for a file that is not such a table."""
    try:
        header, *rows = _cells(path) or [[]]
        place, label, probability = (header.index(name) for name in ("path", "label", "probability"))
        return {row[place]: StoredPrediction(row[label], _share(row[probability])) for row in rows}
    except (ValueError, IndexError, csv.Error) as error:
        raise RunError(f"{path} is damaged or not from tellapart ({error}).") from None


def _cells(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return [[from_cell(cell) for cell in row] for row in csv.reader(file)]


def _share(cell: str) -> float:
    """A probability. Raises ValueError also for nan."""
    if not 0 <= (value := float(cell)) <= 1:
        raise ValueError(f"{cell} is not a probability")
    return value
