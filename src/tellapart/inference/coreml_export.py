"""The export format `coreml`: an ML program for iPhone, iPad and Mac, as a classifier with class names, which Apple's
Vision reads. Needs the extra `coreml`.

It is written on Linux too, where Core ML does not run: there its structure is read back, and it is compared with the
trained network on a Mac alone.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tellapart.errors import ExportError
from tellapart.inference.export_formats import Answers, ExportFormat, Images, Run, Shipment, every_class
from tellapart.models.backend import start_keras
from tellapart.models.classifier import PROBABILITIES
from tellapart.models.quiet import quiet

if TYPE_CHECKING:
    import keras

IMAGE, LABEL = "image", "label"
RECORD = "tellapart"
"""The key of our record among the model's metadata."""


def _write(shipment: Shipment, path: Path) -> None:
    tensorflow = importlib.import_module("tensorflow")
    assert shipment.metadata is not None
    spec, classes = shipment.metadata.spec, list(shipment.metadata.task.classes)
    network = _of_floats(shipment.model)
    shape = (1, *spec.shape)
    taken = tensorflow.TensorSpec(shape, tensorflow.float32, name=IMAGE)
    with quiet("root", errors=True):
        tools = _coremltools()
        traced = tensorflow.function(lambda image: network(image, training=False), input_signature=[taken])
        concrete = traced.get_concrete_function()
        names = {name: tensor.op.name for name, tensor in concrete.structured_outputs.items()}
        model = tools.convert(
            [concrete],
            source="tensorflow",
            convert_to="mlprogram",
            inputs=[tools.ImageType(name=IMAGE, shape=shape, color_layout="RGB" if spec.channels == 3 else "G")],
            classifier_config=tools.ClassifierConfig(classes, LABEL, names[PROBABILITIES]),
            compute_precision=tools.precision.FLOAT32,
            minimum_deployment_target=tools.target.iOS15,
            skip_model_load=True,
        )
        described = model.get_spec()
        names[PROBABILITIES] = described.description.predictedProbabilitiesName
        for ours, theirs in names.items():
            tools.utils.rename_feature(described, theirs, ours)
        described.description.metadata.shortDescription = shipment.metadata.to_dict()["input"]
        tools.models.MLModel(described, weights_dir=model.weights_dir, skip_model_load=True).save(str(path))


def _of_floats(model: keras.Model) -> keras.Model:
    """The same layers on float32 images, 0..255: Core ML has no uint8."""
    keras = start_keras()
    image = keras.Input(model.input.shape[1:], dtype="float32", name=IMAGE)
    return keras.models.clone_model(model, input_tensors=image, clone_function=lambda layer: layer)


def _embed(path: Path, metadata: str) -> None:
    program = path / "Data/com.apple.CoreML/model.mlmodel"
    with quiet("root", errors=True):
        described = _coremltools().utils.load_spec(str(path))
    described.description.metadata.userDefined[RECORD] = metadata
    program.unlink()  # coremltools writes it for its owner alone
    program.write_bytes(described.SerializeToString())


def _run(path: Path) -> Run | None:
    """On a Mac; elsewhere None, after its structure was read."""
    with quiet("root", errors=True):
        tools = _coremltools()
        here = platform.system() == "Darwin"
        model = tools.models.MLModel(str(path), skip_model_load=not here)
    described = model.get_spec().description
    (image,) = described.input
    names = list(class_names(model.get_spec()))
    outputs = {output.name for output in described.output}
    if image.type.WhichOneof("Type") != "imageType" or not {LABEL, PROBABILITIES} < {*outputs} or not names:
        raise ExportError(f"it is no classifier of images: it takes {image.name} and gives {', '.join(outputs)}")
    return _predicting(model, names) if here else None


def class_names(spec: Any) -> Sequence[str]:
    """The class names in the program of a classifier, in order."""
    main = spec.mlProgram.functions["main"]
    operations = main.block_specializations[main.opset].operations
    classify = next(each for each in operations if each.type == "classify")
    named = classify.inputs["classes"].arguments[0]
    if named.WhichOneof("binding") == "name":
        constant = next(each for each in operations if any(given.name == named.name for given in each.outputs))
        value = constant.attributes["val"]
    else:
        value = named.value
    return [name for each in value.immediateValue.list.values for name in each.immediateValue.tensor.strings.values]


def _predicting(model: Any, names: Sequence[str]) -> Run:
    def answer(images: Images) -> Answers:
        rows = []
        for image in images:
            said = model.predict({IMAGE: Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)})
            said.pop(LABEL)
            by_class = said.pop(PROBABILITIES)
            said[PROBABILITIES] = np.asarray([[by_class[name] for name in names]], np.float32)
            rows.append(said)
        return {name: np.concatenate([np.asarray(row[name], np.float32) for row in rows]) for name in rows[0]}

    return answer


def _coremltools() -> Any:
    return importlib.import_module("coremltools")


COREML = ExportFormat(
    "coreml", ".mlpackage", "Core ML", _write, _run, embed=_embed, needs=("coremltools", "coreml"), by_tensorflow=True,
    adapt=every_class,
)  # fmt: skip
