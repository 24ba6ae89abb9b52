"""Intervals hold the true value about as often as they promise, and never collapse onto a perfect figure."""

import time
from statistics import NormalDist

import numpy as np
import pytest
from scipy import stats

from tellapart.evaluation import intervals, metrics
from tellapart.evaluation.intervals import (
    Estimate,
    auc_estimate,
    f1_estimate,
    independent_difference,
    macro_estimates,
    mean_loss_estimate,
    proportion,
    wilson_interval,
)


@pytest.mark.parametrize(("hits", "n", "level"), [(0, 7, 0.95), (3, 7, 0.9), (99, 100, 0.95), (40, 40, 0.99)])
def test_wilson_equals_scipy(hits: int, n: int, level: float) -> None:
    expected = stats.binomtest(hits, n).proportion_ci(level, method="wilson")
    assert wilson_interval(hits, n, level) == pytest.approx((expected.low, expected.high))


def test_wilson_holds_the_value_at_both_ends_exactly() -> None:
    for n in range(1, 300):
        assert wilson_interval(0, n)[0] == 0.0
        assert wilson_interval(n, n)[1] == 1.0


@pytest.mark.parametrize(("hits", "n"), [(1, 0), (0, 0), (5, 4), (-1, 4)])
def test_wilson_refuses_impossible_counts(hits: int, n: int) -> None:
    with pytest.raises(ValueError, match=f"Given {hits} hits of {n}"):
        wilson_interval(hits, n)


@pytest.mark.parametrize("level", [0.0, 1.0, 95])
def test_a_level_outside_0_to_1_is_refused(level: float) -> None:
    with pytest.raises(ValueError, match=r"such as 0\.95"):
        wilson_interval(1, 2, level)


def test_an_estimate_prints_with_its_interval() -> None:
    assert str(Estimate(0.9912, 0.9843, 0.9951)) == "0.991 (0.984 to 0.995)"


def test_f1_interval_holds_the_truth_as_often_as_promised() -> None:
    generator = np.random.default_rng(0)
    chances = np.array([0.3, 0.04, 0.06, 0.6])  # hit, missed, named wrongly, neither
    true_f1 = 2 * 0.3 / (2 * 0.3 + 0.04 + 0.06)
    draws = generator.multinomial(120, chances, size=1000)
    estimates = [f1_estimate(int(h), int(h + m), int(h + f)) for h, m, f, _ in draws]
    assert 0.93 <= np.mean([e.low <= true_f1 <= e.high for e in estimates]) <= 0.975


def test_f1_of_a_class_never_named_is_zero_with_room_above() -> None:
    estimate = f1_estimate(0, 10, 0)
    assert (estimate.value, estimate.low) == (0.0, 0.0)
    assert estimate.high > 0.1


@pytest.mark.parametrize(
    ("hit_chances", "size"), [([0.95, 0.95], [50, 50]), ([0.97, 0.9], [200, 10]), ([0.97, 0.95, 0.9], [20, 20, 20])]
)
def test_macro_intervals_hold_the_truth_as_often_as_promised(hit_chances: list[float], size: list[int]) -> None:
    generator = np.random.default_rng(1)
    classes = len(size)
    chances = np.array(
        [np.where(np.arange(classes) == i, p, (1 - p) / (classes - 1)) for i, p in enumerate(hit_chances)]
    )
    expected = chances * np.array(size)[:, None]
    truths = np.mean(hit_chances), (2 * np.diag(expected) / (np.array(size) + expected.sum(axis=0))).mean()
    held = []
    for seed in range(150):
        confusion = np.stack([generator.multinomial(n, row) for n, row in zip(size, chances, strict=True)])
        held.append([e.low <= t <= e.high for e, t in zip(macro_estimates(confusion, seed=seed), truths, strict=True)])
    # A plain bootstrap reaches 0.65 on the second case and 0.85 on the third.
    assert np.all(np.mean(held, axis=0) > 0.89)
    assert not np.all(held)


def test_macro_figures_without_a_mistake_are_not_certain() -> None:
    for estimate in macro_estimates(np.diag([30, 30])):
        assert estimate.value == estimate.high == 1.0
        assert 0.85 < estimate.low < 0.96


def test_macro_figures_without_a_hit_are_not_certain_either() -> None:
    for estimate in macro_estimates(np.array([[0, 30], [30, 0]])):
        assert estimate.value == estimate.low == 0.0
        assert 0.04 < estimate.high < 0.15


def test_a_small_class_widens_the_interval() -> None:
    even, _ = macro_estimates(np.diag([100, 100]))
    uneven, _ = macro_estimates(np.diag([190, 10]))
    assert uneven.low < even.low - 0.05


def test_macro_figures_leave_out_a_class_without_images() -> None:
    confusion = np.array([[8, 2, 0], [0, 0, 0], [1, 1, 8]])
    balanced, macro = macro_estimates(confusion)
    assert balanced.value == pytest.approx(0.8)
    assert macro.value == pytest.approx((16 / 19 + 16 / 18) / 2)


def test_log_loss_interval_leans_the_way_the_losses_do_and_holds_the_truth() -> None:
    generator = np.random.default_rng(0)
    held = []
    for seed in range(150):
        estimate = mean_loss_estimate(generator.gamma(0.3, 1.0, 200), seed=seed)
        held.append(estimate.low <= 0.3 <= estimate.high)
        assert estimate.high - estimate.value > 0.9 * (estimate.value - estimate.low)
    assert 0.88 < np.mean(held) < 1


def test_log_loss_interval_is_bca() -> None:
    losses = np.random.default_rng(4).gamma(0.2, 1.0, 60)
    expected = stats.bootstrap((losses,), np.mean, n_resamples=5000, method="BCa", rng=1).confidence_interval
    estimate = mean_loss_estimate(losses)
    width = expected.high - expected.low
    assert estimate.low == pytest.approx(expected.low, abs=0.06 * width)
    assert estimate.high == pytest.approx(expected.high, abs=0.06 * width)


def test_log_loss_of_one_image_may_be_anything() -> None:
    assert mean_loss_estimate(np.array([0.1])) == Estimate(0.1, 0.0, pytest.approx(16.1, abs=0.1))


def test_equal_losses_have_no_spread() -> None:
    assert mean_loss_estimate(np.full(5, 0.1)) == Estimate(pytest.approx(0.1), pytest.approx(0.1), pytest.approx(0.1))


@pytest.mark.parametrize(("positives", "negatives", "shift"), [(60, 60, 0.7), (10, 100, 2.0)])
def test_area_interval_holds_the_truth_as_often_as_promised(positives: int, negatives: int, shift: float) -> None:
    generator = np.random.default_rng(0)
    true_area = NormalDist().cdf(shift / np.sqrt(2))
    positive = np.arange(positives + negatives) < positives
    held = []
    for _ in range(400):
        area = metrics.area_under_curve(positive, generator.normal(size=len(positive)) + shift * positive)
        estimate = auc_estimate(area, positives, negatives)
        held.append(estimate.low <= true_area <= estimate.high)
    assert 0.92 <= np.mean(held) < 1


def test_a_perfect_area_is_not_certain() -> None:
    small, large = auc_estimate(1.0, 5, 5), auc_estimate(1.0, 500, 500)
    assert small.high == large.high == 1.0
    assert small.low < 0.8 < 0.99 < large.low < 1.0


def test_ten_thousand_images_take_less_than_a_second() -> None:
    losses = np.random.default_rng(0).gamma(0.2, 1.0, 10_000)
    confusion = np.diag(np.full(100, 95)) + np.roll(np.diag(np.full(100, 5)), 1, axis=1)
    start = time.process_time()
    mean_loss_estimate(losses)
    macro_estimates(confusion)
    assert time.process_time() - start < 1


def test_the_same_seed_gives_the_same_interval() -> None:
    losses = np.random.default_rng(0).gamma(0.2, 1.0, 50)
    confusion = np.array([[40, 10], [5, 45]])
    assert (
        mean_loss_estimate(losses, seed=3) == mean_loss_estimate(losses, seed=3) != mean_loss_estimate(losses, seed=4)
    )
    assert macro_estimates(confusion, seed=3) == macro_estimates(confusion, seed=3)


def test_proportion_is_the_share_with_wilson() -> None:
    assert proportion(1, 4) == Estimate(0.25, *wilson_interval(1, 4))


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [((56, 70), (48, 80), 0.0524, 0.3339), ((9, 10), (3, 10), 0.1705, 0.8090), ((6, 7), (2, 7), 0.0582, 0.8062),
     ((10, 10), (0, 10), 0.6075, 1.0), ((10, 10), (0, 20), 0.6791, 1.0)],
)  # fmt: skip
def test_a_difference_of_two_groups_has_the_limits_that_its_author_published(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    found = independent_difference(first, second)
    assert (found.low, found.high) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def test_the_bootstrap_of_very_many_losses_has_the_spread_of_their_mean() -> None:
    losses = np.random.default_rng(0).exponential(size=80_000)
    found = intervals.mean_loss_estimate(losses)
    half = 1.96 * losses.std() / np.sqrt(len(losses))
    assert found.value == pytest.approx(losses.mean())
    assert [found.value - found.low, found.high - found.value] == pytest.approx([half, half], rel=0.15)
