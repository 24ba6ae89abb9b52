"""Prediction of a folder and of one image: our Predictor, and Keras' model.predict alone, in batches, in tf.data."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Figures, Setting
from benchmarks.network import SIDE, network
from benchmarks.start import console_script, seconds_of

BATCH = 32
ONE_BY_ONE = 100  # the loop of tutorials is slow: its time per image does not depend on their number


def train_a_run(setting: Setting) -> None:
    """The run used by all benchmarks of prediction; its accuracy does not matter here."""
    if run_of(setting).exists():
        return
    import tellapart as ta

    ta.train(setting.folder / "split", recipe="cats-dogs-64", epochs=1, out=run_of(setting))


def run_of(setting: Setting) -> Path:
    return setting.folder / "run"


def ours(setting: Setting) -> Figures:
    from tellapart.inference.predictor import Predictor

    paths = setting.images()
    predictor = Predictor(run_of(setting) / "model.onnx")
    list(predictor.predict(paths[:1]))
    started = time.perf_counter()
    predictions = list(predictor.predict(paths))
    seconds = time.perf_counter() - started
    broken = [prediction.path for prediction in predictions if prediction.error]
    if broken:
        raise RuntimeError(f"{len(broken)} images could not be predicted, the first: {broken[0]}.")
    return _each(seconds, len(paths))


def one_by_one(setting: Setting) -> Figures:
    paths = setting.images()[: 10 if setting.smoke else ONE_BY_ONE]
    model = _scaled_network(setting)
    model.predict(_load(paths[:1]), verbose=0)
    started = time.perf_counter()
    for path in paths:
        model.predict(_load([path]), verbose=0)
    return _each(time.perf_counter() - started, len(paths))


def in_batches(setting: Setting) -> Figures:
    paths = setting.images()
    model = _scaled_network(setting)
    model.predict(_load(paths[:BATCH]), verbose=0)
    started = time.perf_counter()
    for first in range(0, len(paths), BATCH):
        model.predict(_load(paths[first : first + BATCH]), verbose=0)
    return _each(time.perf_counter() - started, len(paths))


def image_dataset(setting: Setting) -> Figures:
    import keras

    model = _scaled_network(setting)
    model.predict(_load(setting.images()[:BATCH]), verbose=0)
    started = time.perf_counter()
    data = keras.utils.image_dataset_from_directory(
        setting.folder / "all", image_size=(SIDE, SIDE), batch_size=BATCH, shuffle=False, labels=None, verbose=False
    )
    rows = model.predict(data, verbose=0)
    return _each(time.perf_counter() - started, len(rows))


def from_the_shell(setting: Setting) -> Figures:
    return {"value": seconds_of([*console_script(), "predict", str(run_of(setting)), str(setting.images()[0])])}


def script_from_the_shell(setting: Setting) -> Figures:
    return {"value": seconds_of([sys.executable, "-c", _SCRIPT, str(run_of(setting)), str(setting.images()[0])])}


_SCRIPT = f"""
import sys, keras
model = keras.models.load_model(sys.argv[1] + "/model.keras")
image = keras.utils.img_to_array(keras.utils.load_img(sys.argv[2], target_size=({SIDE}, {SIDE})))
print(model.predict(image[None], verbose=0))
"""


def _scaled_network(setting: Setting) -> Any:
    from keras import layers

    return network(len(setting.classes()), (layers.Rescaling(1 / 255),))


def _load(paths: Sequence[Path]) -> Any:
    import numpy as np
    from keras.utils import img_to_array, load_img

    return np.stack([img_to_array(load_img(path, target_size=(SIDE, SIDE))) for path in paths])


def _each(seconds: float, count: int) -> Figures:
    return {"value": 1000 * seconds / count}
