from __future__ import annotations

import numpy as np
import pytest

from tellapart.evaluation.selective_prediction import Thresholds, choose_thresholds, coverage
from tellapart.runs.predictions import Predictions


def rows(confidence: np.ndarray) -> np.ndarray:
    return np.stack([confidence, 1 - confidence], axis=1)


def test_the_sure_reach_the_target_and_as_many_as_can_are_sure() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.5, 1, 4_000)
    truth = (generator.random(4_000) > confidence).astype(int)
    chosen = choose_thresholds(truth[:2_000], rows(confidence[:2_000]), None, 0.95)
    sure = confidence[2_000:] >= chosen.sure
    assert (truth[2_000:][sure] == 0).mean() == pytest.approx(0.95, abs=0.02)
    # Right in c of 100 at confidence c: those above 0.9 are right in 95 of 100.
    assert chosen.sure == pytest.approx(0.9, abs=0.04)


def test_probabilities_that_promise_too_much_do_not_make_an_answer_sure() -> None:
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.9, 1, 4_000)
    truth = (generator.random(4_000) > confidence - 0.2).astype(int)
    assert choose_thresholds(truth, rows(confidence), None, 0.95).sure > 0.999


def test_probabilities_below_the_target_make_no_answer_sure() -> None:
    chosen = choose_thresholds(np.zeros(300, int), rows(np.full(300, 0.98)), None, 0.99)
    assert chosen.sure > 1
    assert chosen.verdict(1.0, 0.0) == "unsure"
    assert choose_thresholds(np.zeros(20, int), rows(np.full(20, 0.995)), None, 0.99).verdict(0.995, 0.0) == "sure"


def test_equal_probabilities_are_sure_together_or_not_at_all() -> None:
    # The first hundred of the two hundred would not contradict the target alone.
    truth = np.array([0] * 100 + [1] * 100)
    chosen = choose_thresholds(truth, rows(np.full(200, 0.95)), None, 0.9)
    assert chosen.sure > 1


def test_no_more_than_the_stated_share_of_like_images_is_called_unlike() -> None:
    generator = np.random.default_rng(0)
    truth, confidence = np.zeros(20_000, int), rows(np.full(20_000, 0.9))
    shares = []
    for _ in range(200):
        distance = generator.gamma(4, size=160)
        chosen = choose_thresholds(truth[:160], confidence[:160], distance, 0.9)
        shares.append((generator.gamma(4, size=2_000) > chosen.unlike).mean())
    assert np.mean(shares) == pytest.approx(0.05, abs=0.01)


def test_few_images_leave_room_beyond_the_farthest() -> None:
    chosen = choose_thresholds(np.zeros(5, int), rows(np.full(5, 0.9)), np.array([0.1, 0.2, 0.3, 0.4, 0.5]), 0.9)
    assert chosen.unlike == pytest.approx(0.7)


def test_an_image_that_is_unlike_is_not_sure_whatever_its_probability() -> None:
    chosen = Thresholds(0.99, sure=0.9, unlike=0.5)
    assert chosen.verdict(1.0, 0.51) == "unlike"
    assert chosen.verdict(1.0, 0.5) == "sure"
    assert chosen.verdict(0.89, 0.5) == "unsure"
    assert chosen.verdict(0.95, float("nan")) == "sure"
    assert Thresholds.from_dict(chosen.to_dict()) == chosen


def test_unlike_images_of_the_validation_split_do_not_choose_what_is_sure() -> None:
    # The farthest ones are wrong with certainty; they are unlike, and so spoil nothing.
    truth = np.array([0] * 190 + [1] * 10)
    confidence = rows(np.full(200, 0.995))
    distance = np.concatenate([np.linspace(0.1, 0.2, 187), np.full(3, 0.3), np.full(10, 0.9)])
    assert choose_thresholds(truth, confidence, None, 0.99).sure > 1
    distance[190:197] = 0.3
    truth[190:197] = 0
    chosen = choose_thresholds(truth, confidence, distance, 0.99)
    assert chosen.unlike == pytest.approx(0.3)
    assert chosen.verdict(0.995, 0.1) == "sure"
    truth[:6] = 1
    assert choose_thresholds(truth, confidence, distance, 0.99).sure > 1


def test_images_that_are_unlike_and_wrong_do_not_leave_every_answer_unsure() -> None:
    truth, confidence = np.array([0] * 197 + [1] * 3), rows(np.full(200, 0.9995))
    distance = np.concatenate([np.linspace(0.1, 0.3, 197), np.full(3, 0.9)])
    assert choose_thresholds(truth, confidence, None, 0.999).sure > 1
    assert choose_thresholds(truth, confidence, distance, 0.999).sure == 0.9995


def test_coverage_goes_from_the_surest_to_all() -> None:
    generator = np.random.default_rng(1)
    confidence = generator.uniform(0.5, 1, 500)
    truth = (generator.random(500) > confidence).astype(int)
    share, accuracy, least = coverage(Predictions((), truth, rows(confidence)))
    assert share[-1] == 1
    assert accuracy[-1] == pytest.approx((truth == 0).mean())
    assert (np.diff(least) <= 0).all()
    assert accuracy[50:100].mean() > accuracy[-1]
