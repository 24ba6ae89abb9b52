"""Training of cats-dogs-64 in images per second: ours, ImageDataGenerator, tf.data with Random* layers, the step.

Each way trains on `split/train` of the setting. The first epoch is the warm-up and is shown beside; the value is the
median of the others. Time for validation counts nowhere.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Figures, Setting
from benchmarks.network import BATCH, SIDE, label_mode, network


def ours(setting: Setting) -> Figures:
    import tellapart as ta

    with tempfile.TemporaryDirectory(dir=setting.work) as folder:
        run = ta.train(setting.folder / "split", recipe="cats-dogs-64", epochs=setting.epochs, out=Path(folder) / "run")
        return steady([row.images_per_second for row in run.history])


def tutorial(setting: Setting) -> Figures:
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    classes = setting.classes()
    generator = ImageDataGenerator(
        rescale=1 / 255,
        rotation_range=15,
        shear_range=0.1,
        zoom_range=0.2,
        horizontal_flip=True,
        width_shift_range=0.1,
        height_shift_range=0.1,
    )
    batches = generator.flow_from_directory(
        setting.folder / "split" / "train",
        target_size=(SIDE, SIDE),
        batch_size=BATCH,
        class_mode=label_mode(len(classes)),
    )
    return _fit(network(len(classes)), batches, batches.samples, setting.epochs)


def layers_in_map(setting: Setting, dtype: str = "float32") -> Figures:
    import tensorflow

    augmentation = _random_layers()
    data, count = _cached_dataset(setting)
    data = data.map(lambda x, y: (augmentation(x, training=True), y), num_parallel_calls=tensorflow.data.AUTOTUNE)
    model = network(len(setting.classes()), (_scaling(),), dtype)
    return _fit(model, data.prefetch(tensorflow.data.AUTOTUNE), count, setting.epochs)


def layers_in_model(setting: Setting, dtype: str = "float32") -> Figures:
    import tensorflow

    data, count = _cached_dataset(setting)
    model = network(len(setting.classes()), (_random_layers(), _scaling()), dtype)
    return _fit(model, data.prefetch(tensorflow.data.AUTOTUNE), count, setting.epochs)


def layers_in_map_bfloat16(setting: Setting) -> Figures:
    return layers_in_map(setting, "mixed_bfloat16")


def layers_in_model_bfloat16(setting: Setting) -> Figures:
    return layers_in_model(setting, "mixed_bfloat16")


def limit(setting: Setting) -> Figures:
    """Our network, compiled as ours is, in the precision that ours chooses, on one batch that is in memory already."""
    import keras
    import numpy as np

    from tellapart.data.batches import labels_of
    from tellapart.models.backend import choose_precision
    from tellapart.models.classifier import Classifier
    from tellapart.recipes import load_recipe
    from tellapart.task import ImageSpec, Task
    from tellapart.training.epochs import compile_model

    config, classes = load_recipe("cats-dogs-64"), setting.classes()
    task = Task(tuple(classes))
    steps = max(1, sum(1 for _ in (setting.folder / "split" / "train").glob("*/*")) // BATCH)
    keras.config.set_dtype_policy("float32")
    precision, _ = choose_precision(config.train.precision)
    model = Classifier.from_config(task, ImageSpec(SIDE, SIDE, 3), config.model, precision).network
    compile_model(model, task, config.train, steps)
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8)
    labels = labels_of(task, generator.integers(0, len(classes), BATCH))
    paces = []
    for _ in range(setting.epochs):
        started = time.perf_counter()
        for _ in range(steps):
            model.train_on_batch(images, labels, return_dict=True)
        paces.append(steps * BATCH / (time.perf_counter() - started))
    return steady(paces)


def _cached_dataset(setting: Setting) -> tuple[Any, int]:
    """Batches decoded once and kept in memory, shuffled anew each epoch; and how many images they hold."""
    import keras

    data = keras.utils.image_dataset_from_directory(
        setting.folder / "split" / "train",
        label_mode=label_mode(len(setting.classes())),
        image_size=(SIDE, SIDE),
        batch_size=BATCH,
        verbose=False,
    )
    return data.cache().shuffle(64), len(data.file_paths)


def _random_layers() -> Any:
    """The recipe's augmentation; Keras counts angles in turns, and shear as a share of the side."""
    import keras
    from keras import layers

    keras.config.set_dtype_policy("float32")
    shear = math.tan(math.radians(0.1))
    return keras.Sequential(
        [
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(15 / 360, fill_mode="nearest"),
            layers.RandomTranslation(0.1, 0.1, fill_mode="nearest"),
            layers.RandomShear(shear, fill_mode="nearest"),
            layers.RandomZoom((-0.2, 0.2), (-0.2, 0.2), fill_mode="nearest"),
        ]
    )


def _scaling() -> Any:
    from keras import layers

    return layers.Rescaling(1 / 255)


def _fit(model: Any, data: Any, images: int, epochs: int) -> Figures:
    import keras

    class Clock(keras.callbacks.Callback):
        def __init__(self) -> None:
            super().__init__()
            self.paces: list[float] = []
            self.started = 0.0

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.started = time.perf_counter()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
            self.paces.append(images / (time.perf_counter() - self.started))

    clock = Clock()
    model.fit(data, epochs=epochs, verbose=0, callbacks=[clock])
    return steady(clock.paces)


def steady(paces: Sequence[float]) -> Figures:
    """The median of all epochs but the first, which is shown beside."""
    return {"value": statistics.median(paces[1:]), "first epoch": paces[0]}
