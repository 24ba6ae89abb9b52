"""Epochs without a network: which batches each one shows, and when training ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("keras")

from tellapart.config import AUGMENTATIONS, TrainConfig
from tellapart.data.batches import Batches
from tellapart.errors import TrainingError
from tellapart.models.compute import stepping, to_device
from tellapart.progress import SILENT
from tellapart.runs.record import StopReason
from tellapart.runs.run import RunFolder
from tellapart.task import Task
from tellapart.training.epochs import Epochs, compile_model
from tellapart.training.interruption import CtrlC

COUNT = 10


class Pixels:
    """Ten images that no warp and no order leaves alike."""

    _pixels = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), np.uint8)

    def __len__(self) -> int:
        return COUNT

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self._pixels[rows]


class Network:
    """Notes what it is shown. Its loss falls, or is no number from one step on. It steps as on TensorFlow."""

    def __init__(self, astray: int = 10**9, judged_astray: int = 10**9) -> None:
        self.shown: list[np.ndarray] = []
        self.astray, self.judged_astray = astray, judged_astray
        self.optimizer = SimpleNamespace(learning_rate=0.1)
        self.weights: list[Any] = []

    def reset_metrics(self) -> None:
        """Its figures are no means."""

    make_train_function = make_test_function = reset_metrics

    def train_function(self, batches: Iterator[Any]) -> dict[str, float]:
        inputs, labels, _ = map(np.asarray, next(batches))
        assert len(inputs) == len(labels)
        self.shown.append(inputs)
        step = len(self.shown)
        return {"loss": float("nan") if step >= self.astray else 1 / step, "accuracy": 0.5}

    def test_function(self, batches: Iterator[Any]) -> dict[str, float]:
        assert next(batches)
        astray = len(self.shown) >= self.judged_astray
        return {"loss": float("inf") if astray else 1 / len(self.shown), "accuracy": 0.5}


class Kept:
    """A checkpoint of so many epochs, in memory."""

    phase = ""

    def __init__(self, epoch: int = 0) -> None:
        self.state = {"epoch": epoch, "best": epoch}

    def restore(self, *_: object) -> int:
        return self.state["epoch"]

    def save(self, _: object, __: object, epoch: int, best: int) -> None:
        self.state = {"epoch": epoch, "best": best}

    def restore_best(self, _: object) -> int:
        return self.state["best"]


def epochs(folder: Path, network: Network, kept: Kept) -> Epochs:
    folder.mkdir(exist_ok=True)
    labels = np.zeros((COUNT, 1), np.float32)
    training = Batches(Pixels(), labels, 4, shuffle=True, augment=AUGMENTATIONS["medium"], seed=3)
    parts: Any = (network, training, Batches(Pixels(), labels, 4), None, kept)
    return Epochs(RunFolder(folder), TrainConfig(epochs=3, patience=0), *parts, SILENT, CtrlC())


def test_each_epoch_sees_its_own_batches_and_a_later_session_those_that_are_next(tmp_path: Path) -> None:
    whole = Network()
    assert epochs(tmp_path, whole, Kept()).go().reason is StopReason.EPOCHS_DONE
    assert len(whole.shown) == 9
    first, second, third = (np.concatenate(whole.shown[start : start + 3]) for start in (0, 3, 6))
    for one, other in ((first, second), (second, third), (first, third)):
        assert not any(np.array_equal(ours, theirs) for ours in one for theirs in other)

    run, later = RunFolder(tmp_path), Network()
    run.write_history(run.history[:1])
    assert epochs(tmp_path, later, Kept(1)).go().reason is StopReason.EPOCHS_DONE
    assert np.array_equal(np.concatenate(later.shown), np.concatenate([second, third]))
    assert [row.epoch for row in run.history] == [1, 2, 3]


def test_a_loss_that_is_no_number_ends_training_at_its_step(tmp_path: Path) -> None:
    network = Network(astray=2)
    with pytest.raises(TrainingError, match=r"not-a-number in epoch 1, step 2\. Lower train\.learning_rate"):
        epochs(tmp_path, network, Kept()).go()
    assert len(network.shown) == 3  # all of the epoch: its steps are asked for ahead of what is read

    later, kept = Network(astray=5), Kept()
    stop = epochs(tmp_path / "later", later, kept).go()
    assert stop.reason is StopReason.NOT_A_NUMBER
    assert "not-a-number in epoch 2, step 2" in stop.words
    assert (len(later.shown), kept.state["epoch"]) == (6, 1)


def test_a_validation_loss_that_is_no_number_ends_training_with_the_epoch_before(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"validation loss became not-a-number in epoch 1\. Lower train\."):
        epochs(tmp_path, Network(judged_astray=1), Kept()).go()

    kept = Kept()
    stop = epochs(tmp_path / "later", Network(judged_astray=4), kept).go()
    assert stop.reason is StopReason.NOT_A_NUMBER
    assert "The validation loss became not-a-number in epoch 2." in stop.words
    assert kept.state["epoch"] == 1


def test_variables_learn_at_their_share_of_the_rate_which_rises_before_it_falls() -> None:
    keras = pytest.importorskip("keras")
    image = keras.Input((2,))
    below, above = keras.layers.Dense(2, name="below"), keras.layers.Dense(1, activation="sigmoid", name="above")
    model = keras.Model(image, above(below(image)))
    train = TrainConfig(optimizer="sgd", schedule="warmup-cosine", learning_rate=0.1, epochs=2)
    own = {id(variable): 0.0 for variable in below.weights}
    compile_model(model, Task(("a", "b")), train, 10, lambda variable: own.get(id(variable), 1.0))
    before = [layer.get_weights() for layer in (below, above)]
    rates = []
    with stepping(model, learn=True) as step:
        for _ in range(20):
            rates.append(float(np.asarray(model.optimizer.learning_rate)))
            step(to_device((np.ones((4, 2), np.float32), np.ones((4, 1), np.float32), None)))
    np.testing.assert_array_equal(before[0][0], below.get_weights()[0])
    assert not np.array_equal(before[1][0], above.get_weights()[0])
    assert rates[0] == 0
    assert max(rates) == rates[2] == pytest.approx(0.1)
    assert rates[-1] < 0.01
    assert rates[2:] == sorted(rates[2:], reverse=True)
