"""A compiled network + batches -> epochs: each ends with a row of history and a checkpoint on disk.

The next epoch depends only on these and the seed, so a killed training resumes as if it had never stopped.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.config import TrainConfig
from tellapart.data.batches import Batches
from tellapart.errors import TrainingError
from tellapart.models.backend import start_keras
from tellapart.models.compute import Batch, feeders, stepping, to_device
from tellapart.models.devices import ONE, Devices
from tellapart.progress import Phase, Progress
from tellapart.runs.history import HistoryRow, best_row
from tellapart.runs.record import Stop, StopReason
from tellapart.runs.run import RunFolder
from tellapart.task import Task
from tellapart.training.checkpoint import Checkpoint
from tellapart.training.interruption import CtrlC, TimeUp
from tellapart.words import percent

if TYPE_CHECKING:
    import keras

WARMUP = 0.1
"""Share of all steps in which the rate rises from zero, where the schedule says so."""

BEHIND = 2
"""Steps started before the metrics of an earlier one are read, so that no step waits for the host."""

Watch = Callable[[HistoryRow], str]
"""Called with each new row of history once it is on disk; returns why training should stop here, or None."""


def go_on(_: HistoryRow) -> str:
    """A Watch that never stops training."""
    return ""


@dataclass
class Epochs:
    """Epochs of one network, up to train.epochs of them. before: the rows of history of earlier phases, from which the
    epochs are counted. checkpoint: of the phase that the history names. whole: the network that the checkpoints are of,
    where `model` is its upper part, with the same variables. devices: what the network is held by."""

    run: RunFolder
    train: TrainConfig
    model: keras.Model
    training: Batches
    validation: Batches
    class_weights: NDArray[np.float32] | None
    checkpoint: Checkpoint
    progress: Progress
    ctrl_c: CtrlC
    watch: Watch = go_on
    before: tuple[HistoryRow, ...] = ()
    whole: keras.Model | None = None
    devices: Devices = ONE

    def go(self) -> Stop:
        """Train all remaining epochs; afterwards the network has its best weights. Returns why it ended.

        Raises as `train_on` does.
        """
        stopped = self.train_on()
        if self.checkpoint.state["epoch"]:
            self.checkpoint.restore_best(self.whole or self.model)
        return stopped

    def train_on(self) -> Stop:
        """The same, but the network has the weights of the last epoch.

        Raises KeyboardInterrupt for Ctrl-C or the end of the time, and TrainingError for a loss that is not a number,
        before the first epoch of all ended; later these end it with the best epoch so far.
        """
        network = self.whole or self.model
        done = self.checkpoint.restore(network, self.model.optimizer)
        history = self.run.history[len(self.before) : len(self.before) + done]
        if done:
            self.progress.line(f"resuming after epoch {done} of {self.train.epochs}")
        return self._rest(history)

    def _rest(self, history: list[HistoryRow]) -> Stop:
        """The epochs after `history`, to which they are added."""
        train, offset = self.train, len(self.before)
        for epoch in range(len(history) + 1, train.epochs + 1):
            if waited := enough(history, train.monitor, train.patience):
                return Stop(StopReason.NO_BETTER, waited)
            try:
                row = self._epoch(epoch)
                _require_finite(self.model, epoch)
                best = best_row([*history, row], train.monitor).epoch - offset
                self.run.write_history([*self.before, *history, row])
                self.checkpoint.save(self.whole or self.model, self.model.optimizer, epoch, best)
            except KeyboardInterrupt as stop:
                if not history and not self.before:
                    raise
                # Ctrl-C may have come between the row and its checkpoint; only epochs with a checkpoint count.
                self.run.write_history(self.run.history[: offset + self.checkpoint.state["epoch"]])
                reason = StopReason.TIME_UP if isinstance(stop, TimeUp) else StopReason.INTERRUPTED
                return Stop(reason, f"interrupted in epoch {epoch + offset}" + (f": {stop}" if str(stop) else ""))
            except FloatingPointError as error:
                setting = "fine_tune_learning_rate" if self.checkpoint.phase == "fine-tune" else "learning_rate"
                message = f"{error} Lower train.{setting} (now {train.learning_rate:g}), or look for odd images."
                if not history and not self.before:
                    raise TrainingError(message) from None
                return Stop(StopReason.NOT_A_NUMBER, message)
            history.append(row)
            self.progress.line(words(row, train.epochs + offset, best + offset))
            told = self.watch(row)
            if self.devices.any(bool(told)):
                return Stop(StopReason.WATCH, told)
        waited = enough(history, train.monitor, train.patience)
        return Stop(StopReason.NO_BETTER, waited) if waited else Stop(StopReason.EPOCHS_DONE, "all epochs done")

    def _epoch(self, epoch: int) -> HistoryRow:
        """One pass over the training batches and one over the validation images -> a row of history."""
        model, total, offset = self.model, len(self.training), len(self.before)
        words = f"epoch {epoch + offset}/{self.train.epochs + offset}"
        stage = Phase.EPOCH.named(words)
        rate = float(np.asarray(model.optimizer.learning_rate))
        started = time.perf_counter()
        with closing(self._steps(self.training, epoch - 1, learn=True)) as steps:
            for step, learned, training in steps:
                if not np.isfinite(training["loss"]):
                    raise FloatingPointError(f"The loss became not-a-number in epoch {epoch + offset}, step {step}.")
                self.ctrl_c.check()
                figures = "  ".join(_figure(name, value) for name, value in training.items())
                pace = learned / (time.perf_counter() - started)
                self.progress.update(stage, step, total, f"{figures}  {pace:.0f} images/s")
        with closing(self._steps(self.validation, 0, learn=False)) as steps:
            for step, _, judged in steps:
                self.ctrl_c.check()
                validation = judged
                self.progress.update(Phase.EPOCH.named(f"{words}, validation"), step, len(self.validation))
        if not np.isfinite(validation["loss"]):
            raise FloatingPointError(f"The validation loss became not-a-number in epoch {epoch + offset}.")
        reached: dict[str, Any] = training | {f"val_{name}": value for name, value in validation.items()}
        return HistoryRow(
            epoch=epoch + offset,
            phase=self.checkpoint.phase,
            **reached,
            learning_rate=rate,
            images_per_second=round(pace, 1),
            seconds=round(time.perf_counter() - started, 2),
        )

    def _steps(
        self, batches: Batches, epoch: int, *, learn: bool
    ) -> Generator[tuple[int, int, dict[str, float]], None, None]:
        """Each finished step of a pass over the batches, a few after the last one started: its number, the images so
        far, and loss and accuracy over them."""

        def ready(batch: tuple[NDArray[Any], NDArray[np.float32]], images: int) -> tuple[int, Batch]:
            inputs, labels = batch
            weights = _weights(labels, self.class_weights) if learn else None
            return images, to_device((inputs, labels, weights), self.devices, images)

        asked: deque[tuple[int, int, dict[str, Any]]] = deque()
        count = 0
        with stepping(self.model, learn=learn) as step:
            coming = batches.epoch(epoch, workers=feeders(), ahead=feeders() + 3, then=ready)
            with closing(coming):
                for number, (images, batch) in enumerate(coming, start=1):
                    count += images
                    asked.append((number, count, step(batch)))
                    if len(asked) > BEHIND:
                        yield _read(asked.popleft())
            yield from map(_read, asked)


def compile_model(
    model: keras.Model, task: Task, train: TrainConfig, steps: int, pace: Callable[[Any], float] | None = None
) -> None:
    """Loss and metrics from the Task, optimizer and schedule from the configuration; steps: per epoch. pace: factor of
    each variable on the learning rate; None: the same rate for all."""
    keras = start_keras()
    optimizers = keras.optimizers
    rate: Any = train.learning_rate
    total = steps * train.epochs
    if train.schedule == "cosine":
        rate = optimizers.schedules.CosineDecay(train.learning_rate, total)
    elif train.schedule == "warmup-cosine":
        warmup = ceil(WARMUP * total)
        rate = optimizers.schedules.CosineDecay(
            0.0, max(1, total - warmup), warmup_target=train.learning_rate, warmup_steps=warmup
        )
    made: dict[str, tuple[Any, dict[str, Any]]] = {
        "adam": (optimizers.Adam, {"weight_decay": train.weight_decay or None}),
        "adamw": (optimizers.AdamW, {"weight_decay": train.weight_decay}),
        "sgd": (optimizers.SGD, {"momentum": 0.9, "nesterov": True, "weight_decay": train.weight_decay or None}),
        "rmsprop": (optimizers.RMSprop, {"weight_decay": train.weight_decay or None}),
    }
    kind, options = made[train.optimizer]
    if pace is not None:
        kind = _paced(kind, [pace(variable) for variable in model.trainable_variables])
    if task.form.activation == "sigmoid":
        loss: Any = keras.losses.BinaryCrossentropy(label_smoothing=train.label_smoothing)
        accuracy: Any = keras.metrics.BinaryAccuracy(name="accuracy")
        if task.several:
            accuracy = keras.metrics.MeanMetricWrapper(_all_right, name="accuracy")
    else:
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=train.label_smoothing)
        accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    model.compile(kind(rate, **options), loss, metrics=[accuracy])
    # Variables created while a step is traced would cause a second trace.
    model.optimizer.build(model.trainable_variables)
    nothing = np.zeros((1, model.output.shape[-1]), np.float32)
    model.compute_metrics(None, nothing, nothing)
    model.reset_metrics()


def _all_right(truth: Any, said: Any) -> Any:
    """Whether all labels of each image are right, (n,)."""
    from keras import ops

    right = ops.equal(ops.greater_equal(truth, 0.5), ops.greater_equal(said, 0.5))
    return ops.cast(ops.all(right, axis=-1), "float32")


def _paced(kind: Any, factors: list[float]) -> Any:
    """An optimizer whose variables, in the order in which it is built, learn at their own share of the rate."""

    class Paced(kind):  # type: ignore[misc]
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            factor = factors[self._get_variable_index(variable)]
            super().update_step(gradient, variable, learning_rate * factor)

    return Paced


def words(row: HistoryRow, epochs: int, best: int) -> str:
    """A row of history as a line, with the maximum remaining time: patience often ends training earlier."""
    figures = "  ".join(_figure(name, row.figure(name)) for name in ("loss", "accuracy", "val_loss", "val_accuracy"))
    mark = "  best" if row.epoch == best else ""
    pace = f"{row.images_per_second:.0f} images/s  {row.seconds:.1f} s"
    minutes = row.seconds * (epochs - row.epoch) / 60
    left = f"  at most {minutes:.0f} min more" if minutes >= 1 else ""
    return f"epoch {row.epoch}/{epochs}  {figures}  {pace}{mark}{left}"


def _figure(name: str, value: float) -> str:
    return f"{name} {percent(value) if name.endswith('accuracy') else f'{value:.4f}'}"


def enough(history: list[HistoryRow], monitor: str, patience: int) -> str:
    """Why training stops here, or None. It depends only on the history, so a resumed run keeps its patience."""
    if not patience or not history:
        return ""
    waited = history[-1].epoch - best_row(history, monitor).epoch
    return f"no better {monitor} for {waited} epochs" if waited >= patience else ""


def _require_finite(model: keras.Model, epoch: int) -> None:
    """Raise FloatingPointError if a weight is not a number: a clipped loss may hide it."""
    for weight in model.weights:
        if not np.isfinite(np.sum(weight.numpy(), dtype=np.float64)):
            raise FloatingPointError(f"The weights became not-a-number in epoch {epoch}.")


def _read(step: tuple[int, int, dict[str, Any]]) -> tuple[int, int, dict[str, float]]:
    number, images, figures = step
    return number, images, {name: float(figures[name]) for name in ("loss", "accuracy")}


def _weights(labels: NDArray[np.float32], weights: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    if weights is None:
        return None
    classes = labels[:, 0].astype(int) if labels.shape[1] == 1 else labels.argmax(axis=1)
    return np.asarray(weights[classes])
