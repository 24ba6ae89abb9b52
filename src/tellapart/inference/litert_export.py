"""The export formats for phones and embedded devices: `litert` with all outputs, and `mediapipe` with the one that the
image classifiers of MediaPipe Tasks and Android read. Needs the extra `litert`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tellapart.errors import ExportError
from tellapart.inference.export_formats import Answers, ExportFormat, Images, Run, Shipment, every_class
from tellapart.inference.litert_metadata import append_file, describe
from tellapart.inference.predictor import Metadata
from tellapart.models.backend import start_keras
from tellapart.models.classifier import PROBABILITIES
from tellapart.models.quiet import quiet

if TYPE_CHECKING:
    import keras

RECORD = "tellapart.json"
"""Our record among the files that are packed with a network."""


def _write(shipment: Shipment, path: Path) -> None:
    with quiet("absl"):
        shipment.model.export(str(path), format="litert", verbose=False)
    _describe(shipment, path)


def _quantize(shipment: Shipment, path: Path) -> None:
    tensorflow = importlib.import_module("tensorflow")
    examples = shipment.examples
    assert examples is not None
    with quiet("absl"):
        shipment.model.export(
            str(path),
            format="litert",
            verbose=False,
            optimizations=[tensorflow.lite.Optimize.DEFAULT],
            representative_dataset=lambda: ([image[None]] for image in examples),
        )
    _describe(shipment, path)


def _describe(shipment: Shipment, path: Path) -> None:
    if shipment.metadata is not None:
        describe(path, shipment.metadata, RECORD)


def _embed(path: Path, metadata: str) -> None:
    append_file(path, RECORD, metadata)


def _run(path: Path) -> Run:
    interpreter = importlib.import_module("ai_edge_litert.interpreter").Interpreter(str(path))
    signature = next(iter(interpreter.get_signature_list().values()))
    run = interpreter.get_signature_runner()
    taken = signature["inputs"][0]

    def answer(images: Images) -> Answers:
        # Its plan is made for one image.
        rows = [run(**{taken: image[None]}) for image in images]
        return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}

    return answer


def _for_mediapipe(model: keras.Model, metadata: Metadata) -> keras.Model:
    """The network with a single output, the probabilities of all classes: it takes each output for classes of its
    own."""
    if metadata.spec.channels != 3:
        raise ExportError(
            "MediaPipe's image classifier takes colour images, and this network takes grey ones. Train with "
            "--set image.channels=3, or export it to litert."
        )
    said = every_class(model, metadata).output[PROBABILITIES]
    return start_keras().Model(model.input, {PROBABILITIES: said})


LITERT = ExportFormat(
    "litert", ".tflite", "LiteRT", _write, _run, _quantize, _embed,
    needs=("ai_edge_litert", "litert"), by_tensorflow=True,
)  # fmt: skip
MEDIAPIPE = ExportFormat(
    "mediapipe", ".tflite", "LiteRT", _write, _run, _quantize, _embed,
    needs=("ai_edge_litert", "litert"), by_tensorflow=True, adapt=_for_mediapipe, stem="model-mediapipe",
)  # fmt: skip
