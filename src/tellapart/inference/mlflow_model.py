"""model.onnx as MLflow loads it: a DataFrame of images in, a DataFrame of predictions out. Needs no MLflow itself.

The MLmodel file names this module, so that loading a model unpickles nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.dataframes import frame
from tellapart.errors import ImageError, SourceError
from tellapart.inference.inputs import Held
from tellapart.inference.prediction import Prediction
from tellapart.inference.predictor import Predictor

if TYPE_CHECKING:
    import pandas

PATH, IMAGE = "path", "image"
"""Columns of the input: a file on this machine, or the bytes of an image file."""
ANSWER = ("label", "probability", "verdict", "distance", "error")
_SERVING = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"


def _load_pyfunc(path: str) -> MlflowModel:
    """Called by MLflow with the model's data."""
    return MlflowModel(Predictor(Path(path)))


class MlflowModel:
    """predictor: of the network."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor

    def predict(self, model_input: Any, params: Any = None) -> pandas.DataFrame:  # noqa: ARG002 - as MLflow calls it
        """A row for each row given: the columns of ANSWER, and `probability CLASS` of each class. An image that cannot
        be read has an error. Raises SourceError for an input without a column `path` or `image`."""
        columns = {str(name): list(model_input[name]) for name in getattr(model_input, "columns", ())}
        if not columns.keys() & {PATH, IMAGE}:
            given = ", ".join(columns) or type(model_input).__name__
            raise SourceError(
                f"Given {given}; expected a DataFrame with the column {IMAGE} (bytes of image files) or {PATH} (files)."
            )
        count = len(next(iter(columns.values())))
        empty = [None] * count
        held = [
            (str(path or number), _held(image, path))
            for number, (image, path) in enumerate(
                zip(columns.get(IMAGE, empty), columns.get(PATH, empty), strict=True)
            )
        ]
        classes = self._predictor.task.classes
        rows = [_row(said, classes) for said in self._predictor.predict_named(held)]
        return frame(rows, output_columns(classes))


def output_columns(classes: tuple[str, ...]) -> list[str]:
    """The names of the columns of the answer."""
    return [*ANSWER, *(f"probability {name}" for name in classes)]


def _held(image: Any, path: Any) -> Held:
    if isinstance(image, bytes | bytearray):
        return bytes(image)
    if not isinstance(path, str) or not path:
        return ImageError("not an image", "the row names no image")
    if os.environ.get(_SERVING, "").lower() == "true":
        return ImageError("not an image", f"a server opens no paths of its clients; send the column {IMAGE}")
    return Path(path)


def _row(said: Prediction, classes: tuple[str, ...]) -> list[Any]:
    nothing = float("nan")
    shares = [said.probabilities.get(name, nothing) for name in classes]
    return [said.label, said.probability, said.verdict, said.distance, said.error, *shares]
