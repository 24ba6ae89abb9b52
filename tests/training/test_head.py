from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from tellapart.config import TrainConfig
from tellapart.runs.history import best_row
from tellapart.training import span as spans
from tellapart.training.head import Examples, HeadFit, fit_linear, repeated_folds, simplest
from tellapart.training.span import LinearHead, Reading, Span

WIDTH = 12
ALL = [slice(None)]


def fit(
    training: Examples,
    validation: Examples,
    weights: np.ndarray | None = None,
    columns: list[slice] = ALL,
    shortened: float = 0,
    **settings: Any,
) -> HeadFit:
    reading = Reading(columns, shortened)
    return fit_linear(training, validation, reading, weights, TrainConfig(**settings), lambda *_: None)


def blobs(classes: int, n: int, seed: int, spread: float = 1.0) -> Examples:
    """n examples of clouds about centres that all seeds share; one feature is always the same."""
    centres = np.random.default_rng(99).normal(size=(classes, WIDTH))
    generator = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    features = centres[labels] + generator.normal(scale=spread, size=(n, WIDTH))
    features[:, 3] = 2.5
    return Examples(features.astype(np.float16), labels)


def probabilities(head: LinearHead, features: np.ndarray) -> np.ndarray:
    """What a Dense layer of these weights with its sigmoid or softmax says, (n, classes)."""
    scores = features.astype(np.float64) @ head.kernel + head.bias
    if scores.shape[1] == 1:
        positive = 1 / (1 + np.exp(-scores))
        return np.hstack([1 - positive, positive])
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("classes", "units"), [(2, 1), (3, 3)])
def test_the_head_gives_the_loss_that_its_history_names(classes: int, units: int) -> None:
    training, validation = blobs(classes, 90, 0), blobs(classes, 60, 1)
    found = fit(training, validation)
    head, best, history = found.head, found.best, found.history
    assert found.losses.mean() == pytest.approx(best.val_loss)
    assert head.kernel.shape == (WIDTH, units)
    assert head.bias.shape == (units,)
    assert best in history
    for prefix, part in (("", training), ("val_", validation)):
        said = probabilities(head, part.features)
        loss = -np.log(said[np.arange(len(part.labels)), part.labels]).mean()
        assert loss == pytest.approx(best.figure(f"{prefix}loss"), abs=1e-4)
        assert (said.argmax(axis=1) == part.labels).mean() == pytest.approx(best.figure(f"{prefix}accuracy"))
    assert best.val_accuracy > 0.8


def test_regularisation_falls_from_row_to_row_and_the_search_ends_where_validation_gains_no_more() -> None:
    history = fit(blobs(2, 24, 0, 3.0), blobs(2, 200, 1, 3.0), patience=3).history
    strengths = [row.regularization for row in history]
    assert strengths == sorted(strengths, reverse=True)
    losses = [row.loss for row in history]
    assert losses == sorted(losses, reverse=True)
    best = best_row(history, "val_loss").epoch
    assert best < len(history) == best + 3


@pytest.mark.parametrize("monitor", ["val_loss", "val_accuracy"])
def test_the_strongest_within_one_standard_error_of_the_best_is_kept(monitor: str) -> None:
    training, validation = blobs(2, 24, 0, 3.0), blobs(2, 200, 1, 3.0)
    found = fit(training, validation, monitor=monitor)
    head, kept = found.head, found.best
    said = probabilities(head, validation.features)
    assert (said.argmax(axis=1) == validation.labels).mean() == pytest.approx(kept.val_accuracy, abs=0.006)
    best = best_row(found.history, monitor)
    assert kept.epoch <= best.epoch
    # Of a difference the error is at most the sum of both errors.
    assert abs(kept.figure(monitor) - best.figure(monitor)) < (0.2 if monitor == "val_loss" else 0.07)


def test_what_is_within_one_standard_error_is_asked_of_the_difference_image_by_image() -> None:
    generator = np.random.default_rng(0)
    hard = generator.exponential(1.0, 200)  # how hard an image is moves all losses alike
    clearly, hardly = hard + 0.05, hard + generator.normal(0, 0.05, 200)
    assert simplest([clearly, hard]) == 1
    assert simplest([hardly, hard]) == 0
    assert simplest([hard, hard]) == 0
    assert hard.std() / 200**0.5 > 0.05, "the error of the losses themselves would have hidden both"


def test_a_head_is_the_same_in_the_span_of_the_images_as_over_the_features_themselves() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 3
    narrow = generator.normal(size=(40, 30)) + np.eye(3, 30)[labels] * 3
    rotation = np.linalg.qr(generator.normal(size=(600, 30)))[0].T
    # More features than images, in which the images lie as they lie in 30.
    wide = Examples((narrow @ rotation * 20).astype(np.float16), labels)
    plain = Examples((narrow * 20).astype(np.float16), labels)
    in_span, direct = fit(wide, wide), fit(plain, plain)
    assert in_span.head.kernel.shape == (600, 3)
    ours, theirs = probabilities(in_span.head, wide.features), probabilities(direct.head, plain.features)
    # Mean squares of 1 over 600 features weigh twenty times as much as over 30: other strengths of the same path.
    assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.97
    span = Span(wide.features, Reading(ALL))
    there = span.coordinates
    assert there.shape[1] < 40
    np.testing.assert_allclose(span.of(wide.features), there, atol=1e-3)
    scaled = (wide.features.astype(np.float32) - wide.features.astype(np.float32).mean(axis=0)) / span._spread
    np.testing.assert_allclose(there @ there.T, scaled @ scaled.T, atol=0.5, rtol=1e-3)


@pytest.mark.parametrize("width", [8, 600])
def test_shortened_axes_keep_their_directions_and_become_as_long_as_the_root_of_what_they_were(width: int) -> None:
    generator = np.random.default_rng(0)
    features = (generator.normal(size=(40, width)) * np.geomspace(30, 1, width)).astype(np.float16)
    plain, short = (Span(features, Reading(ALL, by)).coordinates for by in (0.0, 0.5))
    lengths, roots = (np.linalg.norm(each, axis=0) for each in (plain, short))
    np.testing.assert_allclose(roots / roots[-1], (lengths / lengths[-1]) ** 0.5, rtol=1e-3)
    assert np.linalg.norm(short) == pytest.approx(np.linalg.norm(plain), rel=1e-3)
    np.testing.assert_allclose(short / roots, plain / lengths, atol=1e-3)
    head = Span(features, Reading(ALL, 0.5)).head(np.eye(short.shape[1])[:, -2:], np.zeros(2))
    np.testing.assert_allclose(features.astype(np.float32) @ head.kernel + head.bias, short[:, -2:], atol=0.02)


def test_a_fold_knows_nothing_of_the_images_that_it_holds_out() -> None:
    features = np.random.default_rng(0).normal(size=(40, 600)).astype(np.float16)
    held, seen = np.arange(10), np.arange(10, 40)
    there = Span(features, Reading(ALL, 0.5)).fold(seen, held)
    features[held] = 0.5 * features[held]
    other = Span(features, Reading(ALL, 0.5)).fold(seen, held)
    assert there[0].shape[1] <= 30
    # But for the mean and the mean square, by which all is scaled.
    found, expected = (each[0] @ each[0].T for each in (other, there))
    np.testing.assert_allclose(found / np.trace(found), expected / np.trace(expected), atol=2e-3)


@pytest.mark.parametrize("width", [40, 700])
def test_more_images_than_span_the_space_have_a_head_like_that_of_all(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    parts = []
    turned = generator.normal(size=(WIDTH, width))
    for seed in (0, 1):
        narrow = blobs(3, 600, seed)
        noise = generator.normal(scale=0.3, size=(600, width))
        parts.append(Examples((narrow.features @ turned + noise).astype(np.float16), narrow.labels))
    whole = fit(*parts)
    monkeypatch.setattr(spans, "MOST", 150)
    monkeypatch.setattr(spans, "COORDINATE_BYTES", 4 * 600 * 30)
    some = fit(*parts)
    assert Span(parts[0].features, Reading(ALL)).coordinates.shape == (600, 30)
    assert some.best.val_loss < whole.best.val_loss + 0.02
    assert (probabilities(some.head, parts[1].features).argmax(axis=1) == parts[1].labels).mean() == pytest.approx(
        some.best.val_accuracy
    )


def test_few_validation_images_choose_with_the_training_images_that_a_fold_held_out() -> None:
    training, validation, many = blobs(3, 60, 0, 2.5), blobs(3, 6, 1, 2.5), blobs(3, 600, 2, 2.5)
    groups = np.arange(60) // 2
    alone = fit(training, validation)
    helped = fit(Examples(training.features, training.labels, groups), validation)
    assert len(alone.losses) == 6
    assert len(helped.losses) == 6 + 30
    best = min(fit(training, many).history, key=lambda row: row.val_loss)
    assert abs(np.log10(helped.best.figure("regularization") / best.figure("regularization"))) <= 1
    assert helped.best.epoch != alone.best.epoch
    # A class of one group cannot be on both sides.
    assert len(fit(Examples(training.features, training.labels, training.labels), validation).losses) == 6


def test_a_part_of_small_numbers_weighs_as_much_as_one_of_large_ones() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(400) % 2
    noise = generator.normal(scale=100, size=(400, 5))
    telling = (generator.normal(size=(400, 5)) + labels[:, None] * 4) / 100
    both = Examples(np.concatenate([noise, telling], axis=1).astype(np.float16), labels)
    parts = [Examples(both.features[rows], labels[rows]) for rows in (slice(200), slice(200, 400))]
    apart = fit(*parts, columns=[slice(0, 5), slice(5, 10)])
    alone = fit(*parts, columns=[slice(5, 10)])
    assert alone.head.kernel.shape == (5, 1)
    assert apart.best.val_accuracy > 0.98
    assert alone.best.val_accuracy > 0.98
    assert fit(*parts, columns=[slice(0, 5)]).best.val_accuracy < 0.65


def test_twelve_images_with_many_features_are_enough_to_tell_clear_classes_apart() -> None:
    generator = np.random.default_rng(0)
    strong = np.zeros(1000)
    strong[:10] = 3
    labels = np.arange(412) % 2
    # Most features hardly change: by their own deviation their noise would count as much as the ten that matter.
    features = generator.normal(scale=0.05, size=(412, 1000)) + labels[:, None] * strong
    parts = [Examples(features[rows].astype(np.float16), labels[rows]) for rows in (slice(8), slice(8, 12))]
    head = fit(*parts).head
    right = probabilities(head, features[12:]).argmax(axis=1) == labels[12:]
    assert right.mean() > 0.99


def test_class_weights_move_the_border_towards_the_large_class() -> None:
    scarce = blobs(2, 120, 0, 2.0)
    kept = np.flatnonzero((scarce.labels == 0) | (np.arange(120) < 12))
    training = Examples(scarce.features[kept], scarce.labels[kept])
    validation = blobs(2, 100, 1, 2.0)
    weights = np.array([0.55, 5.0], np.float32)
    plain, weighed = (fit(training, validation, choice).head for choice in (None, weights))
    counts = [(probabilities(head, validation.features).argmax(axis=1) == 1).sum() for head in (plain, weighed)]
    assert counts[1] > counts[0]


def test_folds_tell_the_accuracy_on_images_that_were_not_seen() -> None:
    examples, fresh = blobs(2, 60, 0, 3.0), blobs(2, 2000, 1, 3.0)
    head = fit(examples, fresh).head
    truth = (probabilities(head, fresh.features).argmax(axis=1) == fresh.labels).mean()
    found = repeated_folds(examples, Reading(ALL), np.arange(60), 0.01, None, 0)
    assert found.low < truth < found.high
    assert found.high - found.low > 0.1, "60 images cannot tell more than that"


def test_images_that_belong_together_are_never_on_both_sides_of_a_fold() -> None:
    generator = np.random.default_rng(0)
    once = generator.normal(size=(20, WIDTH))
    # Labels that nothing explains: only a copy on the other side could be known.
    examples = Examples(np.repeat(once, 4, axis=0).astype(np.float16), np.repeat(np.arange(20) % 2, 4))
    assert repeated_folds(examples, Reading(ALL), np.arange(80), 10.0, None, 0).value > 0.9
    assert repeated_folds(examples, Reading(ALL), np.repeat(np.arange(20), 4), 10.0, None, 0).value < 0.8


def test_a_class_with_one_image_cannot_be_folded() -> None:
    examples = Examples(np.zeros((5, WIDTH), np.float16), np.array([0, 0, 0, 0, 1]))
    with pytest.raises(ValueError, match="fewer than two"):
        repeated_folds(examples, Reading(ALL), np.arange(5), 1.0, None, 0)


def test_the_first_head_of_a_process_is_fitted_by_one_thread_too() -> None:
    code = """
from threadpoolctl import threadpool_info
from tellapart.training.head import one_thread
with one_thread():
    import scipy.linalg, scipy.optimize
    print(*(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"1"}
