"""The estimators, used by scikit-learn's own tools."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

import tellapart as ta
from tellapart.errors import ImageError

BUILTIN = Path(ta.__file__).parent / "data" / "builtin" / "pets"
SMALL = ("model.filters=[8]", "model.dense=[8]", "image.height=24", "image.width=24")
CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_mixin_order",
)
"""Those of `check_estimator` that give no table of numbers, which is no image."""

pytestmark = pytest.mark.usefixtures("shared_cache")


@pytest.fixture(scope="module")
def photographs() -> tuple[list[str], list[str]]:
    """20 of each of two breeds: paths and labels."""
    paths = [path for label in ("Abyssinian", "american") for path in sorted(BUILTIN.rglob(f"{label}*.jpg"))[:20]]
    return list(map(str, paths)), [path.name[:3] for path in paths]


@pytest.mark.parametrize("estimator", [ta.ImageFeatures(), ta.ImageClassifier()], ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("check", CHECKS)
def test_the_checks_of_scikit_learn_pass_where_they_apply(estimator: Any, check: str) -> None:
    getattr(estimator_checks, check)(type(estimator).__name__, clone(estimator))


def test_embeddings_stand_in_a_pipeline_that_is_searched(photographs: tuple[list[str], list[str]]) -> None:
    paths, labels = photographs
    pipeline = make_pipeline(ta.ImageFeatures(), LogisticRegression(max_iter=2000))
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1.0]}, cv=2).fit(paths, labels)
    assert len(search.cv_results_["params"]) == 2
    assert search.best_score_ > 0.85
    assert ta.ImageFeatures().get_feature_names_out()[-1] == "f1279"
    assert ta.ImageFeatures().transform(np.array(paths[:2])).shape == (2, 1280)


@pytest.mark.slow
def test_a_classifier_is_fitted_validated_pickled_and_keeps_the_kind_of_labels(
    two_shapes: Path, tmp_path: Path
) -> None:
    pytest.importorskip("keras")
    paths = sorted(map(str, two_shapes.rglob("*.png")))
    labels = np.array([-1 if "disc" in path else -2 for path in paths])  # as text in the other order
    classifier = ta.ImageClassifier(model="cnn", epochs=3, settings=SMALL)
    assert cross_val_score(classifier, paths, labels, cv=2).shape == (2,)
    arrays = np.stack([np.asarray(Image.open(path)) for path in paths])
    fitted = clone(classifier).set_params(out=tmp_path / "run").fit(arrays, labels)
    assert fitted.classes_.tolist() == [-2, -1]
    rows = fitted.predict_proba(paths[:5])
    assert rows.shape == (5, 2)
    np.testing.assert_allclose(rows.sum(axis=1), 1)
    expected = ta.open_run(tmp_path / "run").predict(paths[:5])
    assert [answer.probabilities["-2"] for answer in expected] == pytest.approx(rows[:, 0])
    assert fitted.predict(arrays[:5]).tolist() == [int(answer.label) for answer in expected]
    again = pickle.loads(pickle.dumps(fitted))  # noqa: S301 - of this test
    np.testing.assert_array_equal(again.predict_proba(arrays[:5]), fitted.predict_proba(arrays[:5]))


def test_what_is_no_image_or_no_label_is_told(tmp_path: Path, two_shapes: Path) -> None:
    (broken := tmp_path / "broken.png").write_bytes(b"no image")
    paths = [*sorted(map(str, two_shapes.rglob("*.png")))[:4], str(broken)]
    with pytest.raises(ImageError, match=r"broken\.png"):
        ta.ImageFeatures().transform(paths)
    with pytest.raises(ImageError, match="sample 4"):
        ta.ImageClassifier(model="cnn", settings=SMALL).fit(paths, [0, 1, 0, 1, 1])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ta.ImageClassifier().fit(paths[:2], ["a", "b", "a"])
