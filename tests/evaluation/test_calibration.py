from __future__ import annotations

import numpy as np
import pytest

from tellapart.evaluation.calibration import (
    COLDEST,
    HOTTEST,
    Reliability,
    fit_temperature,
    reliability,
    sharpened,
    softmax,
)


def answers(n: int, classes: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `temperature` times too large, with labels that follow the true probabilities."""
    generator = np.random.default_rng(seed)
    true = generator.normal(scale=2, size=(n, classes))
    truth = (softmax(true).cumsum(axis=1) > generator.random((n, 1))).argmax(axis=1)
    return true * temperature, truth


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
@pytest.mark.parametrize("classes", [2, 5])
def test_the_temperature_that_was_put_in_is_found_again(temperature: float, classes: int) -> None:
    logits, truth = answers(20_000, classes, temperature)
    assert fit_temperature(logits, truth) == pytest.approx(temperature, rel=0.08)


def test_one_logit_of_two_classes_is_the_difference_of_two() -> None:
    logits, truth = answers(500, 2, 2.0)
    single = logits[:, 1:] - logits[:, :1]
    assert fit_temperature(single, truth) == pytest.approx(fit_temperature(logits, truth), rel=1e-4)
    np.testing.assert_allclose(softmax(single), softmax(logits), atol=1e-12)


def test_calibration_mends_overconfidence_on_other_images_and_no_answer_changes() -> None:
    logits, truth = answers(2_000, 4, 3.0)
    temperature = fit_temperature(logits[:500], truth[:500])
    before, after = softmax(logits[500:]), softmax(logits[500:] / temperature)
    np.testing.assert_array_equal(before.argmax(axis=1), after.argmax(axis=1))
    assert reliability(truth[500:], before).error > 0.1
    assert reliability(truth[500:], after).error < 0.03


def test_few_images_without_a_mistake_make_no_certainty() -> None:
    logits = np.array([[4.0, 0.0], [0.0, 4.0]] * 5)
    truth = np.array([0, 1] * 5)
    assert COLDEST < fit_temperature(logits, truth) < HOTTEST
    assert softmax(logits / fit_temperature(logits, truth)).max() < 0.96


def test_one_mistake_among_few_images_moves_the_temperature_little_and_among_many_more() -> None:
    few, many = (np.array([[2.0, 0.0]] * n) for n in (5, 500))
    truth = [np.array([1] + [0] * 4), np.array([1] * 100 + [0] * 400)]
    # Four of five: the logit of 0.8 is 1.39, so a temperature of 1.44 would fit alone.
    assert 1 < fit_temperature(few, truth[0]) < 1.35
    assert 1.43 < fit_temperature(many, truth[1]) < 1.45


def test_right_probabilities_stay_within_chance_and_wrong_ones_do_not() -> None:
    logits, truth = answers(1_000, 3, 1.0)
    right = reliability(truth, softmax(logits))
    assert right.error <= right.by_chance
    wrong = reliability(truth, softmax(2 * logits))
    assert wrong.error > wrong.by_chance
    assert sum(part.n for part in right.bins) == 1_000
    assert [part.confidence for part in right.bins] == sorted(part.confidence for part in right.bins)


def test_the_error_is_the_weighted_distance_of_confidence_and_accuracy() -> None:
    given = np.array([[0.9, 0.1]] * 4 + [[0.35, 0.65]] * 6)
    truth = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 1])
    found = reliability(truth, given)
    assert found.error == pytest.approx(0.4 * abs(0.9 - 0.75) + 0.6 * abs(0.65 - 1))
    assert Reliability.from_dict(found.to_dict()) == found


def test_a_certain_answer_falls_into_the_last_bin_and_can_be_undone() -> None:
    found = reliability(np.array([0, 1]), np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert found.error == 0
    logits, _ = answers(50, 3, 1.0)
    np.testing.assert_allclose(sharpened(softmax(logits / 2.5), 2.5), softmax(logits), atol=1e-9)
    assert sharpened(np.array([[1.0, 0.0]]), 2.0).tolist() == [[1.0, 0.0]]


def test_chance_of_very_many_images_is_as_small_as_their_number_says() -> None:
    generator = np.random.default_rng(0)
    sure = generator.uniform(0.5, 1, 90_000)
    given = np.stack([sure, 1 - sure], axis=1)
    truth = (generator.random(90_000) > sure).astype(np.int64)
    few, many = reliability(truth[:900], given[:900]), reliability(truth, given)
    assert few.by_chance / many.by_chance == pytest.approx(10, rel=0.2)
    assert many.error < 2 * many.by_chance
