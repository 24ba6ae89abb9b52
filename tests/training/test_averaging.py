"""Weights between those before and after fine-tuning: the validation images choose, and nothing else."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from tellapart.training.averaging import SHARES, Line
from tellapart.training.interruption import CtrlC

BEFORE, AFTER = [np.zeros(3, np.float32)], [np.full(3, 0.3, np.float32)]


class Network:
    """Its loss on each image is the distance of its weight from what would be best for that image."""

    def __init__(self, best: float, spread: float = 0.01) -> None:
        self.weights: list[NDArray[np.floating]] = AFTER
        self.asked = 0
        self._best = best + spread * np.sin(np.arange(60))

    def put(self, weights: list[NDArray[np.floating]]) -> None:
        self.weights = weights

    def losses(self) -> NDArray[np.float64]:
        self.asked += 1
        return np.abs(self._best - float(self.weights[0][0]))

    def chosen(self, usual: int, ctrl_c: CtrlC | None = None) -> tuple[int, float]:
        return Line(BEFORE, AFTER, self.put).best(usual, self.losses, ctrl_c or CtrlC())


@pytest.mark.parametrize(("best", "share"), [(0.12, 40), (0.06, 20), (0.25, 80)])
def test_the_weights_that_the_validation_images_prefer_are_what_the_network_ends_with(best: float, share: int) -> None:
    network = Network(best)
    chosen, gain = network.chosen(100)
    assert chosen == share
    assert gain > 0
    np.testing.assert_allclose(network.weights[0], share / 100 * AFTER[0], rtol=1e-6)


@pytest.mark.parametrize(("usual", "best"), [(100, 0.31), (0, -0.01), (100, 0.2701)])
def test_no_clear_gain_leaves_the_weights_bit_for_bit_as_they_are_without(usual: int, best: float) -> None:
    network = Network(best, spread=0.1 if best == 0.2701 else 0.01)
    assert network.chosen(usual) == (usual, 0.0)
    np.testing.assert_array_equal(network.weights[0], (BEFORE if usual == 0 else AFTER)[0])


def test_no_time_left_tries_nothing_and_what_is_left_is_not_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Network(0.12)
    assert network.chosen(100, CtrlC(time.monotonic() - 1)) == (100, 0.0)
    assert network.asked == 0
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    class Slow(Network):
        def losses(self) -> NDArray[np.float64]:
            now[0] += 10
            return super().losses()

    slow = Slow(0.12)
    slow.chosen(100, CtrlC(35.0))
    assert 1 < slow.asked < 1 + len(SHARES)
    assert now[0] <= 35
