"""Core ML packages: their structure everywhere, and their outputs, in test_export_run.py, on a Mac."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import numpy as np
import pytest

from tellapart.config import ModelConfig
from tellapart.errors import ExportError
from tellapart.inference.predictor import Metadata
from tellapart.task import ImageSpec, Task

pytest.importorskip("keras")
pytest.importorskip("coremltools")

from tellapart.inference import coreml_export
from tellapart.inference.export_run import Export, Held, write_export
from tellapart.inference.exports import EXPORTS
from tellapart.models.classifier import Calibration, Classifier

coremltools = importlib.import_module("coremltools")

TASK, SPEC = Task(("cat", 'a "dog", with ü')), ImageSpec(32, 24, 1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Export:
    network = Classifier.from_config(TASK, SPEC, ModelConfig(name="cnn", filters=[4]))
    means = np.eye(2, network.features.width, dtype=np.float32)
    held = Held(np.zeros((1, *SPEC.shape), np.uint8), np.zeros(1, np.int64))
    path = tmp_path_factory.mktemp("coreml") / "model.mlpackage"
    return write_export(
        network.calibrated(Calibration(1.0, means)), Metadata(TASK, SPEC), EXPORTS["coreml"], path, held=held
    )


def test_a_package_is_a_classifier_of_images_with_the_names_of_the_classes(made: Export) -> None:
    spec = coremltools.utils.load_spec(str(made.path))
    (image,) = spec.description.input
    taken = image.type.imageType
    assert (taken.height, taken.width) == (32, 24)
    assert taken.ColorSpace.Name(taken.colorSpace) == "GRAYSCALE"
    assert spec.description.predictedFeatureName == "label"
    assert spec.description.predictedProbabilitiesName == "probabilities"
    assert {output.name for output in spec.description.output} == {"label", "probabilities", "similarity"}
    assert list(coreml_export.class_names(spec)) == list(TASK.classes)
    record = json.loads(spec.description.metadata.userDefined["tellapart"])
    assert Metadata.from_dict(record) == Metadata(TASK, SPEC)
    assert record["outputs"]["probabilities"].startswith("float32 (n, 2)")


@pytest.mark.skipif("sys.platform == 'darwin'", reason="Core ML runs here")
def test_the_record_says_that_nothing_was_compared_where_core_ml_does_not_run(made: Export) -> None:
    record = json.loads(made.path.with_name("model.mlpackage.json").read_text(encoding="utf-8"))
    assert (made.difference, record["difference"], record["images"]) == (None, None, 0)


def test_a_package_that_is_no_classifier_is_refused(made: Export, tmp_path: Path) -> None:
    spec = coremltools.utils.load_spec(str(made.path))
    coremltools.utils.rename_feature(spec, "probabilities", "something")
    program = made.path / "Data/com.apple.CoreML/weights"
    other = coremltools.models.MLModel(spec, weights_dir=str(program), skip_model_load=True)
    other.save(str(tmp_path / "other.mlpackage"))
    with pytest.raises(ExportError, match="it is no classifier of images: it takes image and gives"):
        coreml_export.COREML.run(tmp_path / "other.mlpackage")
