"""Truth and the predictions of several networks for the same images -> whether the difference is significant.

NumPy in, plain values out; no Keras.

Images on which both are right, or both are wrong, do not tell which is better: McNemar's test uses the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.intervals import Estimate, paired_difference, proportion
from tellapart.evaluation.metrics import Ints

LEVEL = 0.95
POWER = 0.8


@dataclass(frozen=True)
class ClassDifference:
    """One class: its images, the recall of each, and second minus first with its interval (of this class alone)."""

    label: str
    support: int
    first: Estimate
    second: Estimate
    difference: Estimate


@dataclass(frozen=True)
class Comparison:
    """Two sets of predictions for the same n images. level: confidence level of the intervals.

    first, second: accuracy of each. both_right, only_first, only_second, neither: images by which of the two is right.
    p: McNemar's exact test, 0..1. difference: accuracy, second minus first. smallest_difference: in accuracy, 0..1, the
    smallest that would be significant with as many images on which only one is right; None if they are too few for
    any. images_needed: about how many images would show the observed difference, if it is the true one, with a power of
    80 %; None without a difference. per_class: the classes that have images, in class order.
    """

    n: int
    level: float
    first: Estimate
    second: Estimate
    both_right: int
    only_first: int
    only_second: int
    neither: int
    p: float
    difference: Estimate
    smallest_difference: float | None
    images_needed: int | None
    per_class: tuple[ClassDifference, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def compare(classes: Sequence[str], truth: Ints, first: Ints, second: Ints, *, level: float = LEVEL) -> Comparison:
    """Compare two sets of predictions, each shape (n,), with the truth (n,): whole numbers, positions in `classes`.

    Raises ValueError for no image, or arrays of other shapes.

    >>> truth = np.zeros(20, dtype=np.int64)
    >>> compare(("cat", "dog"), truth, np.repeat([0, 1], [12, 8]), truth).p
    0.0078125
    """
    n = len(truth)
    if n == 0 or not truth.shape == first.shape == second.shape == (n,):
        raise ValueError(
            f"Given truth {truth.shape} and answers {first.shape} and {second.shape}; expected (n,) each, n > 0."
        )
    right = np.stack([first == truth, second == truth])
    only_first, only_second = _alone(right)
    both = int(right.all(axis=0).sum())
    return Comparison(
        n=n,
        level=level,
        first=proportion(int(right[0].sum()), n, level),
        second=proportion(int(right[1].sum()), n, level),
        both_right=both,
        only_first=only_first,
        only_second=only_second,
        neither=n - both - only_first - only_second,
        p=mcnemar(only_first, only_second),
        difference=paired_difference(only_first, only_second, n, level),
        smallest_difference=_smallest_difference(only_first + only_second, n, level),
        images_needed=_images_needed(only_first, only_second, n, level),
        per_class=tuple(
            _class_difference(label, right[:, truth == index], level)
            for index, label in enumerate(classes)
            if (truth == index).any()
        ),
    )


def mcnemar(only_first: int, only_second: int) -> float:
    """Probability of counts at least this uneven if both are equally good: the exact test of McNemar, Psychometrika 12
    (1947) 153. It never rejects more often than its level, and less often for small counts.

    >>> round(mcnemar(16, 6), 4)
    0.0525
    """
    # scipy.stats has it too, and takes half a second to import.
    from scipy.special import bdtr

    return min(1.0, 2 * float(bdtr(min(only_first, only_second), only_first + only_second, 0.5)))


def fisher(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Probability of shares (hits, n) of two sets of different images that are at least this uneven, if both have the
    same true share: the exact test of Fisher, J. R. Stat. Soc. 85 (1922) 87, two-sided. Raises ValueError for n of 0.

    >>> round(fisher((8, 10), (3, 10)), 4)
    0.0698
    """
    # scipy.stats has it too, and takes half a second to import.
    from scipy.special import gammaln

    (a, n), (b, m) = first, second
    if not 0 <= a <= n or not 0 <= b <= m or not n or not m:
        raise ValueError(f"Given {a} hits of {n} and {b} of {m}; expected 0 <= hits <= n and n > 0.")
    hits = a + b
    possible = np.arange(max(0, hits - m), min(hits, n) + 1)

    def ways(total: int, chosen: Any) -> Any:
        return gammaln(total + 1) - gammaln(chosen + 1) - gammaln(total - chosen + 1)

    chances = np.exp(ways(n, possible) + ways(m, hits - possible) - ways(n + m, hits))
    seen = chances[a - possible[0]]
    # Equal probabilities may differ in their last digits.
    return min(1.0, float(chances[chances <= seen * (1 + 1e-7)].sum()))


def compare_all(truth: Ints, answers: Sequence[Ints]) -> dict[tuple[int, int], float]:
    """Holm-corrected p of every pair (i, j), i < j, of `answers`, each (n,).

    All pairs count, even if only those with the best are reported: which one is best was determined from these images
    too, and correcting for only the k - 1 pairs with it would call equal networks different too often.
    """
    right = [answer == truth for answer in answers]
    pairs = list(combinations(range(len(answers)), 2))
    raw = [mcnemar(*_alone(np.stack([right[i], right[j]]))) for i, j in pairs]
    return dict(zip(pairs, holm(raw), strict=True))


def holm(values: Sequence[float]) -> list[float]:
    """p values of several tests, corrected so that 0.05 bounds the probability of any false positive; in the given
    order.

    Holm, Scandinavian Journal of Statistics 6 (1979) 65.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted = [0.0] * len(values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = largest
    return adjusted


def _alone(right: NDArray[np.bool_]) -> tuple[int, int]:
    """Images on which only the first, and only the second, is right; right: shape (2, n)."""
    return int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())


def _class_difference(label: str, right: NDArray[np.bool_], level: float) -> ClassDifference:
    support = right.shape[1]
    first, second = (proportion(int(row.sum()), support, level) for row in right)
    return ClassDifference(label, support, first, second, paired_difference(*_alone(right), support, level))


def _smallest_difference(together: int, n: int, level: float) -> float | None:
    """The smallest significant difference, if only one of the two is right on `together` of n images."""
    from scipy.special import bdtr

    rejected = 2 * bdtr(np.arange(together // 2 + 1), together, 0.5) <= 1 - level
    fewer = int(rejected.sum()) - 1
    return (together - 2 * fewer) / n if fewer >= 0 else None


def _images_needed(only_first: int, only_second: int, n: int, level: float) -> int | None:
    """Connor, Biometrics 43 (1987) 207, for McNemar's test, plus 2 / difference for the exact one, whose power is then
    0.80 to 0.93 (computed in the tests); rounded up to two digits, as it is an estimate."""
    difference = abs(only_second - only_first) / n
    if difference == 0:
        return None
    share = (only_first + only_second) / n
    z, z_power = NormalDist().inv_cdf((1 + level) / 2), NormalDist().inv_cdf(POWER)
    root = z * math.sqrt(share) + z_power * math.sqrt(share - difference**2)
    needed = (root / difference) ** 2 + 2 / difference
    unit = int(10 ** max(0, math.floor(math.log10(needed)) - 1))
    return int(math.ceil(needed / unit) * unit)
