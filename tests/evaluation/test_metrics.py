"""The plain figures equal scikit-learn's on random predictions."""

import numpy as np
import pytest
from sklearn import metrics as reference

from tellapart.evaluation import metrics


def predictions(classes: int, n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A classifier that is right more often than not, with ties (probabilities rounded to a tenth)."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, classes, n)
    logits = np.round(generator.normal(size=(n, classes)) + 1.5 * np.eye(classes)[truth], 1)
    odds = np.exp(logits)
    return truth, odds / odds.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_confusion_equals_sklearn(classes: int) -> None:
    truth, probabilities = predictions(classes)
    predicted = probabilities.argmax(axis=1)
    confusion = metrics.confusion_matrix(truth, predicted, classes)
    assert confusion.tolist() == reference.confusion_matrix(truth, predicted).tolist()


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_log_loss_equals_sklearn(classes: int) -> None:
    truth, probabilities = predictions(classes)
    expected = reference.log_loss(truth, probabilities)
    assert metrics.log_losses(truth, probabilities).mean() == pytest.approx(expected)


def test_log_loss_of_a_certain_mistake_is_bounded_and_of_a_certain_hit_is_zero() -> None:
    losses = metrics.log_losses(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert losses.tolist() == [pytest.approx(-np.log(1e-7)), 0.0]
    assert not np.signbit(losses[1])


def test_top_5_equals_sklearn_without_ties() -> None:
    generator = np.random.default_rng(3)
    truth, scores = generator.integers(0, 12, 300), generator.random((300, 12))
    expected = reference.top_k_accuracy_score(truth, scores, k=5)
    assert metrics.in_top(truth, scores, 5).mean() == pytest.approx(expected)


def test_top_counts_equal_probabilities_in_class_order() -> None:
    even = np.full((3, 8), 1 / 8)
    assert metrics.in_top(np.array([0, 4, 5]), even, 5).tolist() == [True, True, False]


def test_area_under_curve_equals_sklearn_with_ties() -> None:
    truth, probabilities = predictions(2)
    assert len(np.unique(probabilities[:, 1])) < len(truth)
    expected = reference.roc_auc_score(truth, probabilities[:, 1])
    assert metrics.area_under_curve(truth == 1, probabilities[:, 1]) == pytest.approx(expected)


def test_area_under_curve_of_one_class_is_refused() -> None:
    with pytest.raises(ValueError, match="2 positives and 0 negatives"):
        metrics.area_under_curve(np.array([True, True]), np.array([0.1, 0.9]))


def test_the_top_classes_of_very_many_images_are_those_of_each() -> None:
    given = np.random.default_rng(0).dirichlet(np.ones(8), 2500)
    truth = np.arange(2500) % 8
    order = np.argsort(-given, axis=1, kind="stable")[:, :3]
    assert np.array_equal(metrics.in_top(truth, given, 3), (order == truth[:, None]).any(axis=1))
