"""Fitting: what the phases of training share; Fitted: their result; and the epochs that each of them runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tellapart.config import Config, ModelConfig, TrainConfig
from tellapart.data.batches import Batches, Images, labels_of
from tellapart.data.cache import PixelCache
from tellapart.data.catalog import Catalog, Split
from tellapart.models.backend import backend_name, seed
from tellapart.models.classifier import Classifier
from tellapart.models.devices import ONE, Devices
from tellapart.models.linear import LinearClassifier
from tellapart.progress import Phase, Progress
from tellapart.runs.history import HistoryRow
from tellapart.runs.record import Stop
from tellapart.runs.run import RunFolder
from tellapart.training.checkpoint import Checkpoint
from tellapart.training.epochs import Epochs, Watch, compile_model
from tellapart.training.head import Examples
from tellapart.training.interruption import CtrlC
from tellapart.training.sharded import FeatureSource

if TYPE_CHECKING:
    import keras

EVALUATION_BATCH = 32


@dataclass
class Fitting:
    """What the phases share. labels: class positions of the images of a split. source: of features that are computed
    elsewhere; None: here. devices: that train the network."""

    run: RunFolder
    config: Config
    catalog: Catalog
    cache: PixelCache
    images: dict[Split, Images]
    labels: dict[Split, NDArray[np.int64]]
    class_weights: NDArray[np.float32] | None
    progress: Progress
    ctrl_c: CtrlC
    watch: Watch
    source: FeatureSource | None = None
    devices: Devices = ONE

    def start(self) -> None:
        """Start Keras if needed, and seed its random numbers."""
        stage = Phase.STARTING.named(f"starting Keras with {backend_name()}")
        self.progress.update(stage, 0, 1)
        seed(self.config.seed)
        self.progress.update(stage, 1, 1)

    @property
    def plain(self) -> ModelConfig:
        """The model as it is trained: an image's mirror image takes part in predictions alone."""
        return self.config.model.model_copy(update={"mirrored": False})

    def build(self, precision: str) -> Classifier:
        return Classifier.from_config(self.catalog.task, self.cache.spec, self.plain, precision)

    def told(self, stage: str, done: int, total: int, detail: str) -> None:
        """Progress of stages that Ctrl-C or the end of the time budget may interrupt."""
        self.ctrl_c.check()
        self.progress.update(stage, done, total, detail)

    def note(self, text: str) -> None:
        """Add a note for the report; a resumed run adds it only once."""
        self.run.update(decided=tuple(dict.fromkeys([*self.run.record.decided, text])))


@dataclass(frozen=True)
class Fitted:
    """classifier: with the weights of `best`, a row of history; linear where Keras took no part. examples: on a frozen
    backbone, the features of each split, in the order of its images, plain views first."""

    classifier: Classifier | LinearClassifier
    best: HistoryRow
    stop: Stop
    examples: dict[Split, Examples] | None = None


def batches_of_images(state: Fitting, train: TrainConfig) -> tuple[Batches, Batches]:
    """Training images, shuffled and augmented, and plain validation images."""
    config, task = state.config, state.catalog.task
    training = Batches(
        state.images["train"],
        labels_of(task, state.labels["train"]),
        train.batch_size,
        shuffle=True,
        augment=config.augment,
        seed=config.seed,
        steps=train.steps_per_epoch,
        share=state.devices.share,
    )
    held, size, steps = state.images["validation"], train.batch_size, train.validation_steps
    if steps is None or steps * size >= len(held):
        # Going over the same images again gives no new information.
        if steps is not None:
            state.note(f"train.validation_steps has no effect: {steps} batches hold all validation images")
        size, steps = EVALUATION_BATCH * state.devices.count, None
    labels = labels_of(task, state.labels["validation"])
    return training, Batches(held, labels, size, steps=steps, share=state.devices.share)


def epochs_of(
    state: Fitting,
    train: TrainConfig,
    model: keras.Model,
    batches: tuple[Batches, Batches],
    checkpoint: Checkpoint,
) -> Epochs:
    """A network, compiled, with its training and validation batches."""
    training, validation = batches
    compile_model(model, state.catalog.task, train, len(training))
    shared = (state.class_weights, checkpoint, state.progress, state.ctrl_c, state.watch)
    return Epochs(state.run, train, model, training, validation, *shared, devices=state.devices)
