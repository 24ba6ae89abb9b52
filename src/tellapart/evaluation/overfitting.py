"""History -> one sentence: whether the network overfits, and from which epoch.

The rule, on validation and training loss smoothed over three epochs:
- the turn is the epoch of the lowest smoothed validation loss;
- it *rises for good* if the end (the median of the last three losses) lies above the turn by more than 3 % of it and by
  more than three times the noise, which is read from the second differences, so that a bend does not count as noise;
- it *overfits* if, from the turn to the end, the smoothed training loss fell by more than 1 % meanwhile;
- it is *still learning* if the turn is at the end and the last third of the epochs brought more than 3 %.
Anything else is level. Fewer than four epochs are too few to tell. Rows with `regularization` are of a linear head,
fitted anew with less and less of it; where they stand alone the sentence says what was chosen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tellapart.runs.history import HistoryRow, best_row, unit_of
from tellapart.runs.record import Stop

_FEWEST_EPOCHS = 4
_RISE = 0.03
_NOISES = 3  # of level losses with noise, 1 in 40 is then called rising
_FALL = 0.01
_MONITORS = {"val_loss": "lowest validation loss", "val_accuracy": "highest validation accuracy"}


State = Literal["unknown", "broken", "overfits", "overfits-kept", "worse", "learning", "level", "linear"]


@dataclass(frozen=True)
class Learning:
    """state: `overfits-kept` if the kept epoch comes after overfitting starts; `worse` without overfitting; `learning`
    still at the end; `level`; `linear` for a head fitted to convergence; `broken` by a loss that is not a number;
    `unknown` for too few epochs."""

    state: State
    sentence: str


def learning(history: Sequence[HistoryRow], monitor: str = "val_loss", kept: int | None = None) -> Learning:
    """Whether the network overfits, by the rule above, and whether the epoch kept comes before that.

    monitor: the metric that selects the best epoch, val_loss or val_accuracy. kept: the epoch that was kept, if it is
    not the best one.

    >>> figures = [(e, 1 / e, 0.5 + abs(e - 3) / 10) for e in range(1, 9)]
    >>> rows = [HistoryRow(epoch=e, loss=a, accuracy=0, val_loss=b, val_accuracy=0) for e, a, b in figures]
    >>> learning(rows).sentence
    'It overfits from epoch 4 on: the validation loss rises from 0.50 to 1.00 while the training loss still falls. The
    epoch kept, 3 (lowest validation loss), comes before that.'
    """
    if not history:
        return Learning("unknown", "No epoch was trained.")
    linear = [row for row in history if row.regularization is not None]
    history = history[len(linear) :]
    if not history:
        return Learning("linear", _linear(linear, monitor, kept))
    if not all(math.isfinite(row.loss) and math.isfinite(row.val_loss) for row in history):
        return Learning("broken", "The loss became not a number: overfitting cannot be judged.")
    if len(history) < _FEWEST_EPOCHS:
        trained = "Only one epoch was" if len(history) == 1 else f"Only {len(history)} epochs were"
        return Learning("unknown", f"{trained} trained: too few to tell whether it overfits.")
    losses = np.array([row.loss for row in history], dtype=np.float64)
    validation = np.array([row.val_loss for row in history], dtype=np.float64)
    smooth, smooth_losses = _smoothed(validation), _smoothed(losses)
    turn = int(smooth.argmin())
    rise = float(np.median(validation[-3:]) - smooth[turn])
    if turn < len(history) - 1 and rise > max(_RISE * smooth[turn], _NOISES * _noise(validation)):
        return _rising(history, monitor, _lowest_near(validation, turn), smooth_losses[turn] - smooth_losses[-1])
    third = max(2, len(history) // 3)
    if turn == len(history) - 1 and smooth[-1 - third] - smooth[-1] > _RISE * smooth[-1]:
        return Learning(
            "learning",
            "It does not overfit, and was still learning: the validation loss was falling to the last epoch.",
        )
    level = history[_level_from(smooth)].epoch
    return Learning("level", f"It does not overfit: the validation loss stays level after epoch {level}.")


def kept(history: Sequence[HistoryRow], best: int, stop: Stop) -> str:
    """Which weights a run kept, those of the epoch `best`, and why it ended, in one sentence.

    >>> from tellapart.runs.record import StopReason
    >>> reached = {"loss": 1, "accuracy": 0, "val_loss": 1, "val_accuracy": 0}
    >>> fit = HistoryRow(epoch=1, phase="head", regularization=9, **reached)
    >>> rows = [fit, HistoryRow(epoch=2, phase="fine-tune", **reached)]
    >>> kept(rows, 1, Stop(StopReason.EPOCHS_DONE, "all epochs done"))
    'Kept: fit 1 of 1, on the frozen backbone, as fine-tuning was no gain on the validation split; all epochs done.'
    >>> kept(rows, 2, Stop(StopReason.EPOCHS_DONE, "all epochs done"))
    'Kept: epoch 2 of 2, fine-tuned, a gain on the validation split; all epochs done.'
    >>> kept(rows[:1], 1, Stop(StopReason.INTERRUPTED, "interrupted in epoch 2"))
    'Kept: fit 1 of 1, on the frozen backbone, as no epoch of fine-tuning was completed; interrupted in epoch 2.'
    """
    head = [row for row in history if row.phase != "fine-tune"]
    if len(head) == len(history):
        unit = unit_of(head)
        which = f"{unit} {best} of {len(head)}"
        if unit == "fit" and stop.reason.goes_on:
            which += ", on the frozen backbone, as no epoch of fine-tuning was completed"
    elif best > len(head):
        which = f"epoch {best} of {len(history)}, fine-tuned, a gain on the validation split"
    else:
        frozen = "on the frozen backbone, as fine-tuning was no gain on the validation split"
        which = f"{unit_of(head)} {best} of {len(head)}, {frozen}"
    return f"Kept: {which}; {stop.words}."


def _linear(history: Sequence[HistoryRow], monitor: str, epoch: int | None) -> str:
    """For a head fitted to convergence, with decreasing regularisation from row to row."""
    best, last = best_row(history, monitor), history[-1]
    kept = next((row for row in history if row.epoch == epoch), best)
    which = _MONITORS[monitor] if kept is best else f"within one standard error of the {_MONITORS[monitor]}"
    chosen = (
        f"Only a linear head was trained, to convergence, along a regularisation path of {len(history)} fits; number "
        f"{kept.epoch} is kept, {'with the ' if kept is best else 'the strongest '}{which}."
    )
    if last.val_loss <= kept.val_loss:
        return chosen
    return (
        f"{chosen} Weaker regularisation overfits: the training loss falls to {last.loss:.2g}, the validation "
        f"loss goes from {kept.val_loss:.2g} to {last.val_loss:.2g}."
    )


def _rising(history: Sequence[HistoryRow], monitor: str, lowest: int, training_fall: float) -> Learning:
    first, last = history[lowest], history[-1]
    start = history[lowest + 1].epoch
    change = f"the validation loss rises from {first.val_loss:.2f} to {last.val_loss:.2f}"
    if training_fall <= _FALL * first.loss:
        return Learning(
            "worse",
            f"It grows worse from epoch {start} on, but not by overfitting: {change}, and the training loss does not "
            "fall either. A lower learning rate may help.",
        )
    kept = best_row(history, monitor).epoch
    order = "comes before that" if kept < start else "comes after that, so it may be overconfident"
    return Learning(
        "overfits" if kept < start else "overfits-kept",
        f"It overfits from epoch {start} on: {change} while the training loss still falls. "
        f"The epoch kept, {kept} ({_MONITORS[monitor]}), {order}.",
    )


def _smoothed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each value and its neighbours; the ends have one neighbour."""
    sums = np.convolve(values, np.ones(3), mode="same")
    counts = np.convolve(np.ones(len(values)), np.ones(3), mode="same")
    return np.asarray(sums / counts)


def _noise(values: NDArray[np.float64]) -> float:
    """Standard deviation about a smooth curve, from the median of the second differences."""
    return float(np.median(np.abs(np.diff(values, 2)))) / (0.6745 * math.sqrt(6))


def _lowest_near(values: NDArray[np.float64], turn: int) -> int:
    """Smoothing shifts the minimum by up to one epoch: the lowest unsmoothed value there, never the last epoch."""
    start = max(0, turn - 1)
    return start + int(values[start : min(turn + 2, len(values) - 1)].argmin())


def _level_from(smooth: NDArray[np.float64]) -> int:
    """The first epoch whose smoothed loss is within 3 % of the lowest."""
    return int(np.flatnonzero(smooth <= smooth.min() * (1 + _RISE))[0])
