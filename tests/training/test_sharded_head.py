"""The head of features in shards, beside that of features which are held."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from tellapart.config import TrainConfig
from tellapart.evaluation.logistic import Problem
from tellapart.training.head import Examples, fit_linear
from tellapart.training.sharded import Sharded
from tellapart.training.sharded_head import Whole, fit_sharded
from tellapart.training.span import LinearHead, Reading, Span

WIDTHS = (5, 4, 3)
READ = [slice(0, 5), slice(9, 12)]


@dataclass(frozen=True)
class Held:
    """A shard in memory."""

    rows: np.ndarray
    features: np.ndarray

    def read(self, parts: Sequence[int]) -> np.ndarray:
        each = np.split(self.features, np.cumsum(WIDTHS)[:-1], axis=1)
        return np.concatenate([each[part] for part in parts], axis=1)


def blobs(classes: int, n: int, seed: int) -> Examples:
    centres = np.random.default_rng(7).normal(size=(classes, sum(WIDTHS)))
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    features = centres[labels] + generator.normal(scale=1.5, size=(n, sum(WIDTHS)))
    return Examples(features.astype(np.float16), labels)


def sharded(features: np.ndarray, seed: int = 0) -> Sharded:
    """In shards of unequal size, whose rows are in no order."""
    order = np.random.default_rng(seed).permutation(len(features))
    return Sharded([Held(rows, features[rows]) for rows in np.array_split(order, [300, 310, 900])], WIDTHS)


def scores(head: LinearHead, features: np.ndarray) -> np.ndarray:
    read = np.concatenate([features[:, part] for part in READ], axis=1)
    return read.astype(np.float32) @ head.kernel + head.bias


def test_rows_of_shards_are_given_in_the_order_of_the_split() -> None:
    features = blobs(3, 1500, 0).features
    there = sharded(features)
    assert len(there) == 1500
    assert np.array_equal(there.held(), features)
    some = np.array([0, 7, 311, 1499])
    assert np.array_equal(there.of(some), features[some])


@pytest.mark.parametrize(("classes", "weights"), [(2, None), (3, np.array([2, 0.5, 1], np.float32))])
def test_the_head_from_shards_is_the_one_that_all_features_give(classes: int, weights: np.ndarray | None) -> None:
    training, validation = blobs(classes, 1500, 0), blobs(classes, 300, 1)
    whole, reading = Whole(sharded(training.features), training.labels, weights), Reading(READ)
    sample = whole.sample(200)
    assert 190 <= len(sample.labels) <= 210
    begun = fit_linear(sample, validation, reading, weights, TrainConfig(), lambda *_: None)
    found = fit_sharded(whole, sample, validation, (reading, begun), TrainConfig(), lambda *_: None)

    span = Span(sample.features, reading)
    each = None if weights is None else weights[training.labels]
    held = Problem(span.of(training.features), training.labels, classes, each).fit(1 / found.best.regularization)
    wanted = scores(span.head(held.kernel, held.bias), validation.features)
    assert scores(found.head, validation.features) == pytest.approx(wanted, abs=0.1)
    assert found.losses.mean() == pytest.approx(found.best.val_loss)
    exact = fit_linear(training, validation, reading, weights, TrainConfig(), lambda *_: None)
    assert found.best.val_loss == pytest.approx(exact.best.val_loss, abs=0.01)
    assert found.best.val_accuracy == pytest.approx(exact.best.val_accuracy, abs=0.011)


def test_no_class_is_missing_in_a_sample() -> None:
    labels = np.repeat([0, 1, 2], [960, 30, 10])
    features = np.zeros((1000, sum(WIDTHS)), np.float16)
    assert np.bincount(Whole(sharded(features), labels).sample(100).labels).tolist() == [96, 20, 10]
