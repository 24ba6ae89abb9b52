"""keras.Model -> model.onnx with its Task and ImageSpec inside, refused unless it predicts what Keras predicts.

Read by: training, api. Needs the extra `train`.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ExportError
from tellapart.files import replacing
from tellapart.inference.predictor import METADATA_KEY, Predictor
from tellapart.task import ImageSpec, Task

if TYPE_CHECKING:
    import keras

BOUND = 1e-3


def export_onnx(model: keras.Model, task: Task, spec: ImageSpec, path: Path, pictures: NDArray[np.uint8]) -> float:
    """Write the file and return its largest difference in probability from Keras on `pictures`.

    model: in float32. pictures: real ones, uint8 (n, height, width, channels), n > 0. Raises ExportError, and leaves
    whatever stood at `path`, where the difference is not below BOUND.
    """
    import onnx

    with replacing(path) as neighbour:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet("tf2onnx", "absl"):
            warnings.simplefilter("ignore")
            # Keras asks for a call before it exports.
            model(pictures[:1])
            model.export(str(neighbour), format="onnx", verbose=False)
        graph = onnx.load(str(neighbour))
        entry = graph.metadata_props.add()
        entry.key = METADATA_KEY
        entry.value = json.dumps({"task": task.to_dict(), "image": spec.to_dict()}, ensure_ascii=False)
        onnx.save(graph, str(neighbour))
        difference = largest_difference(model, neighbour, pictures)
        if not difference < BOUND:
            raise ExportError(
                f"The exported ONNX file differs from the trained network by {difference:.2g} in probability on "
                f"{len(pictures)} pictures; the bound is {BOUND:g}. It was not written. Please report this with the "
                "run's config.toml."
            )
    return difference


def largest_difference(model: keras.Model, path: Path, pictures: NDArray[np.uint8]) -> float:
    """Largest absolute difference in probability between a Keras network and its ONNX file on the same pictures."""
    predictor = Predictor(path)
    ours = np.concatenate([predictor.probabilities(batch) for batch in _batches(pictures)])
    theirs = np.concatenate([np.asarray(model.predict_on_batch(batch), np.float64) for batch in _batches(pictures)])
    return float(np.abs(ours[:, -theirs.shape[1] :] - theirs).max())


def _batches(pictures: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    return [pictures[start : start + 16] for start in range(0, len(pictures), 16)]


@contextlib.contextmanager
def _quiet(*names: str):  # type: ignore[no-untyped-def]
    """Converters report each step; a user of the run needs none of it."""
    loggers = [logging.getLogger(name) for name in names]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
