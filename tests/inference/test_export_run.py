"""Every format of the table: written, run in its own runtime, compared, and refused where it differs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tellapart as ta
from tellapart.config import ModelConfig
from tellapart.errors import ExportError, MissingExtraError
from tellapart.evaluation.selective_prediction import Thresholds
from tellapart.inference.predictor import Metadata, Predictor
from tellapart.task import ImageSpec, Task

pytest.importorskip("keras")

from tellapart.inference import export_formats, export_run
from tellapart.inference.export_run import Held
from tellapart.inference.exports import EXPORTS
from tellapart.models.classifier import Calibration, Classifier
from tellapart.models.pretrained import PRETRAINED

# Elsewhere its structure is checked alone, in test_coreml_export.py.
FORMATS = [name for name in EXPORTS if name != "coreml" or sys.platform == "darwin"]
CLASSES = Task(("cat", "dog", 'a "name", with ü'))
SIDE = 32


def network(name: str, side: int = SIDE) -> Classifier:
    """With random weights, and random class means of length 1."""
    made = Classifier.from_config(
        CLASSES, ImageSpec(side, side), ModelConfig(name=name, **({"filters": [4]} if name == "cnn" else {}))
    )
    means = np.random.default_rng(0).normal(size=(3, made.features.width)).astype(np.float32)
    return made.calibrated(Calibration(1.5, means / np.linalg.norm(means, axis=1, keepdims=True)))


def held(side: int = SIDE, count: int = 5) -> Held:
    generator = np.random.default_rng(1)
    return Held(generator.integers(0, 256, (count, side, side, 3), np.uint8), generator.integers(0, 3, count))


def metadata(side: int = SIDE) -> Metadata:
    return Metadata(CLASSES, ImageSpec(side, side), Thresholds(0.99, 0.8, 0.7), 1.5)


def path_of(folder: Path, name: str) -> Path:
    return folder / f"model{EXPORTS[name].suffix}"


@pytest.fixture(autouse=True)
def runtimes(request: pytest.FixtureRequest) -> None:
    """Skips a format whose runtime is not installed."""
    name = getattr(request.node, "callspec", None) and request.node.callspec.params.get("name")
    if name in EXPORTS:
        try:
            EXPORTS[name].require()
        except MissingExtraError as error:
            pytest.skip(str(error))


@pytest.mark.parametrize("name", FORMATS)
def test_a_format_answers_in_its_own_runtime_what_keras_answers_and_says_how_it_was_checked(
    name: str, tmp_path: Path
) -> None:
    model = network("cnn")
    path = path_of(tmp_path, name)
    made = export_run.write_export(model, metadata(), EXPORTS[name], path, held=held())
    assert made.difference < 1e-4
    answers = EXPORTS[name].run(path)(held().images)
    np.testing.assert_allclose(answers["probabilities"], model.network.predict(held().images, verbose=0), atol=1e-4)
    assert set(answers) == {"probabilities"} if name == "mediapipe" else answers["similarity"].shape == (5, 3)
    record = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
    assert (record["difference"], record["bound"], record["images"]) == (made.difference, 1e-3, 5)
    assert Metadata.from_dict(record) == metadata()
    assert record["bytes"] > 1000
    # Nothing else is left in the folder.
    expected = {path.name, f"{path.name}.json"} | ({"model.bin"} if name == "openvino" else set())
    assert {found.name for found in tmp_path.iterdir()} == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in FORMATS if name not in ("onnx", "web", "mlflow", "mediapipe")])
@pytest.mark.parametrize("row", ["dense", "resnet-small", "efficientnet-lite0"])
def test_networks_of_every_kind_go_into_every_format(row: str, name: str, tmp_path: Path) -> None:
    side = max(SIDE, PRETRAINED[row].smallest) if row in PRETRAINED else SIDE
    model = network(row, side)
    made = export_run.write_export(model, metadata(side), EXPORTS[name], path_of(tmp_path, name), held=held(side))
    assert made.difference < 1e-4


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_differs_is_not_written_and_what_stood_there_stays(name: str, tmp_path: Path) -> None:
    model, other = (network("cnn").calibrated(Calibration()) for _ in range(2))
    write = EXPORTS[name].write

    def write_another(_: export_formats.Shipment, path: Path) -> None:
        named = export_run.start_keras().Model(other.backbone.image, {"probabilities": other.head.output})
        write(export_formats.Shipment(named, ("probabilities",)), path)

    path = path_of(tmp_path, name)
    path.mkdir() if name == "saved-model" else path.write_bytes(b"what stood here")
    with pytest.raises(ExportError, match="differs from the trained network"):
        export_run.write_export(model, metadata(), replace(EXPORTS[name], write=write_another), path, held=held())
    assert path.is_dir() if name == "saved-model" else path.read_bytes() == b"what stood here"
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_file_that_lacks_an_answer_or_gives_no_number_is_refused() -> None:
    from tellapart.inference.onnx_export import differences

    theirs = {"probabilities": np.ones((2, 1), np.float32), "similarity": np.zeros((2, 3), np.float32)}
    with pytest.raises(ExportError, match="has no output similarity"):
        differences({"probabilities": theirs["probabilities"]}, theirs)
    with pytest.raises(ExportError, match="has no output probabilities"):
        differences({**theirs, "probabilities": np.ones((1, 1), np.float32)}, theirs)
    assert not differences({**theirs, "similarity": np.full((2, 3), np.nan, np.float32)}, theirs) < 1e9


def test_the_worst_of_all_answers_is_what_counts() -> None:
    from tellapart.inference.onnx_export import differences

    theirs = {name: np.full((3, 2), 0.5, np.float32) for name in ("probabilities", "similarity", "class_activation")}
    assert differences(theirs, theirs) == 0
    for name, expected in (("probabilities", 0.25), ("similarity", 0.25), ("class_activation", 0.5)):
        ours = theirs[name].copy()
        ours[2, 1] -= 0.25
        assert differences({**theirs, name: ours}, theirs) == expected, name


def test_a_runtime_that_cannot_open_the_file_refuses_it(tmp_path: Path) -> None:
    model = network("cnn")

    def write_nothing(_: export_formats.Shipment, path: Path) -> None:
        path.write_bytes(b"no network")

    row = replace(EXPORTS["onnx"], write=write_nothing)
    with pytest.raises(ExportError, match="does not run in ONNX Runtime"):
        export_run.write_export(model, metadata(), row, tmp_path / "model.onnx", held=held())
    assert not list(tmp_path.iterdir())


def test_an_exported_onnx_file_predicts_as_the_file_of_the_run(tmp_path: Path) -> None:
    model = network("cnn")
    export_run.write_export(model, metadata(), EXPORTS["onnx"], tmp_path / "model.onnx", held=held())
    predictor = Predictor(tmp_path / "model.onnx")
    assert predictor.metadata == metadata()
    assert not np.isnan(predictor.answer(held().images)[1]).any()


def test_openvino_carries_the_metadata_inside(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    model = network("cnn")
    path = tmp_path / "model.xml"
    export_run.write_export(model, metadata(), EXPORTS["openvino"], path, held=held())
    found = openvino.Core().read_model(str(path)).get_rt_info("tellapart").astype(str)
    assert Metadata.from_dict(json.loads(found)) == metadata()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, row in EXPORTS.items() if row.quantize])
def test_int8_is_smaller_tells_the_accuracy_before_and_after_and_has_thresholds_of_its_own(
    name: str, shapes: Path, tmp_path: Path
) -> None:
    settings = ["model.name=cnn", "image.height=32", "image.width=32", "model.filters=[8]", "model.dense=[256]"]
    config = ta.make_config(settings=[*settings, "train.epochs=8", "train.learning_rate=0.003"])
    run = ta.train(shapes, out=tmp_path / "run", config=config)
    plain = ta.export(run.path, name, out=path_of(tmp_path / "plain", name))
    made = ta.export(run.path, name, quantize="int8")
    assert made.path.parent == run.exports
    assert made.bytes < 0.5 * plain.bytes
    assert made.quantized == "int8"
    assert made.accuracy is not None
    before, after = made.accuracy
    assert before.value == pytest.approx(run.evaluate(split="validation").accuracy.value)
    assert abs(after.value - before.value) <= 0.25
    record = json.loads(made.path.with_name(f"{made.path.name}.json").read_text(encoding="utf-8"))
    assert record["accuracy"][1]["value"] == after.value
    assert record["thresholds"]["target"] == 0.99


@pytest.fixture(scope="module")
def run(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> ta.Run:
    settings = ["model.name=cnn", "image.height=24", "image.width=24", "model.filters=[4]", "train.epochs=1"]
    folder = tmp_path_factory.mktemp("run")
    return ta.train(shapes, out=folder / "run", config=ta.make_config(settings=settings))


def test_wrong_requests_say_what_would_be_right(run: ta.Run, tmp_path: Path) -> None:
    wrong: list[tuple[str, Callable[[], Any]]] = [
        ("Did you mean 'onnx'", lambda: ta.export(run.path, "onx")),
        ("no quantization 'int4'", lambda: ta.export(run.path, "onnx", quantize="int4")),
        (
            "cannot be quantized. Formats with --quantize int8: onnx",
            lambda: ta.export(run.path, "keras", quantize="int8"),
        ),
        ("must end in .onnx", lambda: ta.export(run.path, "onnx", out=tmp_path / "model.bin")),
    ]
    for message, request in wrong:
        with pytest.raises(ExportError, match=message):
            request()


def test_a_run_whose_images_are_gone_is_compared_on_those_of_the_package(run: ta.Run, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "run"
    shutil.copytree(run.path, copy)
    record = json.loads((copy / "run.json").read_text(encoding="utf-8"))
    (copy / "run.json").write_text(json.dumps({**record, "data": str(tmp_path / "gone")}), encoding="utf-8")
    made = ta.export(copy, "onnx")
    assert made.images == 16
    assert made.path == copy / "exports" / "model.onnx"
    with pytest.raises(ExportError, match="Restore them at"):
        ta.export(copy, "onnx", quantize="int8")
