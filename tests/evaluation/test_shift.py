"""Traits of validation images and of others -> whether they differ, in what, and the accuracy to expect."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tellapart.evaluation.selective_prediction import Thresholds
from tellapart.evaluation.shift import TRAITS, Reference, Shift, compare, learn_reference, some

CONFIDENCE, DISTANCE, BRIGHTNESS = (TRAITS.index(name) for name in ("confidence", "distance", "brightness"))
HELD = Thresholds(0.99, sure=0.95, unlike=0.5)


def traits(count: int, seed: int, **moved: float) -> np.ndarray:
    """Of images whose predictions are right as often as they are confident."""
    made = np.random.default_rng(seed).normal(size=(count, len(TRAITS)))
    made[:, CONFIDENCE] += 2
    made[:, DISTANCE] *= 0.1
    for name, by in moved.items():
        made[:, TRAITS.index(name)] += by
    return made.astype(np.float32)


def right(of: np.ndarray, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(len(of)) < 1 / (1 + np.exp(-of[:, CONFIDENCE]))


@pytest.fixture(scope="module")
def reference() -> Reference:
    plain, spoiled = traits(300, 0), traits(300, 1, confidence=-2)
    seen = np.concatenate([plain, spoiled])
    return learn_reference(plain, seen, right(seen), float(right(plain).mean()), HELD)


def test_images_of_the_same_kind_do_not_differ(reference: Reference) -> None:
    found = [compare(reference, traits(200, seed)) for seed in range(2, 12)]
    assert not any(shift is None or shift.found for shift in found)
    assert found[0] is not None
    assert len(found[0].sentences) == 1
    assert found[0].sentences[0].startswith("No sign")


@pytest.mark.parametrize(("trait", "by", "word"), [("brightness", -2, "darker"), ("noise", 1.5, "noisier")])
def test_images_of_another_look_differ_and_it_is_said_in_what(
    trait: str, by: float, word: str, reference: Reference
) -> None:
    found = compare(reference, traits(100, 2, **{trait: by}))
    assert found is not None
    assert found.found
    assert found.differs == (word,)
    assert word in found.sentences[0]


def test_images_that_vary_more_differ_though_their_mean_does_not(reference: Reference) -> None:
    wider = traits(200, 2)
    wider[:, BRIGHTNESS] *= 4
    found = compare(reference, wider)
    assert found is not None
    assert found.found


def test_the_accuracy_is_estimated_without_labels(reference: Reference) -> None:
    for by in (0, -1, -2, -3):
        new = traits(2000, 5, confidence=by)
        found = compare(reference, new[some(len(new))])
        assert found is not None
        assert found.expected == pytest.approx(right(new, 1).mean(), abs=0.06)


def test_where_nothing_differs_the_accuracy_of_the_validation_images_is_expected(reference: Reference) -> None:
    # Corrupted images, which the chances are learned from too, are no part of it.
    for accuracy in (reference.accuracy, reference.accuracy - 0.1):
        found = compare(replace(reference, accuracy=accuracy), reference.traits)
        assert found is not None
        assert found.expected == pytest.approx(accuracy)


def test_sure_predictions_are_withheld_where_they_are_expected_to_be_wrong_too_often() -> None:
    plain, spoiled = traits(300, 0, confidence=4), traits(300, 1, confidence=4, distance=0.4)
    wrong = np.concatenate([np.ones(300, bool), np.random.default_rng(0).random(300) < 0.7])
    reference = learn_reference(plain, np.concatenate([plain, spoiled]), wrong, 1.0, HELD)
    far, clean = (
        compare(reference, traits(200, 3, confidence=4, distance=0.4)),
        compare(reference, traits(200, 4, confidence=4)),
    )
    assert far is not None
    assert clean is not None
    assert far.withheld
    assert "Review sure predictions as well" in far.sentences[-1]
    assert not clean.withheld


def test_a_classifier_that_was_never_wrong_and_few_images_are_no_obstacle() -> None:
    plain = traits(300, 0)
    always = learn_reference(plain, plain, np.ones(300, bool), 1.0, HELD)
    found = compare(always, traits(100, 1))
    assert found is not None
    assert 0.99 < found.expected <= 1
    assert compare(always, traits(49, 1)) is None


def test_no_sure_prediction_promises_nothing() -> None:
    plain = traits(300, 0)
    never = learn_reference(plain, plain, right(plain), 0.8, Thresholds(0.99, sure=1.1, unlike=None))
    found = compare(never, traits(100, 1, brightness=5))
    assert found is not None
    assert found.found
    assert found.sure is None
    assert not found.withheld


def test_a_shift_is_json_and_back(reference: Reference) -> None:
    found = compare(reference, traits(100, 1, brightness=3))
    assert found is not None
    text = json.dumps(found.to_dict(), allow_nan=False)
    assert Shift.from_dict(json.loads(text)) == found
    assert json.loads(text)["found"] is True
