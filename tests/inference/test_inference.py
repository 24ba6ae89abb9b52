from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tellapart.config import ModelConfig
from tellapart.data import pixels
from tellapart.errors import ExportError, SourceError
from tellapart.inference.pictures import find_pictures
from tellapart.inference.predictor import Predictor
from tellapart.task import ImageSpec, Task

pytest.importorskip("keras")

from tellapart.inference import export
from tellapart.models.build import build
from tellapart.models.pretrained import BASES
from tellapart.models.registry import ARCHITECTURES

SPEC = ImageSpec(24, 24)
THREE = Task(("disc", "square", 'a name, with "quotes" and ü'))


@pytest.fixture(scope="module")
def pictures(shapes: Path) -> np.ndarray:
    return np.stack([pixels.read(p, SPEC) for p in sorted(shapes.rglob("*.png"))[::4]])


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory, pictures: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export.export_onnx(build(THREE, SPEC, ModelConfig(name="cnn", filters=[4])), THREE, SPEC, path, pictures)
    return path


@pytest.mark.parametrize("name", [row.name for row in ARCHITECTURES.values() if row.base is None])
@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c")], ids=["binary", "multiclass"])
def test_every_architecture_exports_and_predicts_what_keras_predicts(
    name: str, classes: tuple[str, ...], tmp_path: Path, pictures: np.ndarray
) -> None:
    task = Task(classes)
    model = build(task, SPEC, ModelConfig(name=name, **({"filters": [4]} if name == "cnn" else {})))
    difference = export.export_onnx(model, task, SPEC, tmp_path / "model.onnx", pictures)
    assert difference < 1e-5
    found = Predictor(tmp_path / "model.onnx").probabilities(pictures)
    assert found.shape == (len(pictures), len(classes))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found[:, -1], model.predict(pictures, verbose=0)[:, -1], atol=1e-5)


@pytest.mark.parametrize(
    "name", [name if name in ("efficientnet-lite0", "resnet-50") else pytest.param(name, marks=pytest.mark.slow)
             for name in BASES],
)  # fmt: skip
def test_every_base_exports_and_predicts_what_keras_predicts(name: str, tmp_path: Path, sensitive) -> None:
    side = BASES[name].smallest
    pictures = np.random.default_rng(0).integers(0, 256, (4, side, side, 3), dtype=np.uint8)
    model = sensitive(build(THREE, ImageSpec(side, side), ModelConfig(name=name)), pictures)
    assert export.export_onnx(model, THREE, ImageSpec(side, side), tmp_path / "model.onnx", pictures) < 1e-4


def test_the_file_carries_its_task_and_picture(onnx_file: Path) -> None:
    predictor = Predictor(onnx_file)
    assert predictor.task == THREE
    assert predictor.spec == SPEC


def test_a_file_that_differs_from_the_network_is_refused_and_the_old_one_stays(
    tmp_path: Path, pictures: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"what stood here before")
    model = build(THREE, SPEC, ModelConfig(name="cnn", filters=[4]))
    other = export.convert(build(THREE, SPEC, ModelConfig(name="cnn", filters=[4])))
    monkeypatch.setattr(export, "convert", lambda _: other)
    with pytest.raises(ExportError, match="differs from the trained network"):
        export.export_onnx(model, THREE, SPEC, path, pictures)
    assert path.read_bytes() == b"what stood here before"
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_a_file_that_is_no_model_and_a_model_of_others_are_told_apart(tmp_path: Path, onnx_file: Path) -> None:
    import onnx

    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ExportError, match="cannot be read as an ONNX model"):
        Predictor(tmp_path / "text.onnx")
    graph = onnx.load(onnx_file)
    del graph.metadata_props[:]
    onnx.save(graph, tmp_path / "plain.onnx")
    with pytest.raises(ExportError, match="tellapart did not write it"):
        Predictor(tmp_path / "plain.onnx")


def test_predicting_follows_the_one_road_to_pixels(onnx_file: Path, shapes: Path) -> None:
    predictor = Predictor(onnx_file)
    path = shapes / "disc" / "disc 0.png"
    expected = predictor.probabilities(pixels.read(path, SPEC)[None])[0]
    (found,) = predictor.predict([path])
    np.testing.assert_allclose(list(found.probabilities.values()), expected, rtol=1e-6)
    assert found.label == THREE.classes[int(expected.argmax())]
    assert found.probability == max(found.probabilities.values())
    assert found.top(2)[0] == (found.label, found.probability)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_order_and_errors_are_kept_whatever_the_batch(onnx_file: Path, shapes: Path, batch_size: int) -> None:
    paths: list[Path] = sorted(shapes.rglob("*.png"))[:7]
    mixed = [paths[0], shapes / "gone.png", *paths[1:5], shapes, paths[6]]
    found = list(Predictor(onnx_file).predict(mixed, batch_size=batch_size))
    assert [p.path for p in found] == [str(path) for path in mixed]
    assert [bool(p.error) for p in found] == [False, True, False, False, False, False, True, False]
    assert np.isnan(found[1].probability)
    assert found[1].label == ""


def test_an_endless_stream_is_read_only_as_far_as_is_asked(onnx_file: Path, shapes: Path) -> None:
    path = shapes / "disc" / "disc 0.png"
    drawn = 0

    def endless() -> Iterator[Path]:
        nonlocal drawn
        while True:
            drawn += 1
            yield path

    stream = Predictor(onnx_file, threads=1).predict(endless(), batch_size=4)
    for _ in range(100):
        assert not next(stream).error
    assert drawn <= 100 + 4 * 5
    stream.close()  # type: ignore[attr-defined]


def test_nothing_to_predict_is_no_error(onnx_file: Path) -> None:
    assert list(Predictor(onnx_file).predict([])) == []


def test_folders_give_their_pictures_sorted_and_named_as_given(shapes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    (folder / "deep").mkdir(parents=True)
    for name in ("b 10.png", "b 2.png", "deep/a.PNG", ".hidden.png"):
        shutil.copy(shapes / "disc" / "disc 0.png", folder / name)
    (folder / "notes.txt").write_text("no picture")
    assert [name for name, _ in find_pictures([f"{folder}/"])] == [
        f"{folder}/{name}" for name in ("b 2.png", "b 10.png", "deep/a.PNG")
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no picture"):
        list(find_pictures([tmp_path / "empty"]))
