from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from tellapart.data import label_errors as judging
from tellapart.data.label_errors import FOLDS, held_out_probabilities, label_scores, overlaps, suspect_labels
from tellapart.errors import MissingExtraError

pytest.importorskip("cleanlab")


def clouds(count: int, classes: int = 3, width: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, width) about a middle for each class, and the labels (n,)."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    middles = generator.normal(0, 2, (classes, width))
    return middles[labels] + generator.normal(0, 1, (count, width)), labels


def test_flipped_labels_lead_the_list_with_what_they_should_be() -> None:
    values, truth = clouds(300)
    given = truth.copy()
    flipped = np.random.default_rng(1).choice(300, 15, replace=False)
    given[flipped] = (given[flipped] + 1) % 3
    said = held_out_probabilities(values, given, np.arange(300), 3)
    np.testing.assert_allclose(said.sum(axis=1), 1)
    suspects = suspect_labels(given, said)
    assert len(suspects) >= 10
    assert {s.index for s in suspects} <= set(flipped.tolist())
    assert all(s.suggested == truth[s.index] for s in suspects)
    assert [s.score for s in suspects] == sorted(s.score for s in suspects)
    assert set(np.argsort(label_scores(given, said))[:15].tolist()) == set(flipped.tolist())


def test_sound_labels_raise_no_suspicion() -> None:
    values, truth = clouds(300)
    assert suspect_labels(truth, held_out_probabilities(values, truth, np.arange(300), 3)) == ()


def test_a_copy_does_not_vouch_for_its_twins_wrong_label() -> None:
    values, truth = clouds(120)
    values[60:] = values[:60]
    truth[60:] = truth[:60]
    groups = np.arange(120) % 60
    folds = judging._folds(truth, groups, seed=3)
    assert np.array_equal(folds[:60], folds[60:])
    assert set(folds.tolist()) == set(range(FOLDS))


def test_every_class_is_spread_over_the_folds() -> None:
    _, truth = clouds(100, classes=4)
    folds = judging._folds(truth, np.arange(100), seed=0)
    for label in range(4):
        assert np.bincount(folds[truth == label], minlength=FOLDS).tolist() == [5] * FOLDS


def test_the_seed_repeats_what_is_held_out() -> None:
    values, truth = clouds(60)
    one, other, different = (held_out_probabilities(values, truth, np.arange(60), 3, seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, different)


def test_a_class_that_a_split_lacks_and_a_single_class_are_no_obstacle() -> None:
    values, truth = clouds(90)
    said = held_out_probabilities(values, truth, np.arange(90), 3)
    some = truth != 2
    assert suspect_labels(truth[some], said[some]) == ()
    assert suspect_labels(np.zeros(5, np.int64), np.full((5, 3), 1 / 3)) == ()


def test_two_classes_work_as_many_do() -> None:
    values, truth = clouds(200, classes=2)
    given = truth.copy()
    given[[4, 7, 100]] ^= 1
    said = held_out_probabilities(values, given, np.arange(200), 2)
    assert {s.index for s in suspect_labels(given, said)} == {4, 7, 100}


def test_overlap_counts_both_ways_of_mistaking_and_ranks_by_share() -> None:
    truth = np.array([0] * 10 + [1] * 10 + [2] * 100)
    said = np.eye(3)[truth]
    said[[0, 1]] = [0, 1, 0]
    said[10] = [1, 0, 0]
    said[[20, 21, 22]] = [1, 0, 0]
    assert overlaps(truth, said) == [(0, 1, 3, 20), (0, 2, 3, 110)]


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    absent: Any = lambda name, *rest: None if name == "cleanlab" else real(name, *rest)  # noqa: E731
    monkeypatch.setattr(importlib.util, "find_spec", absent)
    with pytest.raises(MissingExtraError, match=r"tellapart\[check\]"):
        suspect_labels(np.array([0, 1]), np.eye(2))
