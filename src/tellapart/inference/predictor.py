"""model.onnx + images -> predictions, through ONNX Runtime. Does not import TensorFlow.

The file carries its Task and ImageSpec, so images take the same road as in training. Each thread decodes a few
images and predicts them, in order, with a bounded number in memory.
"""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tellapart.config import DataConfig
from tellapart.data import pixels
from tellapart.data.pixels import Decoded
from tellapart.errors import ConfigError, ExportError, ImageError, NoNumberError
from tellapart.evaluation.selective_prediction import Thresholds, Verdict
from tellapart.files import from_json
from tellapart.inference.file_in_words import input_in_words, outputs_in_words
from tellapart.inference.inputs import Held, read_held
from tellapart.inference.prediction import Prediction
from tellapart.inference.python_inputs import images_of
from tellapart.models.runtime import CUDA, Device, open_session
from tellapart.parallel import cores, in_order
from tellapart.runs.predictions import all_right
from tellapart.task import ImageSpec, Task

if TYPE_CHECKING:
    import onnxruntime

_Float = TypeVar("_Float", bound=np.floating)

METADATA_KEY = "tellapart"
ADDITION_KEY = "tellapart_class_activation"
"""Where inference.class_activation puts what a file adds to itself to tell places."""
NO_NUMBER = "the network's output is not a number"
"""Why an image has no prediction though it could be read."""
BFLOAT16 = "bfloat16"
BATCH = {"cpu": 4, "cuda": 32}
"""Images that a thread decodes and predicts at a time, by device: what a network makes of more falls out of a core's
cache."""


_EVEN = 0.5
_ROUNDING = 1e-3


class Watch(Protocol):
    """Who looks on as images are predicted."""

    def see(self, image: Decoded, said: Prediction) -> None:
        """A decoded image and what was said of it."""


@dataclass(frozen=True)
class Metadata:
    """What travels inside a model.onnx. temperature: what the logits were divided by, for the record; it is in the
    weights already. thresholds: None where no verdict is given."""

    task: Task
    spec: ImageSpec
    thresholds: Thresholds | None = None
    temperature: float = 1.0

    @property
    def least(self) -> tuple[float, ...]:
        """The probability from which on each of several labels is predicted."""
        given = self.thresholds and self.thresholds.labels
        return given or (_EVEN,) * len(self.task.classes)

    def to_dict(self) -> dict[str, Any]:
        return {
            "task": self.task.to_dict(),
            "image": self.spec.to_dict(),
            "thresholds": self.thresholds and self.thresholds.to_dict(),
            "temperature": self.temperature,
            "input": input_in_words(self.spec),
            "outputs": outputs_in_words(self.task),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Metadata:
        """Raises ConfigError, or as Python does for what is not built so, for values that to_dict did not make."""
        task, thresholds = Task.from_dict(values["task"]), values.get("thresholds")
        held = thresholds and Thresholds.from_dict(thresholds)
        if held and held.labels is not None and len(held.labels) != len(task.classes):
            raise ConfigError(f"Given {len(held.labels)} thresholds for {len(task.classes)} labels.")
        return cls(task, ImageSpec.from_dict(values["image"]), held, float(values.get("temperature", 1.0)))


class Predictor:
    """A model.onnx, ready to predict.

    threads: processor cores it may use; None takes all. device: `auto`, `cpu` or `cuda`; the attribute `device` says
    which of the two it is. bounds: max_pixels and max_bytes of an image, such as those of a run's config.data; None:
    the defaults of the settings. arithmetic: `bfloat16` computes in OpenVINO, for a file that inference.optimize wrote
    for it; any other is that of the file. Raises ExportError for a file that tellapart did not write, ConfigError for
    the device `cuda` where there is none.

    >>> predictor = Predictor("runs/pets/model.onnx", threads=1)
    >>> predictor.probabilities(np.zeros((2, *predictor.spec.shape), np.uint8)).shape
    (2, 3)
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        threads: int | None = None,
        device: Device = "auto",
        bounds: DataConfig | None = None,
        arithmetic: str = "float32",
    ) -> None:
        self.path = Path(model)
        self.bounds = bounds or DataConfig()
        self.arithmetic = arithmetic
        self._threads = threads or cores()
        self._session, self._opened = open_session(self.path, self._threads, device=device), self._threads
        self.device: Literal["cpu", "cuda"] = "cuda" if CUDA in self._session.get_providers() else "cpu"
        self._opening = threading.Lock()
        entries = _entries(self._session, self.path)
        entry = entries.get(METADATA_KEY)
        if entry is None:
            raise ExportError(
                f"{self.path} has no class names and image size, so tellapart did not write it. "
                "Use the model.onnx of a run, or a file from `tellapart export`."
            )
        self.metadata = _described(entry, self._session, self.path)
        self.task, self.spec = self.metadata.task, self.metadata.spec
        self._input = self._session.get_inputs()[0].name
        names = [output.name for output in self._session.get_outputs()]
        self._asked = names[: 2 if names[1:2] == ["similarity"] else 1]
        self._addition: str = entries.get(ADDITION_KEY, "")
        self._gives_places = "class_activation" in names
        self._explaining: onnxruntime.InferenceSession | None = None
        if arithmetic == BFLOAT16:
            self._session = self._open(self._threads)
        self.tells_places = self._gives_places or bool(self._addition)
        """Whether class_activation has an answer."""

    def probabilities(self, batch: NDArray[np.uint8]) -> NDArray[np.float64]:
        """uint8 images (n, height, width, channels) -> probabilities (n, classes), rows summing to 1; nan in the
        rows of those for which the network gave no number."""
        return self.answer(batch)[0]

    def answer(self, batch: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The same with the distance (n,) of each image from the nearest class; nan where the file cannot tell."""
        return self._run(self._engine(self._threads), batch)

    def alone(self) -> Callable[[NDArray[np.uint8]], object]:
        """The same on one core for each thread that calls it, as predict_named does with many images."""
        return partial(self._run, self._engine(1))

    def _engine(self, threads: int) -> onnxruntime.InferenceSession:
        """The network on so many threads. One is kept open, as a large network would be twice in memory."""
        with self._opening:
            if self._opened != threads and self.device == "cpu":
                self._session, self._opened = self._open(threads), threads
            return self._session

    def _open(self, threads: int) -> onnxruntime.InferenceSession:
        """The network on the processor."""
        if self.arithmetic == BFLOAT16:
            from tellapart.models.openvino_runtime import Bfloat16

            return Bfloat16(self.path, threads)
        return open_session(self.path, threads)

    def _run(
        self, engine: onnxruntime.InferenceSession, batch: NDArray[np.uint8]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        given = self._ask(engine, self._asked, batch)
        rows = every_class(self.task, given[0])
        if not given[1:]:
            return rows, np.full(len(batch), np.nan)
        distance = 1 - given[1].astype(np.float64).max(axis=1)
        rows[~np.isfinite(distance)] = np.nan
        return rows, distance

    def _ask(
        self, engine: onnxruntime.InferenceSession, names: list[str], batch: NDArray[np.uint8]
    ) -> list[NDArray[np.floating]]:
        """Raises ExportError where the graph cannot be computed, or answers for other classes than the file names."""
        try:
            given: list[NDArray[np.floating]] = engine.run(names, {self._input: batch})
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base class
            raise ExportError(f"{self.path} cannot be run: {error}") from None
        units = self.task.units
        shapes: dict[str, tuple[int | None, ...]] = {
            "similarity": (len(batch), None),
            "class_activation": (len(batch), None, None, units),
            self._asked[0]: (len(batch), units),
        }
        for name, values in zip(names, given, strict=True):
            if not _has_shape(values, shapes[name]):
                said = getattr(values, "shape", type(values).__name__)
                wanted = shapes[name]
                raise ExportError(f"{self.path} outputs {said}, but its classes need {wanted}. Export it again.")
        return given

    def class_activation(self, batch: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Probabilities, and each place's share of each logit, (n, rows, columns, units): see models.classifier.

        Raises ExportError where the file tells no places, or no number for one. The first call may open the network a
        second time.
        """
        if not self.tells_places:
            raise ExportError(
                f"{self.path} has no class activation outputs, which tell which regions of an image support a class."
            )
        engine = self._engine(self._threads) if self._gives_places else self._with_addition()
        said, shares = self._ask(engine, [self._asked[0], "class_activation"], batch)
        return require_numbers(every_class(self.task, said)), require_numbers(shares)

    def _with_addition(self) -> onnxruntime.InferenceSession:
        with self._opening:
            if self._explaining is None:
                try:
                    addition = base64.b64decode(self._addition, validate=True)
                except ValueError as error:
                    raise ExportError(
                        f"{self.path} is damaged: its nodes for class activation are invalid ({error})."
                    ) from None
                self._explaining = open_session(self.path, self._threads, addition, device=self.device)
            return self._explaining

    def predict(self, images: Any, *, batch_size: int | None = None) -> Iterator[Prediction]:
        """One Prediction an image, in the order given; `images` may be endless, memory stays bounded.

        images: whatever names or is images, as in `tellapart.predict`.
        """
        named = images_of(images, max_bytes=self.bounds.max_bytes)
        return self.predict_named(named, batch_size=batch_size)

    def predict_named(
        self, images: Iterable[tuple[str, Held]], *, batch_size: int | None = None, watch: Watch | None = None
    ) -> Iterator[Prediction]:
        """The same for (name, what pixels.read takes, or an Address) pairs. batch_size: that each thread takes; None:
        BATCH. watch: sees each image with what is said of it, from any thread."""
        given, size = iter(images), batch_size or BATCH[self.device]
        groups = iter(lambda: list(islice(given, size)), [])
        first = list(islice(groups, 2))
        # A core that decodes and predicts for itself waits for no other; a single group is shared by all.
        engine = self._engine(1 if len(first) > 1 else self._threads)
        work = partial(self._predict_group, engine, watch)
        answered = in_order(work, chain(first, groups), workers=self._threads, ahead=2 * self._threads)
        try:
            for answers in answered:
                yield from answers
        finally:
            answered.close()

    def predict_decoded(
        self, images: Sequence[tuple[str, Decoded]], engine: onnxruntime.InferenceSession | None = None
    ) -> list[Prediction]:
        """Of (name, decoded image) pairs, in one batch: the step that every way of predicting takes."""
        taken = [found.pixels for _, found in images if found.pixels is not None]
        if not taken:
            return []
        batch = np.stack(taken)
        rows, distances = self.answer(batch) if engine is None else self._run(engine, batch)
        return [
            prediction(self.metadata, name, row, float(distance), found.warning)
            for (name, found), row, distance in zip(images, rows, distances, strict=True)
        ]

    def _predict_group(
        self, engine: onnxruntime.InferenceSession, watch: Watch | None, images: list[tuple[str, Held]]
    ) -> list[Prediction]:
        found = [(name, self._read(image)) for name, image in images]
        good = [(name, taken) for name, taken in found if not isinstance(taken, str)]
        answers = self.predict_decoded(good, engine)
        if watch is not None:
            for (_, image), answer in zip(good, answers, strict=True):
                watch.see(image, answer)
        said = iter(answers)
        return [Prediction(name, error=taken) if isinstance(taken, str) else next(said) for name, taken in found]

    def _read(self, image: Held) -> Decoded | str:
        """It with its pixels, or why it has none."""
        bounds = self.bounds
        found = read_held(
            image,
            bounds.max_bytes,
            lambda source: pixels.decode(source, self.spec, bounds.max_pixels, max_bytes=bounds.max_bytes),
        )
        return str(found) if isinstance(found, ImageError) else found


def _entries(session: onnxruntime.InferenceSession, path: Path) -> dict[str, str]:
    """What stands beside the graph. Raises ExportError where that is no text, which costs all of it."""
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as error:
        raise ExportError(f"{path} has damaged metadata ({error}). Export it again.") from None


def _has_shape(values: object, shape: tuple[int | None, ...]) -> bool:
    """Whether they are an array of floats of this shape; None: of any length but 0."""
    if not isinstance(values, np.ndarray) or values.dtype.kind != "f" or values.ndim != len(shape):
        return False
    return all(side == wanted if wanted is not None else side for side, wanted in zip(values.shape, shape, strict=True))


def _described(entry: str, session: onnxruntime.InferenceSession, path: Path) -> Metadata:
    """What the file says of itself. Raises ExportError where that is damaged, or another network's than the graph."""
    try:
        metadata = Metadata.from_dict(from_json(entry))
        (given,), answer = session.get_inputs(), session.get_outputs()[0]
    except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RecursionError, ConfigError) as error:
        raise ExportError(f"{path} has damaged metadata ({error}). Export it again.") from None
    units = metadata.task.units
    # A side that the graph leaves open is a name there.
    sides = [*zip(given.shape[1:], metadata.spec.shape, strict=False), *zip(answer.shape[1:], (units,), strict=False)]
    fits = len(given.shape) == 4 and len(answer.shape) == 2 and given.type == "tensor(uint8)"
    if not fits or any(isinstance(side, int) and side != said for side, said in sides):
        raise ExportError(
            f"{path} declares images of {metadata.spec.shape} and {len(metadata.task.classes)} "
            f"classes, but its graph takes {given.type} {given.shape} and outputs {answer.shape}. Export it again."
        )
    return metadata


def require_numbers(values: NDArray[_Float]) -> NDArray[_Float]:
    """The same, of what a network gave, for who can do without no row. Raises NoNumberError where one is no number."""
    if not np.isfinite(values).all():
        raise NoNumberError(
            f"There is no prediction: {NO_NUMBER}. Training failed or the file is damaged; train again."
        )
    return values


def every_class(task: Task, output: NDArray[np.floating]) -> NDArray[np.float64]:
    """What a network gives out, (n, 1) or (n, classes) -> probabilities (n, classes), rows summing to 1 unless an image
    has several labels; nan in the rows that are none."""
    values = output.astype(np.float64)
    if task.several:
        sound = ((values >= 0) & (values <= 1 + _ROUNDING)).all(axis=1, keepdims=True)
        return np.where(sound, np.minimum(values, 1.0), np.nan)
    binary = task.form.one_unit
    rows = np.hstack([1 - values, values]) if binary else values
    with np.errstate(invalid="ignore", over="ignore"):
        total = rows.sum(axis=1, keepdims=True)
    sound = (rows >= 0).all(axis=1, keepdims=True) & np.isfinite(total) & (total > 0)
    return np.divide(rows, 1 if binary else total, out=np.full_like(rows, np.nan), where=sound)


def prediction(
    metadata: Metadata, name: str, row: NDArray[np.float64], distance: float, warning: str = ""
) -> Prediction:
    """Of one image, from its probabilities (classes,) and its distance from the nearest class; an error for those
    that are no numbers. warning: what is damaged in it."""
    if not np.isfinite(row).all():
        return Prediction(name, error=NO_NUMBER)
    values = {label: float(value) for label, value in zip(metadata.task.classes, row, strict=True)}
    thresholds, task = metadata.thresholds, metadata.task
    labels: tuple[str, ...] | None = None
    if task.several:
        there = row >= np.array(metadata.least)
        label, probability = task.join(there.tolist()), float(all_right(row[None], there[None])[0])
        labels = task.labels(label)
    else:
        best = int(row.argmax())
        label, probability = task.classes[best], float(row[best])
    verdict: Verdict | Literal[""] = thresholds.verdict(probability, distance) if thresholds else ""
    return Prediction(name, label, probability, values, verdict, float(distance), warning=warning, labels=labels)
