"""Weights before and after fine-tuning -> those between the two that the validation images prefer, if any.

What fine-tuning changed is undone in part: weights on the straight line between both often do better than either
(Wortsman and others, Robust fine-tuning of zero-shot models, CVPR 2022). The network stays as large as it was.
Normalisations need no new statistics, as fine-tuning leaves those of the backbone as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.training.interruption import CtrlC

SHARES = (80, 60, 40, 20)
"""Percent of the way from the weights before to those after that are tried."""

Judge = Callable[[], NDArray[np.float64]]
"""The log loss of each validation image, (n,), by the weights that the network has now."""


@dataclass(frozen=True, eq=False)
class Line:
    """before, after: the values of all weights of the network, whose weights `put` sets."""

    before: Sequence[NDArray[np.floating]]
    after: Sequence[NDArray[np.floating]]
    put: Callable[[list[NDArray[np.floating]]], None]

    def go_to(self, share: int) -> None:
        """Give the network the weights at so many percent of the way."""
        ends = {0: self.before, 100: self.after}
        if share in ends:
            self.put(list(ends[share]))
            return
        part = share / 100
        self.put([old + np.float32(part) * (new - old) for old, new in zip(self.before, self.after, strict=True)])

    def best(self, usual: int, judge: Judge, ctrl_c: CtrlC) -> tuple[int, float]:
        """The share of SHARES with the lowest loss, if that is better than `usual`, 0 or 100, by more than the standard
        error of the difference, image by image; else `usual`. And the mean loss by which it is better. The network ends
        there. What is left of the time is not exceeded: then fewer are tried.
        """
        found, slowest = {}, 0.0
        for share in (usual, *SHARES):
            if ctrl_c.left <= 2 * slowest:
                break
            started = time.monotonic()
            self.go_to(share)
            found[share] = judge()
            slowest = max(slowest, time.monotonic() - started)
        chosen, better = usual, 0.0
        if len(found) > 1:
            lowest = min((share for share in found if share != usual), key=lambda share: float(found[share].mean()))
            gain = found[usual] - found[lowest]
            if gain.mean() > gain.std() / np.sqrt(len(gain)):
                chosen, better = lowest, float(gain.mean())
        self.go_to(chosen)
        return chosen, better
