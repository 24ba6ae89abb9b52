"""predictions.csv -> what was said of every picture that was judged, as arrays. Read by: evaluation, report."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.files import from_cell


@dataclass(frozen=True, eq=False)
class Predictions:
    """paths: n names. truth: (n,), positions of classes. probabilities: (n, classes)."""

    paths: tuple[str, ...]
    truth: NDArray[np.int64]
    probabilities: NDArray[np.float64]

    @property
    def named(self) -> NDArray[np.int64]:
        """The likeliest class of each picture, (n,)."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of that class, (n,)."""
        return np.asarray(self.probabilities.max(axis=1))


def read_predictions(path: Path, classes: Sequence[str]) -> Predictions | None:
    """The rows of a run's predictions.csv; None where it is missing, not of these classes, or holds what are no
    probabilities.

    Probabilities are found as the columns that are named as the classes are, side by side and in their order: a class
    may be called `path` or `label` too.
    """
    if not path.exists():
        return None
    try:
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            header, *rows = ([from_cell(cell) for cell in row] for row in csv.reader(file))
    except (ValueError, csv.Error):  # ValueError: no row at all
        return None
    width = len(classes)
    starts = [i for i in range(2, len(header) - width + 1) if header[i : i + width] == list(classes)]
    position = {name: index for index, name in enumerate(classes)}
    if not starts or not rows or any(len(row) != len(header) or row[1] not in position for row in rows):
        return None
    start = starts[-1]
    try:
        probabilities = np.array([row[start : start + width] for row in rows], dtype=np.float64)
    except ValueError:
        return None
    if not (probabilities >= 0).all() or not np.allclose(probabilities.sum(axis=1), 1, atol=1e-3):  # nan fails too
        return None
    truth = np.array([position[row[1]] for row in rows], dtype=np.int64)
    return Predictions(tuple(row[0] for row in rows), truth, probabilities)
