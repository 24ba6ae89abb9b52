"""LiteRT files as programs for phones read them: the image classifiers of MediaPipe Tasks and, by the same metadata, of
Android."""

from __future__ import annotations

import importlib
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellapart.config import ModelConfig
from tellapart.errors import ExportError
from tellapart.inference.predictor import Metadata
from tellapart.task import ImageSpec, Task

pytest.importorskip("keras")
pytest.importorskip("ai_edge_litert")

from tellapart.inference.export_run import Held, Options, write_export
from tellapart.inference.exports import EXPORTS
from tellapart.models.classifier import Classifier

schema = importlib.import_module("ai_edge_litert.schema_py_generated")

SIDE = 32
TWO, THREE = Task(("cat", "dog")), Task(("cat", 'a "name", with ü', "in\ntwo lines"))
IMAGES = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8)


def exported(
    name: str, task: Task, folder: Path, channels: int = 3, examples: np.ndarray | None = None
) -> tuple[Path, Classifier]:
    spec = ImageSpec(SIDE, SIDE, channels)
    network = Classifier.from_config(task, spec, ModelConfig(name="cnn", filters=[4]))
    path = folder / "model.tflite"
    held = Held(IMAGES[..., :channels], np.zeros(3, np.int64))
    write_export(network, Metadata(task, spec), EXPORTS[name], path, held=held, options=Options(examples))
    return path, network


@pytest.fixture(scope="module", params=[TWO, THREE], ids=["two classes", "three classes"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Classifier, Task]:
    try:
        EXPORTS["mediapipe"].require()
    except ExportError as error:
        pytest.skip(str(error))
    return *exported("mediapipe", request.param, tmp_path_factory.mktemp("litert")), request.param


def test_mediapipe_names_the_classes_and_gives_the_probabilities_of_keras(
    made: tuple[Path, Classifier, Task],
) -> None:
    mediapipe = pytest.importorskip("mediapipe")
    from mediapipe.tasks.python import vision

    path, network, task = made
    said = network.network.predict(IMAGES, verbose=0)
    said = np.hstack([1 - said, said]) if task is TWO else said
    with vision.ImageClassifier.create_from_model_path(str(path)) as classifier:
        for image, expected in zip(IMAGES, said, strict=True):
            given = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=image)
            (head,) = classifier.classify(given).classifications
            found = {category.category_name: category.score for category in head.categories}
            assert head.head_name == "probabilities"
            names = [name.replace("\n", " ") for name in task.classes]
            np.testing.assert_allclose([found[name] for name in names], expected, atol=1e-4)


def test_the_metadata_are_those_of_the_public_schema(made: tuple[Path, Classifier, Task]) -> None:
    tables = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    said = tables.ModelMetadataT.InitFromPackedBuf(described(made[0]))
    (graph,) = said.subgraphMetadata
    (taken,), (given,) = graph.inputTensorMetadata, graph.outputTensorMetadata
    assert taken.content.contentProperties.colorSpace == tables.ColorSpaceType.RGB
    scaling = taken.processUnits[0].options
    assert (list(scaling.mean), list(scaling.std)) == ([0, 0, 0], [1, 1, 1])
    assert (list(taken.stats.min), list(taken.stats.max)) == ([0, 0, 0], [255, 255, 255])
    assert given.associatedFiles[0].name == b"labels.txt"
    assert given.associatedFiles[0].type == tables.AssociatedFileType.TENSOR_AXIS_LABELS
    assert said.minParserVersion == b"1.0.0"


def described(path: Path) -> bytes:
    """The metadata in a file."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    (place,) = (entry.buffer for entry in model.metadata if entry.name == b"TFLITE_METADATA")
    content = bytes(model.buffers[place].data)
    assert content[4:8] == b"M001"
    return content


def test_labels_and_our_record_are_packed_with_the_file(made: tuple[Path, Classifier, Task]) -> None:
    path, _, task = made
    with zipfile.ZipFile(path) as archive:
        assert all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())
        labels = archive.read("labels.txt").decode("utf-8").splitlines()
        record = json.loads(archive.read("tellapart.json"))
    assert labels == [name.replace("\n", " ") for name in task.classes]
    assert Metadata.from_dict(record).task == task


def test_constants_stay_where_a_processor_reads_them_fast(made: tuple[Path, Classifier, Task]) -> None:
    model: Any = schema.Model.GetRootAs(content := made[0].read_bytes())
    whole = np.frombuffer(content, np.uint8).ctypes.data
    buffers = [model.Buffers(place).DataAsNumpy() for place in range(model.BuffersLength())]
    offsets = [data.ctypes.data - whole for data in buffers if isinstance(data, np.ndarray)]
    assert len(offsets) > 5
    assert not [offset for offset in offsets if offset % 16]


def test_grey_images_are_for_other_programs_than_mediapipe(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"takes colour images.*image\.channels=3, or export it to litert"):
        exported("mediapipe", TWO, tmp_path, channels=1)


def test_int8_of_two_classes_keeps_both_probabilities_and_chooses_thresholds(tmp_path: Path) -> None:
    path, _ = exported("mediapipe", TWO, tmp_path, examples=IMAGES)
    said = EXPORTS["mediapipe"].run(path)
    assert said is not None
    np.testing.assert_allclose(said(IMAGES)["probabilities"].sum(axis=1), 1, atol=0.02)
    record = json.loads(path.with_name("model.tflite.json").read_text(encoding="utf-8"))
    assert (record["quantized"], record["answers"]) == ("int8", ["probabilities"])
    right = (said(IMAGES)["probabilities"].argmax(axis=1) == 0).mean()  # all held images are of the first class
    assert record["accuracy"][1]["value"] == pytest.approx(right)
