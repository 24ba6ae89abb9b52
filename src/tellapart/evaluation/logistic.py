"""Logistic regression in float32: loss + squared weights / (2 strength).

By L-BFGS over scaled coordinates; scikit-learn's takes them as they are. Those of the span of images are of very
unequal lengths; each divided by the curvature that it adds, a fit takes half of the passes. Of two classes and a few
coordinates by Newton's method, without scipy.optimize: its import alone takes as long as to predict 50 images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ITERATIONS = 300
_GRADIENT, _GAIN = 1e-4, 1e-5  # a hundredth of that hardly changes a validation loss, and takes twice the time
_FEW = 64  # coordinates whose matrix of second derivatives is cheap to solve
_CURVATURE = 0.1  # about that of the loss of an image that is neither sure nor open: p (1 - p)


@dataclass(frozen=True)
class Logistic:
    """kernel: (dimensions, units), bias: (units,); one unit for two classes, else one a class."""

    kernel: NDArray[np.float64]
    bias: NDArray[np.float64]

    def probabilities(self, coordinates: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, classes) of coordinates (n, dimensions)."""
        scores = coordinates @ self.kernel.astype(np.float32) + self.bias.astype(np.float32)
        if scores.shape[1] == 1:
            scores = np.concatenate([-scores / 2, scores / 2], axis=1)
        return _softmax(scores)[0]


class Problem:
    """Coordinates (n, dimensions) and labels (n,), 0..classes - 1, and how much each image weighs.

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
        truth = np.zeros((count, classes), np.float32)
        truth[np.arange(count), labels] = 1
        self._total = float(each.sum())
        self._each = (each / self._total)[:, None]
        # Of two classes, the score of the second alone.
        self._truth = truth[:, 1:] if classes == 2 else truth
        self._coordinates = coordinates
        self._squares = np.einsum("ij,ij->j", coordinates, coordinates, dtype=np.float32) / count

    def fit(self, strength: float, start: Logistic | None = None) -> Logistic:
        """strength: the inverse of the regularisation, as scikit-learn's C. start: a fit of another strength."""
        penalty = 1 / (strength * self._total)
        if len(self._squares) <= _FEW and self._truth.shape[1] == 1:
            return self._by_newton(penalty)

        from scipy.optimize import minimize

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
        return Logistic(ended[:-1] * scale, ended[-1].copy())

    def _by_newton(self, penalty: float) -> Logistic:
        """Steps halved until the loss falls, as far from the optimum a whole one may overshoot."""
        coordinates = self._coordinates.astype(np.float64)
        width = coordinates.shape[1]
        ahead = np.concatenate([coordinates, np.ones((len(coordinates), 1))], axis=1)
        ridge = np.diag([*np.full(width, penalty), 1e-9])  # the last, of the bias, keeps the matrix regular
        objective = self._objective(np.ones((width, 1)), penalty)
        weights = np.zeros(width + 1)
        loss, gradient = objective(weights)
        for _ in range(_ITERATIONS):
            said = 1 / (1 + np.exp(-np.clip(ahead @ weights, -80, 80)))
            curvature = ahead.T @ (ahead * (said * (1 - said) * self._each[:, 0])[:, None]) + ridge
            step = np.linalg.solve(curvature, gradient)
            before = loss
            for _ in range(20):
                loss, gradient = objective(weights - step)
                if loss <= before:
                    weights = weights - step
                    break
                step = step / 2
            if before - loss <= _GAIN * before:
                break
        return Logistic(weights[:-1, None], weights[-1:])

    def _objective(
        self, scale: NDArray[np.float64], penalty: float
    ) -> Callable[[NDArray[np.float64]], tuple[float, NDArray[np.float64]]]:
        """Flat weights of the scaled coordinates and biases -> the loss and its gradient."""
        coordinates, truth, each = self._coordinates, self._truth, self._each

        def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            given = flat.reshape(-1, truth.shape[1])
            kernel = given[:-1] * scale
            scores = coordinates @ kernel.astype(np.float32) + given[-1].astype(np.float32)
            if truth.shape[1] == 1:
                said = 1 / (1 + np.exp(-np.clip(scores, -80, 80)))
                losses = np.logaddexp(0, scores) - truth * scores
            else:
                said, total = _softmax(scores)
                losses = total - (truth * scores).sum(axis=1, keepdims=True)
            error = (said - truth) * each
            gradient = (coordinates.T @ error + penalty * kernel) * scale
            loss = float((losses * each).sum(dtype=np.float64)) + penalty / 2 * float(np.square(kernel).sum())
            return loss, np.concatenate([gradient, error.sum(axis=0, keepdims=True)]).ravel()

        return objective


def _softmax(scores: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities (n, classes), and the logarithm of the sum that they were divided by, (n, 1)."""
    most = scores.max(axis=1, keepdims=True)
    powers = np.exp(scores - most)
    total = powers.sum(axis=1, keepdims=True)
    return powers / total, np.log(total) + most
