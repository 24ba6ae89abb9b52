"""Truth and probabilities -> the misclassified images, the most confident first.

NumPy arrays and paths in, plain values out; no Keras.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Mistake:
    """A misclassified image. truth and predicted are class names, or all of several labels as `a|b`; probability, 0..1,
    was given to `predicted`."""

    path: str
    truth: str
    predicted: str
    probability: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Mistake:
        return cls(values["path"], values["truth"], values["predicted"], values["probability"])


def find_mistakes(
    classes: Sequence[str], truth: NDArray[np.int64], probabilities: NDArray[Any], paths: Sequence[str]
) -> tuple[Mistake, ...]:
    """Every image whose most probable class is not the true one: by descending probability of that class, then path.

    truth has shape (n,), probabilities (n, k), paths n names in the same order.

    >>> find_mistakes(("cat", "dog"), np.array([0, 1]), np.array([[0.3, 0.7], [0.2, 0.8]]), ["a.jpg", "b.jpg"])
    (Mistake(path='a.jpg', truth='cat', predicted='dog', probability=0.7),)
    """
    predicted = probabilities.argmax(axis=1)
    found = [
        Mistake(paths[i], classes[truth[i]], classes[predicted[i]], float(probabilities[i, predicted[i]]))
        for i in np.flatnonzero(predicted != truth).tolist()
    ]
    return tuple(sorted(found, key=lambda mistake: (-mistake.probability, mistake.path)))
