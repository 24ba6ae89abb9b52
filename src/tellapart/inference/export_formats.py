"""The built-in export formats, rows of inference.exports: how each is written, and how its own runtime runs it.

Every file has the outputs of models.classifier under their names and takes uint8 images. Needs the runtime of the
format and, where it is not made of the ONNX file of a network that Keras took no part in, the extra `train`.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ExportError, require_extra
from tellapart.inference.exports import EXPORTS
from tellapart.inference.predictor import METADATA_KEY, Metadata
from tellapart.models import quantize
from tellapart.models.backend import backend_name, start_keras
from tellapart.models.classifier import PROBABILITIES
from tellapart.models.keras_file import open_keras
from tellapart.models.onnx_by_keras import graph_of
from tellapart.models.onnx_file import entry
from tellapart.models.openvino_runtime import openvino_module
from tellapart.models.quiet import quiet
from tellapart.models.runtime import open_session

if TYPE_CHECKING:
    import keras

Images = NDArray[np.uint8]
Answers = dict[str, NDArray[np.float32]]
Run = Callable[[Images], Answers]


@dataclass(frozen=True)
class Shipment:
    """What is exported. model: image -> outputs by name, as a dictionary. names: of the outputs, in order. examples:
    training images for calibrating quantized ranges. runtime: a folder with the runtime, for formats that bring it.
    metadata: classes and image size. write_onnx: writes the ONNX file of a network that Keras took no part in, which
    has no `model`; only formats that are made of that file get one."""

    model: keras.Model
    names: tuple[str, ...]
    examples: Images | None = None
    runtime: Path | None = None
    metadata: Metadata | None = None
    write_onnx: Callable[[Path], None] | None = None


@dataclass(frozen=True)
class ExportFormat:
    """suffix: of the file, empty for a folder. write: writes to a path that does not exist yet. run: opens the written
    file; None where its structure is right, and its runtime is not for this system.

    quantize: writes it with int8 arithmetic, or None. embed: stores the metadata, as JSON, in the written file, if the
    format has a place for it. needs: the module and the extra of the runtime, if it has one. by_tensorflow: whether
    only the TensorFlow backend of Keras can write it. of_onnx: whether it is made of the ONNX file, so that a network
    that Keras took no part in needs no Keras. adapt: network and classes -> the network as the format has it, if it
    holds less. finish: adds the record of the check to what was written and checked. takes_runtime: whether it can
    bring its runtime, from a folder. stem: of the name that a file gets unless another is given.
    """

    name: str
    suffix: str
    runtime: str
    write: Callable[[Shipment, Path], None]
    run: Callable[[Path], Run | None]
    quantize: Callable[[Shipment, Path], None] | None = None
    embed: Callable[[Path, str], None] | None = None
    needs: tuple[str, str] | None = None
    by_tensorflow: bool = False
    of_onnx: bool = False
    adapt: Callable[[keras.Model, Metadata], keras.Model] | None = None
    finish: Callable[[Path, dict[str, Any]], None] | None = None
    takes_runtime: bool = False
    stem: str = "model"

    def require(self) -> None:
        """Raises MissingExtraError if the runtime is not installed, ExportError if Keras uses a backend that cannot
        write it."""
        if self.needs is not None:
            require_extra(f"The format {self.name}", self.needs[1], self.needs[0])
        if self.by_tensorflow and backend_name() != "tensorflow":
            raise ExportError(
                f"The format {self.name} is written by TensorFlow, but Keras uses {backend_name()} here. "
                "Install tellapart[train] and run the command with KERAS_BACKEND=tensorflow."
            )


def _write_onnx(shipment: Shipment, path: Path) -> None:
    if shipment.write_onnx is not None:
        shipment.write_onnx(path)
        return
    import onnx

    listed = start_keras().Model(shipment.model.input, [shipment.model.output[name] for name in shipment.names])
    onnx.save(graph_of(listed, shipment.names), str(path))


def _embed_onnx(path: Path, metadata: str) -> None:
    # Two messages, one after the other, are one with the fields of both.
    with path.open("ab") as file:
        file.write(entry(METADATA_KEY, metadata))


def _quantize_onnx(shipment: Shipment, path: Path) -> None:
    import onnx

    assert shipment.examples is not None
    with tempfile.TemporaryDirectory() as folder:
        _write_onnx(shipment, plain := Path(folder) / "plain.onnx")
        graph = onnx.load(str(plain))
    quantize.put_entries(graph, {})  # they name values that are other ones then
    quantize.int8(graph, shipment.examples, path)


def _run_onnx(path: Path) -> Run:
    session = open_session(path)
    taken, given = session.get_inputs()[0].name, [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(given, session.run(None, {taken: images}), strict=True))


def _write_saved_model(shipment: Shipment, path: Path) -> None:
    with quiet("absl"):
        shipment.model.export(str(path), format="tf_saved_model", verbose=False)


def _run_saved_model(path: Path) -> Run:
    tensorflow = importlib.import_module("tensorflow")
    loaded = tensorflow.saved_model.load(str(path))

    def answer(images: Images) -> Answers:
        return _arrays(loaded.serve(images))

    # It refers to data in `loaded`, which must stay alive as long.
    return answer


def _write_keras(shipment: Shipment, path: Path) -> None:
    shipment.model.save(path)


def _run_keras(path: Path) -> Run:
    model = open_keras(path)
    return lambda images: _arrays(model(images, training=False))


def _write_openvino(shipment: Shipment, path: Path) -> None:
    openvino = openvino_module()
    with tempfile.TemporaryDirectory() as folder, quiet("absl"):
        plain = Path(folder) / "model.onnx"
        _write_onnx(shipment, plain)
        openvino.save_model(openvino.convert_model(str(plain)), str(path), compress_to_fp16=False)


def _embed_openvino(path: Path, metadata: str) -> None:
    openvino = openvino_module()
    model = openvino.Core().read_model(str(path))
    model.set_rt_info(metadata, METADATA_KEY)
    with tempfile.TemporaryDirectory() as folder:
        # The input stays open until it is written.
        openvino.save_model(model, str(Path(folder) / path.name), compress_to_fp16=False)
        del model
        for suffix in (".xml", ".bin"):
            shutil.copyfile((Path(folder) / path.name).with_suffix(suffix), path.with_suffix(suffix))


def _run_openvino(path: Path) -> Run:
    openvino = openvino_module()
    # On processors with bfloat16 it would otherwise compute in bfloat16.
    model = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda images: {port.any_name: np.asarray(given) for port, given in model(images).items()}


def _arrays(tensors: Mapping[str, Any]) -> Answers:
    return {name: np.asarray(given, np.float32) for name, given in tensors.items()}


ONNX = ExportFormat("onnx", ".onnx", "ONNX Runtime", _write_onnx, _run_onnx, _quantize_onnx, _embed_onnx, of_onnx=True)
SAVED_MODEL = ExportFormat("saved-model", "", "TensorFlow", _write_saved_model, _run_saved_model, by_tensorflow=True)
OPENVINO = ExportFormat(
    "openvino", ".xml", "OpenVINO", _write_openvino, _run_openvino, embed=_embed_openvino,
    needs=("openvino", "openvino"), of_onnx=True,
)  # fmt: skip
KERAS = ExportFormat("keras", ".keras", "Keras", _write_keras, _run_keras)


def every_class(model: keras.Model, metadata: Metadata) -> keras.Model:
    """The network with the probabilities of all classes, (n, classes), also of two; the other outputs stay."""
    if metadata.task.kind != "binary":
        return model
    keras = start_keras()
    said = model.output[PROBABILITIES]
    both = keras.ops.concatenate([1.0 - said, said], axis=-1)
    return keras.Model(model.input, {**model.output, PROBABILITIES: both})


def require_quantizable(row: ExportFormat) -> None:
    """Raises ExportError for a format without int8 support here, MissingExtraError without what quantizes."""
    if row.quantize is None:
        able = ", ".join(other.name for other in EXPORTS.values() if other.quantize)
        raise ExportError(f"The format {row.name} cannot be quantized. Formats with --quantize int8: {able}.")
    if row.of_onnx:
        require_extra("int8", "int8", "onnx")
