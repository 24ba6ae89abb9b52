"""Prediction of a folder with the bundled backbone at 224x224, from files to probabilities: ours, the peers, the
limits.

All use the same trained network and the same files; process start, imports and opening the network are not counted, nor
are the first images. PyTorch may be in another environment: TORCH_PYTHON names its Python.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Figures, Setting
from benchmarks.predict import ONE_BY_ONE

SIDE = 224
BATCH = 32
WARM = 40


def prepare(setting: Setting) -> None:
    """The run, its file in int8, and what PyTorch needs to have the same head, and to prove it."""
    import numpy as np

    import tellapart as ta

    run = ta.train(setting.folder / "split", model="efficientnet-lite0", out=setting.work / "run")
    ta.export(run.path, "onnx", quantize="int8")
    model, images = run.model(), _pixels(setting, 8)
    model.save(setting.work / "model.keras")
    kernel, bias = model.layers[-1].get_weights()
    expected = run.predictor().probabilities(images)[:, -kernel.shape[1] :]
    np.savez(setting.work / "head.npz", kernel=kernel, bias=bias, images=images, expected=expected)


def ours(setting: Setting) -> Figures:
    return of_file(setting, setting.work / "run" / "model.onnx")


def ours_int8(setting: Setting) -> Figures:
    return of_file(setting, setting.work / "run" / "exports" / "model-int8.onnx")


def one_by_one(setting: Setting) -> Figures:
    from keras.utils import img_to_array, load_img

    model, paths = _keras(setting), setting.images()[: 10 if setting.smoke else ONE_BY_ONE]

    def predict() -> int:
        for path in paths:
            model.predict(img_to_array(load_img(path, target_size=(SIDE, SIDE)))[None], verbose=0)
        return len(paths)

    model.predict(_pixels(setting, 1), verbose=0)
    return _rate(predict)


def in_batches(setting: Setting) -> Figures:
    import numpy as np
    from keras.utils import img_to_array, load_img

    model, paths = _keras(setting), setting.images()

    def predict() -> int:
        for first in range(0, len(paths), BATCH):
            chosen = paths[first : first + BATCH]
            model.predict(
                np.stack([img_to_array(load_img(path, target_size=(SIDE, SIDE))) for path in chosen]), verbose=0
            )
        return len(paths)

    model.predict(_pixels(setting, BATCH), verbose=0)
    return _rate(predict)


def image_dataset(setting: Setting) -> Figures:
    """Keras' best loader: decoded and resized in tf.data in parallel with the network."""
    import keras
    import tensorflow

    model = _keras(setting)

    def predict() -> int:
        data = keras.utils.image_dataset_from_directory(
            setting.folder / "all", image_size=(SIDE, SIDE), batch_size=BATCH, shuffle=False, labels=None, verbose=False
        )
        return len(model.predict(data.prefetch(tensorflow.data.AUTOTUNE), verbose=0))

    model.predict(_pixels(setting, BATCH), verbose=0)
    return _rate(predict)


def torch_eager(setting: Setting) -> Figures:
    """The same network of torch.nn modules, in batches of 32, its images from a plain DataLoader."""
    import tellapart

    order = {
        "files": [str(path) for path in setting.images()],
        "head": str(setting.work / "head.npz"),
        "batch": BATCH,
        "side": SIDE,
    }
    done = subprocess.run(
        [_torch_python(), str(Path(__file__).with_name("torch_eager.py"))],
        input=json.dumps(order),
        env={**os.environ, "PYTHONPATH": str(Path(tellapart.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"PyTorch: exit code {done.returncode}.\n{done.stderr[-2000:]}")
    found: Figures = json.loads(done.stdout)
    return found


@cache
def no_torch() -> str:
    """Why the row is left out; empty if it is not."""
    probe = subprocess.run(
        [_torch_python(), "-c", "import torch, safetensors, PIL"], capture_output=True, text=True, check=False
    )
    why = probe.stderr.strip().rpartition("\n")[2]
    return f"{why}; name a Python that has it in TORCH_PYTHON" if probe.returncode else ""


def bare_batches(setting: Setting) -> Figures:
    """ONNX Runtime in the usual way: all cores on a batch of 32, images already decoded."""
    import onnxruntime

    from tellapart.parallel import cores

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores()
    session = onnxruntime.InferenceSession(
        str(setting.work / "run" / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return _fed(setting, lambda batch: session.run(["probabilities"], {name: batch}), BATCH)


def bare_groups(setting: Setting) -> Figures:
    """The limit: our own division of the work, each core with a few images, already decoded."""
    from tellapart.inference.predictor import BATCH as FEW
    from tellapart.inference.predictor import Predictor
    from tellapart.parallel import cores, in_order

    predictor, pixels = Predictor(setting.work / "run" / "model.onnx", threads=1), _pixels(setting, None)
    groups = [pixels[first : first + FEW["cpu"]] for first in range(0, len(pixels), FEW["cpu"])]

    def predict() -> int:
        return sum(len(rows) for rows in in_order(predictor.probabilities, groups, workers=cores(), ahead=2 * cores()))

    predictor.probabilities(groups[0])
    return _rate(predict)


def openvino_bfloat16(setting: Setting) -> Figures:
    """OpenVINO where it uses bfloat16, all cores on a batch of 32, images already decoded."""
    openvino: Any = importlib.import_module("openvino")
    network = openvino.Core().compile_model(
        str(setting.work / "run" / "model.onnx"), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"}
    )
    return _fed(setting, lambda batch: network(batch), BATCH)


def no_openvino() -> str:
    return "" if importlib.util.find_spec("openvino") else "No module named 'openvino'"


def of_file(setting: Setting, model: Path) -> Figures:
    from tellapart.inference.predictor import Predictor

    predictor, paths = Predictor(model), setting.images()

    def predict() -> int:
        broken = [found.path for found in predictor.predict(paths) if found.error]
        if broken:
            raise RuntimeError(f"{len(broken)} images could not be predicted, the first: {broken[0]}.")
        return len(paths)

    list(predictor.predict(paths[:WARM]))
    return _rate(predict)


def _fed(setting: Setting, run: Callable[[Any], object], size: int) -> Figures:
    pixels = _pixels(setting, None)
    batches = [pixels[first : first + size] for first in range(0, len(pixels), size)]

    def predict() -> int:
        for batch in batches:
            run(batch)
        return len(pixels)

    for batch in (batches[0], batches[-1]):
        run(batch)
    return _rate(predict)


def _rate(predict: Callable[[], int]) -> Figures:
    """Images per second of wall time; beside it milliseconds of CPU time per image, which other work on the machine
    affects less."""
    started, spent = time.perf_counter(), time.process_time()
    count = predict()
    seconds, spent = time.perf_counter() - started, time.process_time() - spent
    return {"value": count / seconds, "processor ms": 1000 * spent / count}


def _pixels(setting: Setting, count: int | None) -> Any:
    import numpy as np

    from tellapart.data import pixels
    from tellapart.parallel import in_order
    from tellapart.task import ImageSpec

    spec = ImageSpec(SIDE, SIDE)
    return np.stack(list(in_order(lambda path: pixels.read(path, spec), setting.images()[:count])))


def _keras(setting: Setting) -> Any:
    import keras

    return keras.models.load_model(setting.work / "model.keras")


def _torch_python() -> str:
    return os.environ.get("TORCH_PYTHON", sys.executable)
