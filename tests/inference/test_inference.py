from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellapart.data import pixels
from tellapart.errors import ExportError, SourceError
from tellapart.evaluation.selective_prediction import Thresholds
from tellapart.inference.inputs import find_images
from tellapart.inference.predictor import Metadata, Predictor
from tellapart.models.runtime import open_session
from tellapart.task import ImageSpec, Task

pytest.importorskip("keras")

from tellapart.inference import onnx_export
from tellapart.models.classifier import Calibration, Classifier
from tellapart.models.registry import ARCHITECTURES

SPEC = ImageSpec(24, 24)
THREE = Task(("disc", "square", 'a name, with "quotes" and ü'))


@pytest.fixture(scope="module")
def images(shapes: Path) -> np.ndarray:
    return np.stack([pixels.read(p, SPEC) for p in sorted(shapes.rglob("*.png"))[::4]])


def with_means(made: Classifier) -> Classifier:
    """Random ones, of length 1, for each class."""
    means = np.random.default_rng(0).normal(size=(len(made.task.classes), made.features.width)).astype(np.float32)
    return made.calibrated(Calibration(means=means / np.linalg.norm(means, axis=1, keepdims=True)))


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory, images: np.ndarray) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    model = with_means(Classifier.from_name(THREE, SPEC, "cnn", filters=[4]))
    thresholds = Thresholds(0.9, sure=0.34, unlike=0.9)
    onnx_export.export_onnx(model, Metadata(THREE, SPEC, thresholds, 1.5), path, images)
    return path


@pytest.mark.parametrize("name", [row.name for row in ARCHITECTURES.values() if row.pretrained is None])
@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c")], ids=["binary", "multiclass"])
def test_every_architecture_exports_and_predicts_what_keras_predicts(
    name: str, classes: tuple[str, ...], tmp_path: Path, images: np.ndarray
) -> None:
    task = Task(classes)
    model = with_means(Classifier.from_name(task, SPEC, name, **({"filters": [4]} if name == "cnn" else {})))
    means = model.calibration.means
    difference = onnx_export.export_onnx(model, Metadata(task, SPEC), tmp_path / "model.onnx", images)
    assert difference < 1e-5
    found, distance = Predictor(tmp_path / "model.onnx").answer(images)
    features, _ = model.probe().predict(images, verbose=0)
    # An image that a random network makes nothing of has no direction.
    cosine = (features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)) @ means.T
    np.testing.assert_allclose(distance, 1 - cosine.max(axis=1), atol=1e-5)
    assert found.shape == (len(images), len(classes))
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found[:, -1], model.network.predict(images, verbose=0)[:, -1], atol=1e-5)


def test_the_file_carries_its_task_and_image(onnx_file: Path) -> None:
    predictor = Predictor(onnx_file)
    assert predictor.task == THREE
    assert predictor.spec == SPEC
    assert predictor.metadata == Metadata(THREE, SPEC, Thresholds(0.9, sure=0.34, unlike=0.9), 1.5)


def test_the_verdict_follows_from_the_thresholds_in_the_file(onnx_file: Path, shapes: Path) -> None:
    predictor = Predictor(onnx_file)
    found = list(predictor.predict(sorted(shapes.rglob("*.png"))[:12]))
    assert [p.verdict for p in found] == [
        predictor.metadata.thresholds.verdict(p.probability, p.distance) for p in found
    ]
    assert all(0 <= p.distance <= 2 for p in found)


def test_a_file_without_thresholds_or_similarity_gives_no_verdict(
    tmp_path: Path, images: np.ndarray, shapes: Path
) -> None:
    model = Classifier.from_name(THREE, SPEC, "cnn", filters=[4])
    onnx_export.export_onnx(model, Metadata(THREE, SPEC), tmp_path / "model.onnx", images)
    (found,) = Predictor(tmp_path / "model.onnx").predict([shapes / "disc" / "disc 0.png"])
    assert found.verdict == ""
    assert np.isnan(found.distance)


def test_a_file_that_differs_from_the_network_is_refused_and_the_old_one_stays(
    tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"what stood here before")
    model = Classifier.from_name(THREE, SPEC, "cnn", filters=[4])
    other = Classifier.from_name(THREE, SPEC, "cnn", filters=[4]).graph()
    monkeypatch.setattr(onnx_export, "graph_of", lambda *_: other)
    with pytest.raises(ExportError, match="differs from the trained network"):
        onnx_export.export_onnx(model, Metadata(THREE, SPEC), path, images)
    assert path.read_bytes() == b"what stood here before"
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_a_file_that_gives_no_number_is_refused(
    tmp_path: Path, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, other = (Classifier.from_name(THREE, SPEC, "cnn", filters=[4]) for _ in range(2))
    other.head.last.set_weights([np.full_like(value, np.nan) for value in other.head.last.get_weights()])
    broken = other.graph()
    monkeypatch.setattr(onnx_export, "graph_of", lambda *_: broken)
    with pytest.raises(ExportError, match="differs from the trained network by nan"):
        onnx_export.export_onnx(model, Metadata(THREE, SPEC), tmp_path / "model.onnx", images)
    assert not list(tmp_path.iterdir())


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
    mixed = [paths[0], shapes / "gone.png", *paths[1:5], shapes / "gone" / "too.png", paths[6]]
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


def test_an_image_has_the_same_answer_to_the_bit_in_whatever_company(onnx_file: Path, shapes: Path) -> None:
    paths = sorted(shapes.rglob("*.png"))[:21]
    alone = [found for path in paths for found in Predictor(onnx_file).predict([path])]
    for threads in (1, 2, 3):
        predictor = Predictor(onnx_file, threads=threads)
        for batch_size in (1, 4, 64):
            assert list(predictor.predict(paths, batch_size=batch_size)) == alone


def test_many_images_leave_no_thread_waiting_for_another_and_one_image_gets_them_all(
    onnx_file: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tellapart.inference import predictor as module

    opened: list[int | None] = []

    def opening(path: Path, threads: int | None = None, **options: Any) -> object:
        opened.append(threads)
        return open_session(path, threads, **options)

    monkeypatch.setattr(module, "open_session", opening)
    predictor = Predictor(onnx_file, threads=3, device="cpu")
    paths = sorted(shapes.rglob("*.png"))[:9]
    for chosen in (paths[:2], paths, paths, paths[:1]):
        list(predictor.predict(chosen))
    assert opened == [3, 1, 3]


def test_nothing_to_predict_is_no_error(onnx_file: Path) -> None:
    assert list(Predictor(onnx_file).predict([])) == []


def test_folders_give_their_images_sorted_and_named_as_given(shapes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    (folder / "deep").mkdir(parents=True)
    for name in ("b 10.png", "b 2.png", "deep/a.PNG", ".hidden.png"):
        shutil.copy(shapes / "disc" / "disc 0.png", folder / name)
    (folder / "notes.txt").write_text("no image")
    assert [name for name, _ in find_images([f"{folder}/"])] == [
        f"{folder}/{name}" for name in ("b 2.png", "b 10.png", "deep/a.PNG")
    ]
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no image"):
        list(find_images([tmp_path / "empty"]))
