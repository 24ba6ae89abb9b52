"""A difference is called shown as seldom by chance as promised, and its interval holds the true one as often."""

import math
from itertools import product
from statistics import NormalDist

import numpy as np
import pytest
from scipy import optimize, stats

from tellapart.evaluation.compare import Comparison, compare, compare_all, fisher, holm, mcnemar
from tellapart.evaluation.intervals import Estimate, paired_difference

CLASSES = ("cat", "dog", "fox")


def answers(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth and two answers with these counts, all of class 0."""
    counts = (both, first, second, neither)
    right = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], counts, axis=0)
    return np.zeros(sum(counts), dtype=np.int64), 1 - right[:, 0], 1 - right[:, 1]


def compared(both: int, first: int, second: int, neither: int) -> Comparison:
    return compare(CLASSES, *answers(both, first, second, neither))


@pytest.mark.parametrize(
    ("table", "interval", "p"),
    [
        # Bentur et al. 2009 and Cavo et al. 2012, as worked out by Fagerland, Lydersen and Laake, Statistics in
        # Medicine 33 (2014) 2850; theirs is first minus second.
        ((1, 1, 7, 12), (0.026, 0.517), 0.0703),
        ((59, 6, 16, 80), (0.0054, 0.1240), 0.0525),
    ],
)
def test_published_examples_come_out(table: tuple[int, int, int, int], interval: tuple[float, float], p: float) -> None:
    found = compared(*table)
    assert (found.difference.low, found.difference.high) == pytest.approx(interval, abs=0.0005)
    assert found.p == pytest.approx(p, abs=0.00005)
    assert (found.both_right, found.only_first, found.only_second, found.neither) == table


@pytest.mark.parametrize("n", [1, 20, 400])
def test_two_that_never_differ_have_an_interval_with_width(n: int) -> None:
    z2 = NormalDist().inv_cdf(0.975) ** 2
    found = paired_difference(0, 0, n)
    assert (found.low, found.value, found.high) == pytest.approx((-z2 / (n + z2), 0, z2 / (n + z2)))


def score(only_first: int, only_second: int, n: int, difference: float) -> float:
    """The paired score statistic, its nuisance found by a search instead of the closed form."""

    def loss(share: float) -> float:
        cells = ((only_first, share), (only_second, share + difference), (n - only_first - only_second, 0))
        rest = max(1 - 2 * share - difference, 1e-300)
        return -sum(
            count * math.log(max(chance, 1e-300)) for count, chance in (*cells[:2], (cells[2][0], rest)) if count
        )

    low, high = max(0.0, -difference), (1 - difference) / 2
    share = optimize.minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return (only_second - only_first - n * difference) / math.sqrt(n * (2 * share + difference - difference**2))


@pytest.mark.parametrize(("first", "second", "n"), [(3, 9, 60), (40, 20, 160), (0, 4, 30), (1, 0, 44), (25, 8, 180)])
def test_the_ends_of_the_interval_are_where_the_score_test_begins_to_reject(first: int, second: int, n: int) -> None:
    found = paired_difference(first, second, n)
    z = NormalDist().inv_cdf(0.975)
    assert score(first, second, n, found.low) == pytest.approx(z, abs=0.002)
    assert score(first, second, n, found.high) == pytest.approx(-z, abs=0.002)


def test_the_interval_holds_the_value_stays_in_range_and_turns_with_the_order() -> None:
    for first, second, n in product(range(8), range(8), (7, 14)):
        if first + second <= n:
            found, turned = paired_difference(first, second, n), paired_difference(second, first, n)
            assert -1 <= found.low <= found.value <= found.high <= 1
            assert (turned.low, turned.high) == pytest.approx((-found.high, -found.low))


@pytest.mark.parametrize(("first", "second", "n"), [(1, 1, 1), (-1, 2, 5), (0, 0, 0)])
def test_impossible_counts_are_refused(first: int, second: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"Given {first} and {second} of {n}"):
        paired_difference(first, second, n)


@pytest.mark.parametrize(
    ("n", "first", "second"), [(50, 0.02, 0.02), (100, 0.05, 0.02), (400, 0.02, 0.005), (400, 0.06, 0.06)]
)
def test_the_interval_holds_the_true_difference_as_often_as_promised(n: int, first: float, second: float) -> None:
    """Not drawn but summed over every table that can happen."""
    held = total = 0.0
    for count in range(n + 1):
        rows = np.arange(n - count + 1)
        chances = stats.binom.pmf(count, n, first) * stats.binom.pmf(rows, n - count, second / (1 - first))
        for other in np.flatnonzero(chances > 1e-8):
            found = paired_difference(count, int(other), n)
            held += chances[other] * (found.low <= second - first <= found.high)
            total += chances[other]
    assert total > 0.999
    assert 0.935 <= held <= 0.99


@pytest.mark.parametrize("together", range(1, 40))
def test_the_test_calls_equal_networks_different_at_most_one_time_in_twenty(together: int) -> None:
    chance = sum(
        stats.binom.pmf(count, together, 0.5)
        for count in range(together + 1)
        if mcnemar(count, together - count) <= 0.05
    )
    assert chance <= 0.05
    assert mcnemar(0, 0) == 1
    for count in range(together + 1):
        assert mcnemar(count, together - count) == pytest.approx(stats.binomtest(count, together).pvalue)
    assert (chance > 0) == (together >= 6)


@pytest.mark.parametrize("together", [6, 7, 10, 25, 161, 1000])
def test_the_smallest_difference_is_the_least_that_is_shown(together: int) -> None:
    found = compared(3000, together, 0, 0)
    assert found.smallest_difference is not None
    more = round((found.smallest_difference * found.n + together) / 2)
    assert mcnemar(more, together - more) <= 0.05 < mcnemar(more - 1, together - more + 1)


@pytest.mark.parametrize("together", [0, 1, 5])
def test_where_nothing_can_be_shown_there_is_no_smallest_difference(together: int) -> None:
    assert compared(50, together, 0, 5).smallest_difference is None


@pytest.mark.parametrize(
    ("first", "second", "n"), [(5, 15, 1000), (0, 8, 400), (20, 30, 1000), (25, 75, 1000), (1, 6, 40)]
)
def test_the_images_needed_show_the_difference_four_times_in_five(first: int, second: int, n: int) -> None:
    needed = compared(n - first - second, first, second, 0).images_needed
    assert needed is not None
    power = 0.0
    for together in range(needed + 1):
        weight = stats.binom.pmf(together, needed, (first + second) / n)
        if weight > 1e-7:
            counts = np.arange(together + 1)
            rejected = np.minimum(1, 2 * stats.binom.cdf(np.minimum(counts, together - counts), together, 0.5)) <= 0.05
            power += weight * stats.binom.pmf(counts, together, second / (first + second))[rejected].sum()
    assert 0.8 <= power <= 0.96


def test_equal_accuracies_need_no_number_of_images() -> None:
    assert compared(90, 5, 5, 0).images_needed is None


def test_two_wrong_answers_are_no_difference_though_they_name_other_classes() -> None:
    truth = np.array([0, 0, 1, 2])
    found = compare(CLASSES, truth, np.array([1, 0, 1, 0]), np.array([2, 0, 1, 2]))
    assert (found.both_right, found.only_first, found.only_second, found.neither) == (2, 0, 1, 1)
    assert (found.first.value, found.second.value) == (0.5, 0.75)


def test_each_class_has_its_own_difference_and_one_without_images_none() -> None:
    truth = np.array([0, 0, 2, 2, 2, 2])
    found = compare(CLASSES, truth, np.array([0, 1, 0, 2, 2, 2]), np.array([0, 0, 1, 1, 1, 2]))
    assert [(row.label, row.support) for row in found.per_class] == [("cat", 2), ("fox", 4)]
    assert [row.difference.value for row in found.per_class] == [0.5, -0.5]
    assert found.per_class[1].difference == paired_difference(2, 0, 4)
    assert isinstance(found.per_class[0].first, Estimate)


def test_arrays_of_other_shapes_are_refused() -> None:
    truth = np.zeros(3, dtype=np.int64)
    for first, second in ((truth[:2], truth), (truth, truth[:2])):
        with pytest.raises(ValueError, match="expected"):
            compare(CLASSES, truth, first, second)
    with pytest.raises(ValueError, match="n > 0"):
        compare(CLASSES, truth[:0], truth[:0], truth[:0])


def test_holm_gives_what_r_gives() -> None:
    assert holm([0.05, 0.01, 0.04, 0.02, 0.03]) == pytest.approx([0.09, 0.05, 0.09, 0.08, 0.09])
    assert holm([0.9, 0.8]) == [1, 1]


def test_the_best_of_equal_networks_is_seldom_called_better_than_any() -> None:
    """Corrected for the pairs with the best alone, as if it had been named before, it would be called so too often."""
    generator = np.random.default_rng(0)
    truth, runs, alarms, naive, rounds = np.zeros(300, dtype=np.int64), 12, 0, 0, 200
    for _ in range(rounds):
        said = [(generator.random(300) < 0.2).astype(np.int64) for _ in range(runs)]
        best = int(np.argmin([wrong.sum() for wrong in said]))
        pairs = compare_all(truth, said)
        alarms += min(pairs[min(i, best), max(i, best)] for i in range(runs) if i != best) <= 0.05
        rights = [wrong == 0 for wrong in said]
        alone = [
            mcnemar(int((right & ~rights[best]).sum()), int((rights[best] & ~right).sum()))
            for i, right in enumerate(rights)
            if i != best
        ]
        naive += min(holm(alone)) <= 0.05
    assert alarms / rounds <= 0.05
    assert naive / rounds > 0.08


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((383, 500), (205, 205)),
        ((673, 734), (540, 585)),
        ((0, 5), (5, 5)),
        ((3, 7), (3, 7)),
        ((9_700, 10_000), (49, 50)),
    ],
)
def test_fishers_test_is_that_of_scipy(first: tuple[int, int], second: tuple[int, int]) -> None:
    table = [[hits, n - hits] for hits, n in (first, second)]
    assert fisher(first, second) == pytest.approx(stats.fisher_exact(table).pvalue, rel=1e-6)


def test_fishers_test_of_no_image_is_refused() -> None:
    with pytest.raises(ValueError, match="n > 0"):
        fisher((0, 0), (1, 2))
