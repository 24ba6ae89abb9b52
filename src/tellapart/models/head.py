"""Head: from the features to the probabilities that the Task requires."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.models.features import Features, Hidden, dense_of, stack
from tellapart.task import Task


@dataclass(frozen=True, eq=False)
class Head:
    """layers: in order, the last with one unit per class; hidden: the dense layers before it, with ReLU; read: the
    input of the last layer; output: the probabilities."""

    layers: tuple[Any, ...]
    hidden: tuple[Any, ...]
    read: Any
    output: Any

    @property
    def last(self) -> Any:
        return self.layers[-1]

    def linear(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """kernel: (width, classes), bias: (classes,): of what the last layer reads -> a logit of each class. One unit
        for two classes is halved between them, as softmax would have it."""
        return for_each_class(*self.weights())

    def weights(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """kernel: (width, units), bias: (units,), of the last layer."""
        kernel, bias = self.last.get_weights()
        return kernel, bias

    def set_linear(self, kernel: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
        """kernel: (width, units), bias: (units,), of the last layer."""
        self.last.set_weights([kernel, bias])


def for_each_class(
    kernel: NDArray[np.float32], bias: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The weights of a last layer, of which one unit for two classes is halved between them.

    >>> for_each_class(np.ones((1, 1), np.float32), np.array([4], np.float32))[1].tolist()
    [-2.0, 2.0]
    """
    if bias.size > 1:
        return kernel, bias
    halves = np.array([-0.5, 0.5], np.float32)
    return kernel * halves, bias * halves


def last_name(task: Task) -> str:
    """Of the last layer."""
    return task.form.layer


def build_head(task: Task, features: Features, hidden: Hidden) -> Head:
    """What the form of the task says: one sigmoid unit for two classes, softmax for more, a sigmoid unit for each of
    several labels."""
    from keras import layers

    read, made = stack(features.vector, hidden)
    last = layers.Dense(task.units, activation=task.form.activation, dtype="float32", name=last_name(task))
    return Head((*made, last), dense_of(made), read, last(read))
