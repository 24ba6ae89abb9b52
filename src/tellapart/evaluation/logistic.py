"""Logistic regression by L-BFGS over scaled coordinates, in float32: loss + squared weights / (2 strength).

scikit-learn's takes the coordinates as they are. Those of the span of images are of very unequal lengths; each divided
by the curvature that it adds, a fit takes half of the passes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ITERATIONS = 300
_GRADIENT, _GAIN = 1e-4, 1e-5  # a hundredth of that hardly changes a validation loss, and takes twice the time
_CURVATURE = 0.1  # about that of the loss of an image that is neither sure nor open: p (1 - p)


@dataclass(frozen=True)
class Logistic:
    """kernel: (dimensions, units), bias: (units,); one unit for two classes, else one a class. several: whether each
    unit says whether a label is there, and not which class it is."""

    kernel: NDArray[np.float64]
    bias: NDArray[np.float64]
    several: bool = False

    def probabilities(self, coordinates: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, classes) of coordinates (n, dimensions)."""
        scores = coordinates @ self.kernel.astype(np.float32) + self.bias.astype(np.float32)
        if self.several:
            return _sigmoid(scores)
        if scores.shape[1] == 1:
            scores = np.concatenate([-scores / 2, scores / 2], axis=1)
        return _softmax(scores)[0]


class Problem:
    """Coordinates (n, dimensions) and labels (n,), 0..classes - 1, and how much each image weighs. Labels (n, classes)
    of 0 and 1 are several an image: a regression for each.

    >>> problem = Problem(np.array([[-1], [1], [2]], np.float32), np.array([0, 1, 1]), 2)
    >>> problem.fit(1.0).probabilities(np.array([[-2], [2]], np.float32)).argmax(axis=1)
    array([0, 1])
    """

    def __init__(
        self,
        coordinates: NDArray[np.float32],
        labels: NDArray[np.int64],
        classes: int,
        weights: NDArray[np.float32] | None = None,
    ) -> None:
        count = len(labels)
        each = np.ones(count, np.float32) if weights is None else weights.astype(np.float32)
        self._several = labels.ndim == 2
        truth = labels.astype(np.float32) if self._several else np.eye(classes, dtype=np.float32)[labels]
        self._total = float(each.sum())
        self._each = (each / self._total)[:, None]
        # Of two classes, the score of the second alone.
        self._truth = truth[:, 1:] if classes == 2 and not self._several else truth
        self._coordinates = coordinates
        self._squares = np.einsum("ij,ij->j", coordinates, coordinates, dtype=np.float32) / count

    def fit(self, strength: float, start: Logistic | None = None) -> Logistic:
        """strength: the inverse of the regularisation, as scikit-learn's C. start: a fit of another strength."""
        from scipy.optimize import minimize

        penalty = 1 / (strength * self._total)
        scale = (1 / np.sqrt(_CURVATURE * self._squares + penalty)).astype(np.float64)[:, None]
        width, units = len(scale), self._truth.shape[1]
        begin = np.zeros((width + 1, units))
        if start is not None:
            begin = np.concatenate([start.kernel / scale, start.bias[None]])
        found = minimize(
            self._objective(scale, penalty),
            begin.ravel(),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _ITERATIONS, "gtol": _GRADIENT, "ftol": _GAIN},
        )
        ended = found.x.reshape(width + 1, units)
        return Logistic(ended[:-1] * scale, ended[-1].copy(), self._several)

    def _objective(
        self, scale: NDArray[np.float64], penalty: float
    ) -> Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]:
        """Flat weights of the scaled coordinates and biases -> the loss and its gradient."""
        coordinates, truth, each = self._coordinates, self._truth, self._each
        by_itself = self._several or truth.shape[1] == 1

        def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            given = flat.reshape(-1, truth.shape[1])
            kernel = given[:-1] * scale
            scores = coordinates @ kernel.astype(np.float32) + given[-1].astype(np.float32)
            if by_itself:
                said = _sigmoid(scores)
                losses = np.logaddexp(0, scores) - truth * scores
            else:
                said, total = _softmax(scores)
                losses = total - (truth * scores).sum(axis=1, keepdims=True)
            error = (said - truth) * each
            gradient = (coordinates.T @ error + penalty * kernel) * scale
            loss = float((losses * each).sum(dtype=np.float64)) + penalty / 2 * float(np.square(kernel).sum())
            return loss, np.concatenate([gradient, error.sum(axis=0, keepdims=True)]).ravel()

        return objective


def _sigmoid(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-np.clip(scores, -80, 80))), np.float32)


def _softmax(scores: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities (n, classes), and the logarithm of the sum that they were divided by, (n, 1)."""
    most = scores.max(axis=1, keepdims=True)
    powers = np.exp(scores - most)
    total = powers.sum(axis=1, keepdims=True)
    return powers / total, np.log(total) + most
