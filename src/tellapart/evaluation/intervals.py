"""Confidence intervals: an estimate with the interval that contains the true value 95 times in 100.

NumPy in, floats out; no Keras.

Every method here remains valid near 0 and 1, where good classifiers are: a plain bootstrap, DeLong's method and the
normal approximation all give "100 % (100 to 100)" for 30 of 30.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from tellapart.evaluation.metrics import SMALLEST_PROBABILITY, Floats, Ints

RESAMPLES = 1000
_BLOCK_VALUES = 1_000_000  # values of a bootstrap in memory at a time: 16 MB with their indices
_CACHED_VALUES = 2**15  # as many as the fastest cache of a core holds, with their indices


@dataclass(frozen=True)
class Estimate:
    """An estimate and its interval, low <= value <= high.

    >>> print(Estimate(0.991, 0.984, 0.995))
    0.991 (0.984 to 0.995)
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"

    def to_dict(self) -> dict[str, float]:
        return {"value": self.value, "low": self.low, "high": self.high}

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> Estimate:
        return cls(values["value"], values["low"], values["high"])


def wilson_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval for a proportion, in 0..1; valid where the normal approximation fails (n small, p near 0 or 1).

    Raises ValueError unless 0 <= hits <= n and n > 0. Wilson, JASA 22 (1927) 209.

    >>> wilson_interval(99, 100)
    (0.9455..., 0.9982...)
    """
    if not 0 <= hits <= n or n == 0:
        raise ValueError(f"Given {hits} hits of {n}; expected 0 <= hits <= n and n > 0.")
    low, high = _wilson(hits, n, level)
    # At the ends the exact limit is the end itself; rounding must not push the value out of its interval.
    return (0.0 if hits == 0 else low), (1.0 if hits == n else high)


def _wilson(hits: float, n: int, level: float) -> tuple[float, float]:
    z2 = quantile(level) ** 2
    middle = (hits + z2 / 2) / (n + z2)
    half = math.sqrt(z2 * (hits * (n - hits) / n + z2 / 4)) / (n + z2)
    return middle - half, middle + half


def proportion(hits: int, n: int, level: float = 0.95) -> Estimate:
    """hits / n with its Wilson interval."""
    low, high = wilson_interval(hits, n, level)
    return Estimate(hits / n, low, high)


def f1_estimate(hits: int, support: int, named: int, level: float = 0.95) -> Estimate:
    """F1 of one class: `hits` of its `support` images, of `named` images predicted as it; support > 0.

    F1 grows with J = hits / (images of the class or predicted as it), and J is a proportion: its Wilson interval is
    transformed by F1 = 2J / (1 + J): the "Wilson direct" method of Lam, Gopal and Qian, arXiv 2309.14621 (2023).
    """
    either = support + named - hits
    low, high = wilson_interval(hits, either, level)
    return Estimate(2 * hits / (support + named), 2 * low / (1 + low), 2 * high / (1 + high))


def macro_estimates(confusion: Ints, level: float = 0.95, seed: int = 0) -> tuple[Estimate, Estimate]:
    """Balanced accuracy and macro F1 over the classes that have images, each with a bootstrap percentile interval.

    Stratified: each class is resampled to its own size, as the splits are stratified; so no class can vanish. Drawn
    from the confusion matrix, which determines both metrics, so the time does not grow with n. Before drawing, z^2/2
    hits and z^2/2 misses are spread evenly over the classes, as Agresti and Coull (The American Statistician 52 (1998)
    119) do for one proportion; without them a matrix without mistakes would look certain.
    """
    support = confusion.sum(axis=1)
    present = np.flatnonzero(support)
    hits, named = _draw_hits_and_names(confusion, present, quantile(level), np.random.default_rng(seed))
    size = support[present]
    balanced = (hits / size).mean(axis=1)
    macro = (2 * hits / (size + named)).mean(axis=1)
    true_hits = np.diagonal(confusion)[present]
    values = (true_hits / size).mean(), (2 * true_hits / (size + confusion.sum(axis=0)[present])).mean()
    first, second = (percentile(value, draws, level) for value, draws in zip(values, (balanced, macro), strict=True))
    return first, second


def _draw_hits_and_names(
    confusion: Ints, present: NDArray[np.intp], z: float, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Resampled: hits and predictions of each present class, both of shape (RESAMPLES, len(present))."""
    classes = len(confusion)
    added = z * z / 2 / len(present)
    hits = np.zeros((RESAMPLES, classes))
    named = np.zeros((RESAMPLES, classes))
    elsewhere = np.zeros((RESAMPLES, classes))
    for row in present:
        cells = np.flatnonzero(confusion[row])
        cells = np.append(cells[cells != row], row)
        weights = np.append(confusion[row, cells].astype(float), added)
        weights[-2] += added
        size = int(confusion[row].sum())
        draws = generator.multinomial(size, weights / weights.sum(), size=RESAMPLES)
        hits[:, row] = draws[:, -2]
        named[:, cells] += draws[:, :-1]
        elsewhere[:, row] = draws[:, -1] / (classes - 1)
    # A miss that was never observed is assigned to each other class with equal probability.
    named += elsewhere.sum(axis=1, keepdims=True) - elsewhere
    return hits[:, present], named[:, present]


def mean_loss_estimate(losses: Floats, level: float = 0.95, seed: int = 0) -> Estimate:
    """Mean of log losses, shape (n,) with n > 0, with a BCa bootstrap interval (Efron, JASA 82 (1987) 171).

    BCa, as losses are skewed: few mistakes contribute most of them. A single image gives no information: the interval
    is then the whole range of the loss.
    """
    value = float(losses.mean())
    if len(losses) == 1:
        return Estimate(value, 0.0, -math.log(SMALLEST_PROBABILITY))
    deviations = losses - value
    spread = float((deviations**2).sum())
    if spread <= 1e-24:
        return Estimate(value, value, value)
    means = _resampled_means(losses, np.random.default_rng(seed))
    normal = NormalDist()
    below = float((means < value).mean() + (means == value).mean() / 2)
    bias = normal.inv_cdf(min(max(below, 0.5 / RESAMPLES), 1 - 0.5 / RESAMPLES))
    acceleration = float((deviations**3).sum()) / (6 * spread**1.5)
    shares = []
    for z in (-quantile(level), quantile(level)):
        stretched = (bias + z) / (1 - acceleration * (bias + z))
        shares.append(normal.cdf(bias + stretched))
    low, high = np.quantile(means, shares)
    return Estimate(value, min(float(low), value), max(float(high), value))


def _resampled_means(values: Floats, generator: np.random.Generator) -> Floats:
    """Means of RESAMPLES samples with replacement, a limited block at a time.

    Of more values than the processor's cache holds: first how many of a sample fall into each part of them, then which,
    part by part. That is the same distribution, and reaching into all of them at random would take three times as long.
    """
    n = len(values)
    if n <= _CACHED_VALUES:
        rows = max(1, _BLOCK_VALUES // n)
        blocks = [
            values[generator.integers(0, n, (min(rows, RESAMPLES - start), n), dtype=np.int32)].mean(axis=1)
            for start in range(0, RESAMPLES, rows)
        ]
        return np.concatenate(blocks)
    parts = np.array_split(values, -(-n // _CACHED_VALUES))
    counts = generator.multinomial(n, [len(part) / n for part in parts], RESAMPLES)
    sums = np.zeros(RESAMPLES)
    for part, wanted in zip(parts, counts.T, strict=True):
        for sample, count in enumerate(wanted.tolist()):
            sums[sample] += part[generator.integers(0, len(part), count, dtype=np.int32)].sum()
    return sums / n


def auc_estimate(value: float, positives: int, negatives: int, level: float = 0.95) -> Estimate:
    """Area under the curve with a score interval; both counts > 0.

    Newcombe, Statistics in Medicine 25 (2006) 559, method 5: Hanley and McNeil's variance, evaluated at the limit
    itself and with both counts replaced by their mean, which keeps the interval inside 0..1 and open at an area of 1.
    """
    mean_count = (positives + negatives) / 2
    z = quantile(level)

    def distance(area: float) -> float:
        pairs = (mean_count - 1) * ((1 - area) / (2 - area) + area / (1 + area))
        variance = area * (1 - area) * (1 + pairs) / (positives * negatives)
        return abs(value - area) - z * math.sqrt(variance)

    return Estimate(value, _crossing(distance, 0.0, value), _crossing(distance, 1.0, value))


def average_precision_estimate(value: float, positives: int, level: float = 0.95) -> Estimate:
    """An average precision with the binomial interval of its number of positives (Boyd, Eng, Page, ECML PKDD 2013), in
    the form of Wilson, which stays in 0..1 and open at 1; positives > 0.

    >>> print(average_precision_estimate(1.0, 20))
    1.000 (0.839 to 1.000)
    """
    low, high = _wilson(value * positives, positives, level)
    return Estimate(value, max(0.0, min(low, value)), max(value, min(high, 1.0)))


def paired_difference(only_first: int, only_second: int, n: int, level: float = 0.95) -> Estimate:
    """How much more often the second of two classifiers of the same n images is right, in -1..1, with its score
    interval.

    only_first, only_second: images on which only that one is right. The interval contains the differences that the
    paired score test does not reject: Tango, Statistics in Medicine 17 (1998) 891; it stays in range, has width if the
    two never differ, and covers 94 to 99 times in 100 (measured) where the Wald interval collapses.

    Raises ValueError unless the counts are 0 or more, at most n together, and n > 0.

    >>> print(paired_difference(16, 6, 161))
    -0.062 (-0.124 to -0.005)
    """
    if min(only_first, only_second) < 0 or only_first + only_second > n or n == 0:
        raise ValueError(
            f"Given {only_first} and {only_second} of {n}; expected counts that are n > 0 at most together."
        )
    z = quantile(level)
    value = (only_second - only_first) / n

    def distance(difference: float) -> float:
        # The share of images on which only the first is right, most likely under this difference.
        linear = (2 * n + only_first - only_second) * difference - only_first - only_second
        constant = -only_first * difference * (1 - difference)
        share = (math.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        variance = n * (2 * share + difference * (1 - difference))
        return abs(only_second - only_first - n * difference) - z * math.sqrt(max(0.0, variance))

    return Estimate(value, _crossing(distance, -1.0, value), _crossing(distance, 1.0, value))


def independent_difference(first: tuple[int, int], second: tuple[int, int], level: float = 0.95) -> Estimate:
    """The share of the first minus that of the second, each (hits, n) of different images, in -1..1.

    Method 10 of Newcombe, Statistics in Medicine 17 (1998) 873: from the Wilson limits of both, so it stays in range
    and has width if both are 0 or 1. Raises ValueError as `wilson_interval` does.

    >>> print(independent_difference((56, 70), (48, 80)))
    0.200 (0.052 to 0.334)
    """
    (a, n), (b, m) = first, second
    (low, high), (other_low, other_high) = wilson_interval(a, n, level), wilson_interval(b, m, level)
    share, other = a / n, b / m
    value = share - other
    return Estimate(
        value,
        value - math.hypot(share - low, other_high - other),
        value + math.hypot(high - share, other - other_low),
    )


def _crossing(distance: Callable[[float], float], outside: float, inside: float) -> float:
    """The zero of `distance` between an end of the range and the value, by bisection."""
    for _ in range(60):
        middle = (outside + inside) / 2
        if distance(middle) > 0:
            outside = middle
        else:
            inside = middle
    return inside


def percentile(value: float, draws: Floats, level: float) -> Estimate:
    """The value with the interval that holds this share of the draws, and the value."""
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(float(value), min(float(low), float(value)), max(float(high), float(value)))


def quantile(level: float) -> float:
    """Of the standard normal: 1.96 for a level of 0.95. Raises ValueError for a level outside 0..1."""
    if not 0 < level < 1:
        raise ValueError(f"level is the confidence level of the interval, such as 0.95; given {level}.")
    return NormalDist().inv_cdf((1 + level) / 2)
