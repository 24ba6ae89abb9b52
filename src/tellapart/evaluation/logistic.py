"""Logistic regression in float32: loss + squared weights / (2 strength).

By L-BFGS over scaled coordinates; scikit-learn's takes them as they are. Those of the span of images are of very
unequal lengths; each divided by the curvature that it adds, a fit takes half of the passes. Of two classes and a few
coordinates by Newton's method, without scipy.optimize: its import alone takes as long as to predict 50 images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_ITERATIONS = 300
_GRADIENT, _GAIN = 1e-4, 1e-5  # a hundredth of that hardly changes a validation loss, and takes twice the time
_FEW = 64  # coordinates whose matrix of second derivatives is cheap to solve
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
        return _sigmoid(scores) if self.several else probabilities_of(scores)


class Objective(Protocol):
    """What is fitted: a mean loss over images, as a function of a linear layer over coordinates.

    squares: (dimensions,), the mean square of each coordinate. total: of the weights of the images. units: outputs of
    the layer. several: whether each is of a label of its own.
    """

    squares: NDArray[np.float32]
    total: float
    units: int
    several: bool

    def look(
        self, kernel: NDArray[np.float64], bias: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """The loss without the penalty, and its gradients by kernel and bias."""


def fitted(objective: Objective, strength: float, start: Logistic | None = None) -> Logistic:
    """The layer with the least penalised loss. strength: the inverse of the regularisation, as scikit-learn's C. start:
    a fit of another strength."""
    from scipy.optimize import minimize

    penalty = 1 / (strength * objective.total)
    scale = (1 / np.sqrt(_CURVATURE * objective.squares + penalty)).astype(np.float64)[:, None]
    width, units = len(scale), objective.units
    begin = np.zeros((width + 1, units))
    if start is not None:
        begin = np.concatenate([start.kernel / scale, start.bias[None]])

    def penalised(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        given = flat.reshape(-1, units)
        kernel = given[:-1] * scale
        loss, by_kernel, by_bias = objective.look(kernel, given[-1])
        gradient = (by_kernel + penalty * kernel) * scale
        return loss + penalty / 2 * float(np.square(kernel).sum()), np.concatenate([gradient, by_bias[None]]).ravel()

    options = {"maxiter": _ITERATIONS, "gtol": _GRADIENT, "ftol": _GAIN}
    found = minimize(penalised, begin.ravel(), jac=True, method="L-BFGS-B", options=options)
    ended = found.x.reshape(width + 1, units)
    return Logistic(ended[:-1] * scale, ended[-1].copy(), objective.several)


def probabilities_of(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, classes) of scores (n, units)."""
    if scores.shape[1] == 1:
        scores = np.concatenate([-scores / 2, scores / 2], axis=1)
    return _softmax(scores)[0]


def truth_of(labels: NDArray[np.int64], classes: int) -> NDArray[np.float32]:
    """(n, units) of labels (n,): of two classes, the second alone. Of several an image, (n, classes), as they are."""
    if labels.ndim == 2:
        return labels.astype(np.float32)
    truth = np.zeros((len(labels), classes), np.float32)
    truth[np.arange(len(labels)), labels] = 1
    return truth[:, 1:] if classes == 2 else truth


def loss_of(
    scores: NDArray[np.float32], truth: NDArray[np.float32], each: NDArray[np.float32], several: bool = False
) -> tuple[float, NDArray[np.float32]]:
    """The loss of scores (n, units), weighted by each (n, 1), and its gradient by the scores. several: each unit is of
    a label of its own."""
    if several or truth.shape[1] == 1:
        said = _sigmoid(scores)
        losses = np.asarray(np.logaddexp(0, scores) - truth * scores, np.float32)
    else:
        said, total = _softmax(scores)
        losses = total - (truth * scores).sum(axis=1, keepdims=True)
    return float((losses * each).sum(dtype=np.float64)), (said - truth) * each


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
        each = np.ones(len(labels), np.float32) if weights is None else weights.astype(np.float32)
        self.total = float(each.sum())
        self._each = (each / self.total)[:, None]
        self._truth = truth_of(labels, classes)
        self.units, self.several = self._truth.shape[1], labels.ndim == 2
        self._coordinates = coordinates
        self.squares = np.einsum("ij,ij->j", coordinates, coordinates, dtype=np.float32) / len(labels)

    def fit(self, strength: float, start: Logistic | None = None) -> Logistic:
        """As `fitted` has it."""
        if len(self.squares) <= _FEW and self.units == 1:
            return self._by_newton(1 / (strength * self.total))
        return fitted(self, strength, start)

    def _by_newton(self, penalty: float) -> Logistic:
        """Steps halved until the loss falls, as far from the optimum a whole one may overshoot."""
        coordinates = self._coordinates.astype(np.float64)
        width = coordinates.shape[1]
        ahead = np.concatenate([coordinates, np.ones((len(coordinates), 1))], axis=1)
        ridge = np.array([*np.full(width, penalty), 1e-9])  # the last, of the bias, keeps the matrix regular

        def penalised(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            loss, by_kernel, by_bias = self.look(weights[:-1, None], weights[-1:])
            gradient = np.append(by_kernel[:, 0], by_bias)
            gradient[:-1] += penalty * weights[:-1]
            return loss + penalty / 2 * float(np.square(weights[:-1]).sum()), gradient

        weights = np.zeros(width + 1)
        loss, gradient = penalised(weights)
        for _ in range(_ITERATIONS):
            said = 1 / (1 + np.exp(-np.clip(ahead @ weights, -80, 80)))
            curvature = ahead.T @ (ahead * (said * (1 - said) * self._each[:, 0])[:, None]) + np.diag(ridge)
            step = np.linalg.solve(curvature, gradient)
            before = loss
            for _ in range(20):
                loss, gradient = penalised(weights - step)
                if loss <= before:
                    weights = weights - step
                    break
                step = step / 2
            if before - loss <= _GAIN * before:
                break
        return Logistic(weights[:-1, None], weights[-1:], self.several)

    def look(
        self, kernel: NDArray[np.float64], bias: NDArray[np.float64]
    ) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
        """As Objective has it."""
        scores = self._coordinates @ kernel.astype(np.float32) + bias.astype(np.float32)
        loss, error = loss_of(scores, self._truth, self._each, self.several)
        return loss, (self._coordinates.T @ error).astype(np.float64), error.sum(axis=0).astype(np.float64)


def _sigmoid(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(1 / (1 + np.exp(-np.clip(scores, -80, 80))), np.float32)


def _softmax(scores: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities (n, classes), and the logarithm of the sum that they were divided by, (n, 1)."""
    most = scores.max(axis=1, keepdims=True)
    powers = np.exp(scores - most)
    total = powers.sum(axis=1, keepdims=True)
    return powers / total, np.log(total) + most
