"""A network's steps and answers, by TensorFlow here; tests/training/test_jax.py has them by JAX."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("keras")

import keras

from tellapart.config import TrainConfig
from tellapart.models.classifier import Classifier
from tellapart.models.compute import inferring, inferring_soon, stepping, to_device
from tellapart.task import ImageSpec, Task
from tellapart.training.epochs import compile_model

TASK = Task(("a", "b", "c"))
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (12, 16, 16, 3), np.uint8)
LABELS = np.eye(3, dtype=np.float32)[RNG.integers(0, 3, 12)]


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = Classifier.from_name(TASK, ImageSpec(16, 16), "cnn", filters=[4], dense=[8]).network
    compile_model(model, TASK, TrainConfig(), 3)
    return model


def test_steps_learn_what_train_on_batch_learns_and_tell_means_over_all_batches_so_far() -> None:
    ours, theirs = network(), network()
    losses = []
    with stepping(ours, learn=True) as step:
        for start in (0, 4, 8):
            part = slice(start, start + 4)
            told = step(to_device((PIXELS[part], LABELS[part], None)))
            losses.append(theirs.train_on_batch(PIXELS[part], LABELS[part], return_dict=True)["loss"])
            assert float(told["loss"]) == pytest.approx(np.mean(losses), rel=1e-5)
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    before = ours.get_weights()
    with stepping(ours, learn=False) as step:
        judged = step(to_device((PIXELS, LABELS, None)))
    assert float(judged["loss"]) == pytest.approx(theirs.test_on_batch(PIXELS, LABELS, return_dict=True)["loss"])
    assert all(np.array_equal(one, other) for one, other in zip(before, ours.get_weights(), strict=True))


def test_many_threads_may_ask_a_network_at_once_with_batches_of_any_length() -> None:
    model = network()
    expected = np.asarray(model(PIXELS, training=False))
    infer = inferring(model)
    parts = [slice(start, stop) for start in range(12) for stop in (start + 1, 12)]
    with ThreadPoolExecutor(4) as pool:
        for part, (given,) in zip(parts, pool.map(lambda part: infer(PIXELS[part]), parts), strict=True):
            np.testing.assert_allclose(given, expected[part], atol=1e-6)
    np.testing.assert_allclose(inferring_soon(model)(PIXELS)[0], expected, atol=1e-6)
