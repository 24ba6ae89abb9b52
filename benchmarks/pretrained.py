"""From the shell to an evaluated classifier on a pretrained backbone: ours, as in tutorials, and Keras' best practice.

All three use the same backbone, EfficientNet-Lite0 at 224x224, frozen, and train on `split/train`, validate and test.
Each is a command of its own, so that imports and everything else count. The peers' heads are those of tutorials: one
dense layer of 128. `python -m benchmarks.pretrained WAY FOLDER EPOCHS` runs a peer and prints its test accuracy.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Figures, Setting
from benchmarks.network import label_mode
from benchmarks.start import console_script

SIDE = 224
BATCH = 32
TUTORIAL_EPOCHS = 20
BEST_PRACTICE_EPOCHS = 10
ANOTHER_HEAD = ["--set", "model.dense=[128]"]


def first_run(setting: Setting) -> Figures:
    """With empty caches: no decoded images, no features, no converted backbone."""
    with tempfile.TemporaryDirectory(dir=setting.work) as cache:
        return _ours(setting, cache)


def another_head(setting: Setting) -> Figures:
    return _ours(setting, str(setting.work / "cache"), *ANOTHER_HEAD)


def fill_cache(setting: Setting) -> None:
    _ours(setting, str(setting.work / "cache"))


def tutorial(setting: Setting) -> Figures:
    return _peer(setting, "tutorial", TUTORIAL_EPOCHS)


def best_practice(setting: Setting) -> Figures:
    return _peer(setting, "best_practice", BEST_PRACTICE_EPOCHS)


def best_practice_bfloat16(setting: Setting) -> Figures:
    return _peer(setting, "best_practice_bfloat16", BEST_PRACTICE_EPOCHS)


def _ours(setting: Setting, cache: str, *options: str) -> Figures:
    with tempfile.TemporaryDirectory(dir=setting.work) as folder:
        out = str(Path(folder) / "run")
        command = [
            *console_script(),
            "train",
            str(setting.folder / "split"),
            "--out",
            out,
            "--format",
            "json",
            *options,
        ]
        seconds, answer = _timed(command, {**os.environ, "TELLAPART_CACHE": cache})
        found = answer["metrics"]["test"]["accuracy"]
        return {"value": seconds, **_percent(found["value"], found["low"], found["high"])}


def _peer(setting: Setting, way: str, epochs: int) -> Figures:
    from tellapart.evaluation.intervals import proportion

    command = [
        sys.executable,
        "-m",
        "benchmarks.pretrained",
        way,
        str(setting.folder),
        str(1 if setting.smoke else epochs),
    ]
    seconds, answer = _timed(command, {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    found = proportion(round(answer["accuracy"] * answer["n"]), answer["n"])
    return {"value": seconds, **_percent(found.value, found.low, found.high)}


def _percent(value: float, low: float, high: float) -> Figures:
    return {"test %": 100 * value, "low": 100 * low, "high": 100 * high}


def _timed(command: list[str], environment: dict[str, str]) -> tuple[float, Any]:
    """Wall time, and the JSON at the end of standard output."""
    started = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}.\n{done.stderr[-2000:]}")
    return seconds, json.loads(done.stdout[done.stdout.index("{") :])


def _network(classes: int, before: tuple[Any, ...] = ()) -> Any:
    """Float images 0..255 -> probabilities; the backbone is frozen. before: layers that see the image first."""
    import keras
    from keras import layers

    from tellapart.models.efficientnet_lite import OFFSET, SCALE, efficientnet_lite
    from tellapart.models.features import TOP
    from tellapart.models.weights_file import BUNDLED, load_weights

    inputs = keras.Input((SIDE, SIDE, 3))
    maps = efficientnet_lite(layers.Rescaling(SCALE, OFFSET)(inputs), "efficientnet-lite0")
    pretrained = keras.Model(inputs, layers.GlobalAveragePooling2D()(maps[TOP]))
    load_weights(pretrained, BUNDLED / "efficientnet-lite0.safetensors")
    pretrained.trainable = False
    head = (1, "sigmoid") if classes == 2 else (classes, "softmax")
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            *before,
            pretrained,
            layers.Dense(128, activation="relu"),
            layers.Dense(head[0], activation=head[1], dtype="float32"),
        ]
    )
    loss = "binary_crossentropy" if classes == 2 else "categorical_crossentropy"
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    return model


def _tutorial(folder: Path, epochs: int, classes: int) -> tuple[Any, Any, int]:
    from tensorflow.keras.preprocessing.image import ImageDataGenerator

    flows = {
        split: ImageDataGenerator(**augmentation).flow_from_directory(
            folder / "split" / split,
            target_size=(SIDE, SIDE),
            batch_size=BATCH,
            class_mode=label_mode(classes),
            shuffle=split == "train",
        )
        for split, augmentation in (
            ("train", {"shear_range": 0.2, "zoom_range": 0.2, "horizontal_flip": True}),
            ("validation", {}),
            ("test", {}),
        )
    }
    model = _network(classes)
    model.fit(flows["train"], validation_data=flows["validation"], epochs=epochs, verbose=0)
    return model, flows["test"], flows["test"].samples


def _best_practice(folder: Path, epochs: int, classes: int, dtype: str = "float32") -> tuple[Any, Any, int]:
    import keras
    import tensorflow
    from keras import layers

    keras.config.set_dtype_policy(dtype)
    parts = {
        split: keras.utils.image_dataset_from_directory(
            folder / "split" / split,
            image_size=(SIDE, SIDE),
            batch_size=BATCH,
            label_mode=label_mode(classes),
            shuffle=False,
            verbose=False,
        ).cache()
        for split in ("train", "validation", "test")
    }
    train = parts["train"].unbatch().shuffle(1000).batch(BATCH).prefetch(tensorflow.data.AUTOTUNE)
    model = _network(classes, (layers.RandomFlip("horizontal"),))
    model.fit(train, validation_data=parts["validation"], epochs=epochs, verbose=0)
    return model, parts["test"], sum(len(labels) for _, labels in parts["test"])


def main(way: str, folder: str, epochs: str) -> None:
    place = Path(folder)
    classes = len(list((place / "all").iterdir()))
    if way == "tutorial":
        model, test, count = _tutorial(place, int(epochs), classes)
    else:
        model, test, count = _best_practice(
            place, int(epochs), classes, "mixed_bfloat16" if way.endswith("bfloat16") else "float32"
        )
    print(json.dumps({"accuracy": float(model.evaluate(test, verbose=0)[1]), "n": count}))


if __name__ == "__main__":
    main(*sys.argv[1:])
