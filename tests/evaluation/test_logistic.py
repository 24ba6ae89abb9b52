"""Logistic regression: the optimum that scikit-learn finds, of few and of many coordinates."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from tellapart.evaluation.logistic import Problem


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("width", [30, 100])
@pytest.mark.parametrize("distance", [0.3, 50.0], ids=["classes that overlap", "classes apart"])
@pytest.mark.parametrize("strength", [0.1, 100.0])
def test_the_fit_is_the_one_of_scikit_learn(classes: int, width: int, distance: float, strength: float) -> None:
    generator = np.random.default_rng(0)
    coordinates = generator.normal(size=(400, width)).astype(np.float32)
    scores = coordinates[:, 0] * distance + generator.normal(size=400)
    labels = np.digitize(scores, np.quantile(scores, np.arange(1, classes) / classes))
    reference = LogisticRegression(C=strength, tol=1e-8, max_iter=10_000).fit(coordinates, labels)

    found = Problem(coordinates, labels.astype(np.int64), classes).fit(strength).probabilities(coordinates)

    # L-BFGS ends early, by design; of few coordinates and two classes the optimum itself is found.
    tolerance = 0.001 if classes == 2 and width == 30 else 0.05
    assert np.abs(found - reference.predict_proba(coordinates)).max() < tolerance


def test_a_weight_counts_as_that_many_images() -> None:
    coordinates = np.array([[-1], [0], [2], [2]], np.float32)
    labels = np.array([0, 1, 0, 0])
    thrice = Problem(coordinates[:3], labels[:3], 2, np.array([1, 1, 2], np.float32)).fit(1.0)

    assert thrice.kernel == pytest.approx(Problem(coordinates, labels, 2).fit(1.0).kernel, abs=1e-4)
