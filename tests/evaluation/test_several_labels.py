"""Metrics, thresholds and regressions of images with several labels, compared with scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as theirs
from sklearn.linear_model import LogisticRegression

from tellapart.evaluation.calibration import fit_temperature, probabilities_of, reliability, sharpened
from tellapart.evaluation.evaluate import Evaluation, evaluate
from tellapart.evaluation.logistic import Problem
from tellapart.evaluation.metrics import average_precision
from tellapart.evaluation.selective_prediction import Thresholds, best_f1, choose_thresholds
from tellapart.runs.predictions import Predictions, all_right
from tellapart.task import Task

TASK = Task(("cat", "dog", "fox", "owl"), several=True)


def drawn(n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth and probabilities that follow it; nobody has an owl."""
    generator = np.random.default_rng(seed)
    truth = (generator.random((n, 4)) < [0.5, 0.3, 0.1, 0]).astype(np.int64)
    logits = 2.5 * (truth - 0.5) + generator.normal(0, 1, truth.shape)
    return truth, 1 / (1 + np.exp(-logits))


def said(n: int = 200, seed: int = 0) -> Predictions:
    truth, probabilities = drawn(n, seed)
    paths = tuple(f"{number}.jpg" for number in range(n))
    verdicts = tuple("sure" if number % 2 else "unsure" for number in range(n))
    return Predictions(paths, truth, probabilities, verdicts, labels=probabilities >= 0.5)


def test_every_figure_is_that_of_scikit_learn() -> None:
    given = said()
    assert given.labels is not None
    found = evaluate(TASK, given, split="test")
    there = given.truth[:, :3]
    assert found.accuracy.value == pytest.approx(theirs.accuracy_score(given.truth, given.labels))
    average = theirs.average_precision_score(there, given.probabilities[:, :3], average=None)
    rows = found.per_class[:3]
    assert [row.average_precision.value for row in rows if row.average_precision] == pytest.approx(average)
    assert found.metrics["mean_average_precision"].value == pytest.approx(average.mean())
    each = theirs.f1_score(there, given.labels[:, :3], average=None)
    assert [row.f1.value for row in rows if row.f1] == pytest.approx(each)
    assert found.metrics["macro_f1"].value == pytest.approx(each.mean())
    micro = theirs.f1_score(there, given.labels[:, :3], average="micro")
    assert found.metrics["micro_f1"].value == pytest.approx(micro)
    np.testing.assert_array_equal(found.confusion, theirs.multilabel_confusion_matrix(given.truth, given.labels))
    losses = [theirs.log_loss(given.truth[:, k], given.probabilities[:, k], labels=[0, 1]) for k in range(4)]
    assert found.metrics["log_loss"].value == pytest.approx(np.mean(losses))
    assert found.per_class[3].recall is None
    assert "no image of owl" in found.notes[0]
    assert Evaluation.from_dict(found.to_dict()).to_dict() == found.to_dict()


def test_an_image_is_a_mistake_if_one_label_is_wrong_and_is_named_with_all() -> None:
    truth = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 0, 0]])
    rows = np.array([[0.9, 0.8, 0.1, 0.1], [0.1, 0.2, 0.7, 0.1], [0.1, 0.3, 0.1, 0.1]])
    found = evaluate(TASK, Predictions(("a", "b", "c"), truth, rows, labels=rows >= 0.5), split="test")
    told = {mistake.path: (mistake.truth, mistake.predicted, mistake.probability) for mistake in found.mistakes}
    assert told == {
        "b": ("", "fox", pytest.approx(0.9 * 0.8 * 0.7 * 0.9)),
        "c": ("dog", "", pytest.approx(0.9 * 0.7 * 0.9 * 0.9)),
    }


def test_intervals_hold_the_value_and_are_open_where_all_is_right() -> None:
    truth = drawn()[0]
    right = Predictions(tuple(map(str, range(200))), truth, np.clip(truth, 0.01, 0.99), labels=truth == 1)
    for given in (said(), right):
        found = evaluate(TASK, given, split="test")
        for estimate in found.metrics.values():
            assert estimate.low <= estimate.value <= estimate.high
    assert 0.8 < found.metrics["mean_average_precision"].low < 1
    assert 0.8 < found.metrics["macro_f1"].low < 1
    average = found.per_class[0].average_precision
    assert average is not None
    assert average.low < 1


def test_the_interval_of_the_mean_average_precision_covers_it() -> None:
    """The value of many images lies in the intervals of samples of 100 about 95 times in 100."""
    many = said(20_000, 99)
    assert many.labels is not None
    there, named, rows = many.truth[:, :3], many.labels[:, :3], many.probabilities[:, :3]
    whole = {
        "mean_average_precision": theirs.average_precision_score(there, rows),
        "micro_f1": theirs.f1_score(there, named, average="micro"),
        "macro_f1": theirs.f1_score(there, named, average="macro"),
    }
    inside = dict.fromkeys(whole, 0)
    for seed in range(40):
        found = evaluate(TASK, said(100, seed), split="test", seed=seed).metrics
        for name in inside:
            inside[name] += found[name].low <= whole[name] <= found[name].high
    assert min(inside.values()) >= 35


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda given: {"truth": given.truth + 1}, "0 and 1"),
        (lambda given: {"probabilities": given.probabilities + 1}, "0 to 1"),
        (lambda _: {"labels": None}, "labels"),
    ],
)
def test_values_that_are_none_are_refused(change: object, message: str) -> None:
    given = said()
    values = {name: getattr(given, name) for name in ("paths", "truth", "probabilities", "labels")}
    with pytest.raises(ValueError, match=message):
        evaluate(TASK, Predictions(**{**values, **change(given)}), split="test")  # type: ignore[operator]


def test_each_label_has_the_threshold_of_its_highest_f1() -> None:
    truth, probabilities = drawn()
    found = best_f1(truth, probabilities)
    for place in range(3):
        there, given = truth[:, place], probabilities[:, place]
        reached = theirs.f1_score(there, given >= found[place])
        others = [theirs.f1_score(there, given >= other) for other in np.linspace(0, 1, 60)]
        assert reached >= max(others) - 1e-9
    assert found[3] == 0.5, "no image has it"
    chosen = choose_thresholds(truth, probabilities, None, 0.6)
    assert chosen.labels == found
    assert Thresholds.from_dict(chosen.to_dict()) == chosen
    sure = all_right(probabilities, probabilities >= np.array(found))
    assert sure[sure >= chosen.sure].mean() >= 0.6


def test_one_temperature_calibrates_all_labels() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 2, (4000, 4))
    truth = (generator.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.int64)
    assert fit_temperature(3 * logits, truth) == pytest.approx(3, rel=0.1)
    given = probabilities_of(TASK, logits)
    assert reliability(truth, given).error < 0.02 < reliability(truth, probabilities_of(TASK, 3 * logits)).error
    np.testing.assert_allclose(sharpened(given, 3, several=True), probabilities_of(TASK, 3 * logits), atol=1e-6)


def test_the_head_is_a_logistic_regression_for_each_label() -> None:
    generator = np.random.default_rng(0)
    coordinates = generator.normal(0, 1, (300, 5)).astype(np.float32)
    truth = (coordinates @ generator.normal(0, 1, (5, 3)) + generator.normal(0, 1, (300, 3)) > 0).astype(np.int64)
    found = Problem(coordinates, truth, 3).fit(0.5)
    for place in range(3):
        expected = LogisticRegression(C=0.5).fit(coordinates, truth[:, place]).predict_proba(coordinates)[:, 1]
        np.testing.assert_allclose(found.probabilities(coordinates)[:, place], expected, atol=0.01)


def test_equal_scores_are_one_step_of_the_average_precision() -> None:
    there, scores = np.array([False, True, True, False, True]), np.array([0.5, 0.5, 0.9, 0.5, 0.1])
    expected = theirs.average_precision_score(there, scores)
    assert average_precision(there, scores) == pytest.approx(expected)
    assert average_precision(there[::-1], scores[::-1]) == pytest.approx(expected)
