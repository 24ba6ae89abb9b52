"""Catalog + Config -> Run: prepare, build, fit, keep the best, save, verify, evaluate. The story in order.

Every epoch ends with a row of history and a checkpoint on the disk. What the next epoch does follows from these and
the seed alone, so a run that was killed goes on as one that never stopped. Read by: api. Needs the extra `train`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.config import Config
from tellapart.data.batches import Batches, Pictures, labels_of
from tellapart.data.cache import PixelCache
from tellapart.data.catalog import Catalog, Split
from tellapart.data.checks import IMBALANCE
from tellapart.data.sources import open_row
from tellapart.errors import RunError, TellapartError, TrainingError
from tellapart.files import replacing
from tellapart.inference.export import export_onnx
from tellapart.inference.measure import measure, write_predictions
from tellapart.inference.predictor import Predictor
from tellapart.models.backend import choose_precision, start_keras
from tellapart.models.build import build, in_float32, summary
from tellapart.progress import SILENT, Progress
from tellapart.runs.run import RunFolder
from tellapart.task import Task
from tellapart.training.checkpoint import Checkpoint
from tellapart.training.interruption import CtrlC

if TYPE_CHECKING:
    import keras

EVALUATION_BATCH = 32
VERIFIED_PICTURES = 64


@dataclass
class _Fit:
    """What the epochs share."""

    run: RunFolder
    config: Config
    catalog: Catalog
    model: keras.Model
    train: Batches
    validation: Batches
    weights: NDArray[np.float32] | None
    cache: PixelCache
    progress: Progress
    ctrl_c: CtrlC


def fit(run: RunFolder, cache: PixelCache, *, progress: Progress = SILENT) -> None:
    """Train a created or interrupted run to its end: afterwards it holds model.keras, model.onnx, metrics.json.

    Ctrl-C ends it cleanly after the best epoch so far. Raises TrainingError where it cannot start or the loss is not a
    number in the first epoch, PictureError for a picture that changed or went away.
    """
    if run.status == "done":
        raise RunError(f"{run.path} is done: there is nothing to go on with. Train again with another --out.")
    try:
        state = _prepare(run, cache, progress)
        with state.ctrl_c:
            stopped = _epochs(state)
    except TellapartError as error:
        run.update(status="failed", error=str(error))
        raise
    except KeyboardInterrupt:
        run.update(status="interrupted", error="stopped by Ctrl-C before the first epoch ended")
        raise
    _finish(state, stopped)


def _prepare(run: RunFolder, cache: PixelCache, progress: Progress) -> _Fit:
    """Everything that the first epoch needs; what was decided on the way goes into run.json."""
    progress.update("starting TensorFlow", 0, 1)
    keras = start_keras()
    progress.update("starting TensorFlow", 1, 1)
    config, catalog, spec = run.config, run.catalog, run.spec
    keras.utils.set_random_seed(config.seed)
    precision, reason = choose_precision(config.train.precision)
    model = build(catalog.task, spec, config.model, precision)
    train, validation = _batches(catalog, cache, config)
    weights, weighting = class_weights(catalog.split("train"), config)
    compile_model(model, catalog.task, config, len(train))
    run.update(
        status="training", precision=precision, parameters=model.count_params(), class_weights=weighting, error=""
    )
    progress.line(
        f"{config.model.name}: {model.count_params():,} parameters, pictures {spec.height}x{spec.width}, "
        f"{precision} ({reason}); class weights: {weighting}"
    )
    if cache.problem:
        progress.line(cache.problem)
    return _Fit(run, config, catalog, model, train, validation, weights, cache, progress, CtrlC())


def require_trainable(catalog: Catalog) -> None:
    """Raise TrainingError for pictures that cannot be trained on, before a run is made."""
    counts = catalog.counts()
    lacking = [label for label, count in counts["train"].items() if not count]
    if lacking:
        raise TrainingError(f"No training picture for {', '.join(lacking)}. Add pictures, or take the class out.")
    if not any(counts["validation"].values()):
        raise TrainingError(
            "The validation split has no picture. Each class needs at least 3 usable pictures: one each to train, "
            "validate and test."
        )


def _batches(catalog: Catalog, cache: PixelCache, config: Config) -> tuple[Batches, Batches]:
    """Training batches, shuffled and augmented, and validation batches, in order and plain."""

    def pictures(split: Split) -> tuple[Pictures, NDArray[np.float32]]:
        chosen = catalog.split(split)
        found = Pictures(
            catalog.root,
            chosen.pictures,
            cache.spec,
            open_row=open_row,
            cache=cache,
            max_pixels=config.data.max_pixels,
        )
        return found, labels_of(catalog.task, chosen.class_indices())

    train = Batches(
        *pictures("train"),
        config.train.batch_size,
        shuffle=True,
        augment=config.augment,
        seed=config.seed,
        steps=config.train.steps_per_epoch,
    )
    held, labels = pictures("validation")
    size, steps = config.train.batch_size, config.train.validation_steps
    if steps is None or steps * size >= len(held):
        # Going over the same pictures again would tell nothing more.
        size, steps = EVALUATION_BATCH, None
    return train, Batches(held, labels, size, steps=steps)


def class_weights(train: Catalog, config: Config) -> tuple[NDArray[np.float32] | None, str]:
    """A weight for each class, mean 1 over the pictures, or None; and in words what was done."""
    counts = np.bincount(train.class_indices(), minlength=len(train.task.classes))
    ratio = counts.max() / max(1, counts.min())
    if config.train.class_weights == "none" or (config.train.class_weights == "auto" and ratio <= IMBALANCE):
        return None, f"none (largest class {ratio:.2g} times the smallest)"
    weights = (counts.sum() / (len(counts) * np.maximum(counts, 1))).astype(np.float32)
    words = ", ".join(f"{name} {weight:.2f}" for name, weight in zip(train.task.classes, weights, strict=True))
    return weights, words


def compile_model(model: keras.Model, task: Task, config: Config, steps: int) -> None:
    """Loss and metrics from the Task, optimizer and schedule from the configuration; steps: of one epoch."""
    keras = start_keras()
    train = config.train
    rate: Any = train.learning_rate
    if train.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(train.learning_rate, steps * train.epochs)
    made = {
        "adam": lambda: keras.optimizers.Adam(rate, weight_decay=train.weight_decay or None),
        "adamw": lambda: keras.optimizers.AdamW(rate, weight_decay=train.weight_decay),
        "sgd": lambda: keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=train.weight_decay or None),
        "rmsprop": lambda: keras.optimizers.RMSprop(rate, weight_decay=train.weight_decay or None),
    }
    if task.kind == "binary":
        loss: Any = keras.losses.BinaryCrossentropy(label_smoothing=train.label_smoothing)
        accuracy: Any = keras.metrics.BinaryAccuracy(name="accuracy")
    else:
        loss = keras.losses.CategoricalCrossentropy(label_smoothing=train.label_smoothing)
        accuracy = keras.metrics.CategoricalAccuracy(name="accuracy")
    model.compile(made[train.optimizer](), loss, metrics=[accuracy])


def _epochs(state: _Fit) -> str:
    """All epochs that are still to do; returns why it ended."""
    run, train = state.run, state.config.train
    checkpoint = Checkpoint(run.checkpoint)
    done = checkpoint.restore(state.model)
    history = run.history[:done]
    if done:
        state.progress.line(f"going on after epoch {done} of {train.epochs}")
    for epoch in range(done + 1, train.epochs + 1):
        stop = _enough(history, train.monitor, train.patience)
        if stop:
            return stop
        try:
            row = _epoch(state, epoch)
            _require_finite(state.model, epoch)
            best = best_epoch([*history, row], train.monitor)
            run.write_history([*history, row])
            checkpoint.save(state.model, epoch, best)
        except KeyboardInterrupt:
            if not history:
                raise
            # Ctrl-C may have come between the row and its checkpoint; what counts is the checkpoint.
            run.write_history(run.history[: checkpoint.state["epoch"]])
            return f"interrupted in epoch {epoch}"
        except FloatingPointError as error:
            message = f"{error} Lower train.learning_rate (now {train.learning_rate:g}), or look for odd pictures."
            if not history:
                raise TrainingError(message) from None
            return message
        history.append(row)
        state.progress.line(_words(row, train.epochs, best))
    return _enough(history, train.monitor, train.patience) or "all epochs done"


def _epoch(state: _Fit, epoch: int) -> dict[str, Any]:
    """One pass over the training batches and one over the validation pictures -> a row of history."""
    model, total = state.model, len(state.train)
    stage = f"epoch {epoch}/{state.config.train.epochs}"
    rate = float(np.asarray(model.optimizer.learning_rate))
    started = time.perf_counter()
    training, validation = _Means(), _Means()
    for step, (pictures, labels) in enumerate(state.train.epoch(epoch - 1), start=1):
        weights = _weights(labels, state.weights)
        logs = model.train_on_batch(pictures, labels, sample_weight=weights, return_dict=True)
        if not np.isfinite(logs["loss"]):
            raise FloatingPointError(f"The loss became not-a-number in epoch {epoch}, step {step}.")
        state.ctrl_c.check()
        training.add(logs, len(pictures))
        pace = training.pictures / (time.perf_counter() - started)
        figures = "  ".join(f"{name} {value:.3f}" for name, value in training.values().items())
        state.progress.update(stage, step, total, f"{figures}  {pace:.0f} pictures/s")
    for pictures, labels in state.validation.epoch():
        validation.add(model.test_on_batch(pictures, labels, return_dict=True), len(pictures))
    return {
        "epoch": epoch,
        **training.values(),
        **{f"val_{name}": value for name, value in validation.values().items()},
        "learning_rate": rate,
        "pictures_per_second": round(pace, 1),
        "seconds": round(time.perf_counter() - started, 2),
    }


def _require_finite(model: keras.Model, epoch: int) -> None:
    """Raise FloatingPointError where a weight is no number: a clipped loss may hide it."""
    for weight in model.weights:
        if not np.isfinite(np.sum(weight.numpy(), dtype=np.float64)):
            raise FloatingPointError(f"The weights became not-a-number in epoch {epoch}.")


@dataclass
class _Means:
    """Loss and accuracy over the pictures seen so far, from the means of the batches."""

    pictures: int = 0
    loss: float = 0.0
    accuracy: float = 0.0

    def add(self, logs: dict[str, Any], pictures: int) -> None:
        self.pictures += pictures
        self.loss += pictures * float(logs["loss"])
        self.accuracy += pictures * float(logs["accuracy"])

    def values(self) -> dict[str, float]:
        return {"loss": self.loss / self.pictures, "accuracy": self.accuracy / self.pictures}


def _weights(labels: NDArray[np.float32], weights: NDArray[np.float32] | None) -> NDArray[np.float32] | None:
    if weights is None:
        return None
    classes = labels[:, 0].astype(int) if labels.shape[1] == 1 else labels.argmax(axis=1)
    return np.asarray(weights[classes])


def best_epoch(history: list[dict[str, Any]], monitor: str) -> int:
    """The epoch, from 1, with the lowest loss or the highest accuracy; the earliest of equals.

    >>> best_epoch([{"epoch": 1, "val_loss": 0.5}, {"epoch": 2, "val_loss": 0.4}], "val_loss")
    2
    """
    sign = 1 if monitor.endswith("loss") else -1
    return int(min(history, key=lambda row: sign * row[monitor])["epoch"])


def _enough(history: list[dict[str, Any]], monitor: str, patience: int) -> str:
    """Why training stops here, or nothing. It follows from the history alone, so a resumed run keeps its patience."""
    if not patience or not history:
        return ""
    waited = len(history) - best_epoch(history, monitor)
    return f"no better {monitor} for {waited} epochs" if waited >= patience else ""


def _words(row: dict[str, Any], epochs: int, best: int) -> str:
    figures = "  ".join(f"{name} {row[name]:.4f}" for name in ("loss", "accuracy", "val_loss", "val_accuracy"))
    mark = "  best" if row["epoch"] == best else ""
    pace = f"{row['pictures_per_second']:.0f} pictures/s  {row['seconds']:.1f} s"
    return f"epoch {row['epoch']}/{epochs}  {figures}  {pace}{mark}"


def _finish(state: _Fit, stopped: str) -> None:
    """The best epoch's weights, in float32, as Keras and as a verified ONNX file; then the test split, once."""
    run, progress, catalog, spec = state.run, state.progress, state.catalog, state.cache.spec
    checkpoint = Checkpoint(run.checkpoint)
    best = checkpoint.restore_best(state.model)
    final = in_float32(state.model, catalog.task, spec, state.config.model)
    progress.line(f"{stopped}; keeping epoch {best}, the best by {state.config.train.monitor}")
    progress.update("saving", 0, 2)
    _save(final, run.model_file)
    progress.update("saving", 1, 2)
    pictures = state.validation.pictures.take(np.arange(min(VERIFIED_PICTURES, len(state.validation.pictures))))
    difference = export_onnx(final, catalog.task, spec, run.onnx_file, pictures)
    progress.update("saving", 2, 2)
    # Without a test split the figures are of the validation split, and the report says so.
    split: Split = "test" if len(catalog.split("test")) else "validation"
    evaluation, predictions = measure(Predictor(run.onnx_file), catalog, split, cache=state.cache, progress=progress)
    run.write_metrics({split: evaluation.to_dict()})
    write_predictions(run.predictions_file, catalog, predictions)
    interrupted = stopped.startswith("interrupted")
    run.update(
        status="interrupted" if interrupted else "done",
        stopped=stopped,
        best_epoch=best,
        onnx_difference=difference,
        verified_pictures=len(pictures),
        network=summary(final),
    )
    if not interrupted:
        checkpoint.remove()


def _save(model: keras.Model, path: Path) -> None:
    with replacing(path) as neighbour:
        model.save(neighbour)
