"""Fine-tuning of EfficientNet-Lite0 at 224x224 in images per second: top blocks from activations, all blocks on images.

Each way trains on `split/train` of the setting, in short epochs, the first of which is the warm-up and is shown beside;
the value is the median of the others. Time for validation counts nowhere, nor does that for the activations, which are
computed once.
"""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

from benchmarks.benchmark import Figures, Setting
from benchmarks.train import steady

MODEL, SIDE, BATCH, TOP = "efficientnet-lite0", 224, 32, 3


def _steps(setting: Setting) -> int:
    return 2 if setting.smoke else 6


def _road(setting: Setting, *, blocks: int | str, precision: str, on: str = "images") -> Figures:
    """`tellapart train --fine-tune`."""
    import tellapart as ta

    settings = (
        f"model.name={MODEL}", f"train.fine_tune={blocks}", f"train.fine_tune_on={on}", f"train.precision={precision}",
        f"train.batch_size={BATCH}", f"train.steps_per_epoch={_steps(setting)}", "train.validation_steps=1",
        "train.patience=0", "train.views=2", "augment=light",
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=setting.work) as folder:
        run = ta.train(setting.folder / "split", settings=settings, epochs=setting.epochs, out=Path(folder) / "run")
        return steady([row.images_per_second for row in run.history if row.phase == "fine-tune"])


def _step_alone(setting: Setting, *, precision: str) -> Figures:
    """The step of all blocks, compiled as ours is, on one batch that is in memory already."""
    import numpy as np

    from tellapart.config import Config
    from tellapart.data.batches import labels_of
    from tellapart.models.classifier import Classifier
    from tellapart.models.compute import stepping, to_device
    from tellapart.task import ImageSpec, Task
    from tellapart.training.epochs import compile_model

    config, task = Config.from_dict({"model": {"name": MODEL}}), Task(tuple(setting.classes()))
    made = Classifier.from_config(task, ImageSpec(SIDE, SIDE, 3), config.model, precision)
    made.backbone.unfreeze("all")
    compile_model(made.network, task, config.train, _steps(setting))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (BATCH, SIDE, SIDE, 3), np.uint8)
    batch = to_device((images, labels_of(task, rng.integers(0, len(task.classes), BATCH)), None))
    paces = []
    for _ in range(setting.epochs):
        with stepping(made.network, learn=True) as step:
            started = time.perf_counter()
            for _ in range(_steps(setting)):
                figures = step(batch)
            float(figures["loss"])
            paces.append(_steps(setting) * BATCH / (time.perf_counter() - started))
    return steady(paces)


top_from_activations = partial(_road, blocks=TOP, precision="float32", on="activations")
top_from_activations_bfloat16 = partial(_road, blocks=TOP, precision="bfloat16", on="activations")
top_on_images = partial(_road, blocks=TOP, precision="float32")
top_on_images_bfloat16 = partial(_road, blocks=TOP, precision="bfloat16")
whole_bfloat16 = partial(_road, blocks="all", precision="bfloat16")
whole_float32 = partial(_road, blocks="all", precision="float32")
whole_limit_bfloat16 = partial(_step_alone, precision="bfloat16")
