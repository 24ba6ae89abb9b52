"""The training jobs of the GPU benchmark: the bare step, tellapart's training, Keras' fit, on the same network.

The bare step repeats one batch on the device; tellapart's training is `tellapart train` without its end. Both read the
metrics of a step as late as training does.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections import deque
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_order import Order, tell

EPOCHS = 4
STEPS = 200
"""Steps per epoch."""
LEAST_SECONDS = 2.0


def training(order: Order, settings: list[str]) -> None:
    """The bare step, then tellapart's training, then Keras' own fit."""
    import tellapart as ta
    from tellapart.data.sources import read_source
    from tellapart.models.compute import feeders
    from tellapart.training.plan import decide

    batch, steps, epochs = (8, 4, 2) if order.smoke else (64, STEPS, EPOCHS)
    shared = (
        f"train.precision={order.precision}", f"train.batch_size={batch}", f"train.epochs={epochs}",
        f"train.steps_per_epoch={steps}", "train.patience=0", "augment=medium",
    )  # fmt: skip
    config = ta.make_config(settings=[*settings, *shared])
    config = decide(config, read_source(order.work / "images", config.data)).config
    alone = _step_alone(order, config)
    tell(order, "the step alone, on one batch in the GPU's memory", alone, "images/s")
    road = _road(order, config)
    tell(order, "tellapart's road", road, "images/s", f"{100 * road / alone:.0f} % of the step alone")
    made = _batches_alone(order, config)
    tell(order, "the road without a network", made, "images/s", f"batches made in {feeders()} threads")
    fit, how = _keras_fit(order, config)
    tell(order, how, fit, "images/s", f"the road is {road / fit:.2f} x")


def _network(config: Any, precision: str, steps: int) -> Any:
    """Compiled, with as many trainable layers as in training; its weights are random."""
    from tellapart.models.classifier import Classifier
    from tellapart.task import ImageSpec, Task
    from tellapart.training.epochs import compile_model

    task = Task(("even", "odd"))
    made = Classifier.from_config(task, ImageSpec.from_dict(config.image.model_dump()), config.model, precision)
    if config.train.fine_tune:
        made.backbone.unfreeze(config.train.fine_tune)
    model = made.network
    compile_model(model, task, config.train, steps)
    return model


def _step_alone(order: Order, config: Any) -> float:
    from tellapart.models.backend import seed
    from tellapart.models.compute import stepping, to_device
    from tellapart.training.epochs import BEHIND

    seed(0)
    model = _network(config, order.precision, config.train.steps_per_epoch)
    rng, size = np.random.default_rng(0), config.train.batch_size
    images = rng.integers(0, 256, (size, *model.input.shape[1:]), np.uint8)
    batch = to_device((images, rng.integers(0, 2, (size, 1)).astype(np.float32), None))
    asked: deque[Any] = deque()
    with stepping(model, learn=True) as step:
        for _ in range(3):
            float(step(batch)["loss"])
        started, count = time.perf_counter(), 0
        while time.perf_counter() - started < LEAST_SECONDS:
            asked.append(step(batch))
            count += size
            if len(asked) > BEHIND:
                float(asked.popleft()["loss"])
        for figures in asked:
            float(figures["loss"])
        return count / (time.perf_counter() - started)


def _road(order: Order, config: Any) -> float:
    """Images per second of the epochs after the first, in which everything is compiled."""
    from tellapart.config import Plan
    from tellapart.data.cache import DEFAULT_LIMIT, PixelCache
    from tellapart.runs.run import create_run
    from tellapart.training.fit import learn

    catalog, spec = _read(order, config)
    with tempfile.TemporaryDirectory(dir=order.work) as folder, PixelCache(spec, limit_bytes=DEFAULT_LIMIT) as cache:
        run = create_run(Path(folder) / "run", Plan(config), catalog)
        learn(run, cache)
        rows = [row for row in run.history if row.phase != "head"]
    return statistics.median(row.images_per_second for row in rows[1:])


def _read(order: Order, config: Any) -> tuple[Any, Any]:
    """Every image decoded and cached, as by the scan of a training."""
    import tellapart as ta
    from tellapart.data.cache import DEFAULT_LIMIT, PixelCache
    from tellapart.task import ImageSpec

    spec = ImageSpec.from_dict(config.image.model_dump())
    with PixelCache(spec, limit_bytes=DEFAULT_LIMIT) as cache:
        return ta.read(order.work / "images", config=config, cache=cache), spec


def _batches_alone(order: Order, config: Any) -> float:
    """The batches of an epoch, augmented and transferred to the device, which does nothing else."""
    from tellapart.data.batches import Batches, Images
    from tellapart.data.cache import DEFAULT_LIMIT, PixelCache
    from tellapart.data.sources import open_row
    from tellapart.models.compute import feeders, to_device

    catalog, spec = _read(order, config)
    chosen, size = catalog.split("train"), config.train.batch_size
    with PixelCache(spec, limit_bytes=DEFAULT_LIMIT) as cache:
        images = Images(chosen.root, chosen.images, spec, open_row=open_row, cache=cache)
        labels = np.zeros((len(images), 1), np.float32)
        steps = config.train.steps_per_epoch
        batches = Batches(images, labels, size, shuffle=True, augment=config.augment, steps=steps)
        started = time.perf_counter()
        threads = {"workers": feeders(), "ahead": feeders() + 3}
        count = sum(
            len(batch[0]) for batch in batches.epoch(**threads, then=lambda batch, _: to_device((*batch, None)))
        )
    return count / (time.perf_counter() - started)


def _keras_fit(order: Order, config: Any) -> tuple[float, str]:
    """Keras' best practice over the same images, already decoded: tf.data with TensorFlow, else a PyDataset."""
    from benchmarks.train import _fit

    pixels, labels = _in_memory(order, config)
    size, steps, epochs = config.train.batch_size, config.train.steps_per_epoch, config.train.epochs
    model = _network(config, order.precision, steps)
    if order.backend == "tensorflow":
        import tensorflow

        from benchmarks.train import _random_layers

        augmentation, auto = _random_layers(), tensorflow.data.AUTOTUNE
        data = tensorflow.data.Dataset.from_tensor_slices((pixels, labels)).shuffle(1024).repeat().batch(size)
        data = data.map(lambda x, y: (augmentation(x, training=True), y), num_parallel_calls=auto)
        return _fit(model, data.prefetch(auto).take(steps), steps * size, epochs)[
            "value"
        ], "Keras' fit, tf.data, Random* layers in map()"
    import keras

    from tellapart.config import AUGMENTATIONS
    from tellapart.data.batches import Batches
    from tellapart.parallel import cores

    batches = Batches(_Pixels(pixels), labels, size, shuffle=True, augment=AUGMENTATIONS["medium"], steps=steps)

    class Data(keras.utils.PyDataset):
        def __len__(self) -> int:
            return len(batches)

        def __getitem__(self, index: int) -> Any:
            return batches.batch(index)

    found = _fit(model, Data(workers=cores(), max_queue_size=2 * cores()), steps * size, epochs)["value"]
    return found, "Keras' fit, PyDataset in a thread a core over our warps (no tf.data here)"


class _Pixels:
    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels

    def __len__(self) -> int:
        return len(self._pixels)

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self._pixels[rows]


def _in_memory(order: Order, config: Any) -> tuple[np.ndarray, np.ndarray]:
    """The training images, uint8 (n, h, w, 3), and their labels (n, 1)."""
    from tellapart.data import pixels
    from tellapart.parallel import in_order
    from tellapart.task import ImageSpec

    spec = ImageSpec.from_dict(config.image.model_dump())
    files = [path for path in order.files() if path.parts[-3] == "train"]
    read = np.stack(list(in_order(partial(pixels.read, spec=spec), files)))
    return read, np.array([[path.parent.name == "odd"] for path in files], np.float32)
