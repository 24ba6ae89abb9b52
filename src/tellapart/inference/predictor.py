"""model.onnx + pictures -> predictions, through ONNX Runtime; imports no TensorFlow.

The file carries its Task and ImageSpec, so pictures take the same road as in training. Pictures are decoded in threads
beside the network, in order, with a bounded number in memory. Read by: api, evaluation of runs, serve.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.data import pixels
from tellapart.data.pixels import Source
from tellapart.errors import ExportError, PictureError
from tellapart.parallel import cores, in_order
from tellapart.task import ImageSpec, Task

if TYPE_CHECKING:
    import onnxruntime

METADATA_KEY = "tellapart"
BATCH = 32


@dataclass(frozen=True)
class Prediction:
    """What the model says of one picture. probabilities: by class name, in 0..1, summing to 1.

    For a picture that could not be read, `error` says why and the other fields are empty.
    """

    path: str
    label: str = ""
    probability: float = float("nan")
    probabilities: dict[str, float] = field(default_factory=dict)
    error: str = ""

    def top(self, k: int) -> list[tuple[str, float]]:
        """The k likeliest classes with their probabilities, likeliest first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])[:k]


def open_session(path: Path, threads: int | None = None) -> onnxruntime.InferenceSession:
    """An ONNX file in ONNX Runtime, on all cores or as many as given. Raises ExportError for one that is no use."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cores()
    options.log_severity_level = 3
    # Threads that wait in a loop take the processor from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(os.fspath(path), options, providers=onnxruntime.get_available_providers())
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base class
        raise ExportError(f"{path} cannot be read as an ONNX model: {error}") from None


class Predictor:
    """A model.onnx, ready to predict.

    threads: processor cores it may use; None takes all. Raises ExportError for a file that tellapart did not write.
    """

    def __init__(self, model: str | os.PathLike[str], *, threads: int | None = None) -> None:
        self.path = Path(model)
        self._threads = threads or cores()
        self._session = open_session(self.path, self._threads)
        entry = self._session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
        if entry is None:
            raise ExportError(
                f"{self.path} carries no class names and picture size, so tellapart did not write it. "
                "Use the model.onnx of a run, or a file from `tellapart export`."
            )
        metadata: dict[str, Any] = json.loads(entry)
        self.task = Task.from_dict(metadata["task"])
        self.spec = ImageSpec.from_dict(metadata["image"])
        self._input = self._session.get_inputs()[0].name

    def probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float64]:
        """uint8 pictures (n, height, width, channels) -> probabilities (n, classes), rows summing to 1."""
        return every_class(self.task, self._session.run(None, {self._input: batch})[0])

    def predict(self, pictures: Iterable[str | os.PathLike[str]], *, batch_size: int = BATCH) -> Iterator[Prediction]:
        """One Prediction a path, in the order given; `pictures` may be endless, memory stays bounded."""
        named: Iterable[tuple[str, Source]] = ((os.fspath(p), Path(p)) for p in pictures)
        return self.predict_named(named, batch_size=batch_size)

    def predict_named(self, pictures: Iterable[tuple[str, Source]], *, batch_size: int = BATCH) -> Iterator[Prediction]:
        """The same for (name, what pixels.read takes) pairs."""
        decoded = in_order(self._read, pictures, workers=self._threads, ahead=3 * batch_size)
        try:
            while chunk := list(islice(decoded, batch_size)):
                good = [found for _, found in chunk if not isinstance(found, str)]
                rows: Iterator[NDArray[np.float64]] = iter(self.probabilities(np.stack(good)) if good else ())
                for name, found in chunk:
                    if isinstance(found, str):
                        yield Prediction(name, error=found)
                    else:
                        yield prediction(self.task, name, next(rows))
        finally:
            decoded.close()  # type: ignore[attr-defined]

    def _read(self, picture: tuple[str, Source]) -> tuple[str, NDArray[np.uint8] | str]:
        name, source = picture
        try:
            return name, pixels.read(source, self.spec)
        except PictureError as error:
            return name, str(error)
        except OSError as error:
            return name, f"unreadable: {error.strerror or error}"


def every_class(task: Task, output: NDArray[np.floating]) -> NDArray[np.float64]:
    """What a network gives out, (n, 1) or (n, classes) -> probabilities (n, classes), rows summing to 1."""
    values = output.astype(np.float64)
    if task.kind == "binary":
        return np.hstack([1 - values, values])
    return np.asarray(values / values.sum(axis=1, keepdims=True))


def prediction(task: Task, name: str, row: NDArray[np.float64]) -> Prediction:
    """Of one picture, from its probabilities (classes,)."""
    best = int(row.argmax())
    values = {label: float(value) for label, value in zip(task.classes, row, strict=True)}
    return Prediction(name, task.classes[best], float(row[best]), values)
