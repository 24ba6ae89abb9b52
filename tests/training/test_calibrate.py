"""Calibration and verdicts of whole runs: what training leaves in every file."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

import tellapart as ta
from tellapart.config import ModelConfig
from tellapart.data.batches import Images
from tellapart.data.sources import open_row
from tellapart.task import ImageSpec, Task

pytest.importorskip("keras")

from tellapart.models.classifier import Calibration, Classifier
from tellapart.training import calibrate as calibrating
from tellapart.training.calibrate import calibrate, calibrate_head
from tellapart.training.head import Examples

CNN = ("model.name=cnn", "image.height=24", "image.width=24", "model.filters=[8]", "model.dense=[8]", "train.epochs=3")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ta.Run]:
    """The default run on the real images of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLAPART_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield ta.train("builtin:pets", out=tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def others() -> ModuleType:
    spec = importlib.util.spec_from_file_location("others", Path(__file__).parents[1] / "others.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def encoded(images: Iterator[np.ndarray]) -> Iterator[tuple[str, bytes]]:
    for number, pixels in enumerate(images):
        yield str(number), cv2.imencode(".png", pixels)[1].tobytes()


def test_textures_and_drawings_are_unlike_and_the_test_images_are_not(run: ta.Run, others: ModuleType) -> None:
    predictor = run.predictor()
    for made in (others.textures(40), others.drawings(40)):
        verdicts = [found.verdict for found in predictor.predict_named(encoded(made))]
        assert verdicts.count("unlike") >= 36
    held = run.metrics["test"]
    assert held["verdicts"]["unlike"]["n"] <= 0.05 * held["n"]


def test_the_sure_are_right_and_the_predictions_of_the_test_split_say_so(run: ta.Run) -> None:
    with run.predictions_file.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    counted = {verdict: sum(row["verdict"] == verdict for row in rows) for verdict in ("sure", "unsure", "unlike")}
    held = run.metrics["test"]
    assert counted == {verdict: found["n"] for verdict, found in held["verdicts"].items()}
    assert sum(counted.values()) == held["n"]
    assert held["verdicts"]["sure"]["accuracy"]["value"] >= held["accuracy"]["value"]


def test_every_way_of_predicting_gives_the_same_verdict(run: ta.Run) -> None:
    chosen = run.catalog.split("test").images[:12]
    with run.predictions_file.open(encoding="utf-8", newline="") as file:
        written = {row["path"]: row for row in csv.DictReader(file)}
    for image, found in zip(chosen, run.predict([run.catalog.root / p.path for p in chosen]), strict=True):
        assert found.verdict == written[image.path]["verdict"]
        assert found.distance == pytest.approx(float(written[image.path]["distance"]), abs=1e-3)


def test_the_thresholds_travel_inside_the_file(run: ta.Run) -> None:
    metadata = run.predictor().metadata
    assert metadata.thresholds is not None
    assert metadata.thresholds.target == 0.99
    assert run.record.calibration["thresholds"] == metadata.thresholds.to_dict()
    assert run.record.calibration["temperature"] == metadata.temperature


def test_another_target_makes_another_threshold(shapes: Path, tmp_path: Path) -> None:
    targets = []
    for number, target in enumerate((0.4, 0.99)):
        config = ta.make_config(settings=[*CNN, f"train.sure_accuracy={target}"])
        made = ta.train(shapes, out=tmp_path / str(number), config=config)
        targets.append(made.record.calibration["thresholds"]["sure"])
    assert targets[0] < targets[1]


def catalog_of(shapes: Path, side: int = 24) -> tuple[ta.Catalog, dict[str, Images], dict[str, np.ndarray]]:
    catalog = ta.read(shapes)
    splits = {split: catalog.split(split) for split in ("train", "validation")}
    spec = ImageSpec(side, side)
    images = {name: Images(part.root, part.images, spec, open_row=open_row) for name, part in splits.items()}
    return catalog, images, {name: part.class_indices() for name, part in splits.items()}


def test_calibration_divides_the_logits_and_changes_no_answer(shapes: Path) -> None:
    catalog, images, labels = catalog_of(shapes)
    model = Classifier.from_name(catalog.task, ImageSpec(24, 24), "cnn", filters=[8], dense=[8])
    held = images["validation"].take(np.arange(9))
    before = model.network.predict(held, verbose=0)
    found = calibrate(model, images, labels, 0.9)
    after = model.network.predict(held, verbose=0)
    np.testing.assert_array_equal(before.argmax(axis=1), after.argmax(axis=1))
    ratio = np.log(before[:, 0] / before[:, 1]) / np.log(after[:, 0] / after[:, 1])
    np.testing.assert_allclose(ratio, found.calibration.temperature, rtol=0.02)
    means = found.calibration.means
    assert means.shape == (3, 8)
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 1, rtol=1e-5)


def test_calibration_divides_the_logits_whatever_the_bias(shapes: Path) -> None:
    catalog, images, labels = catalog_of(shapes)
    model = Classifier.from_name(catalog.task, ImageSpec(24, 24), "cnn", filters=[8], dense=[8])
    kernel, _ = model.head.last.get_weights()
    model.head.last.set_weights([kernel, np.array([2.0, -1.0, 0.5], np.float32)])
    held = images["validation"].take(np.arange(9))
    before = np.log(model.network.predict(held, verbose=0))
    found = calibrate(model, images, labels, 0.9)
    after = np.log(model.network.predict(held, verbose=0))
    assert abs(np.log(found.calibration.temperature)) > 0.05, "the case is of no use without a temperature"
    odds = (before - before[:, :1])[:, 1:], (after - after[:, :1])[:, 1:]
    np.testing.assert_allclose(odds[0] / found.calibration.temperature, odds[1], rtol=1e-3, atol=1e-4)


def test_a_network_without_narrow_features_tells_no_distance(shapes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog, images, labels = catalog_of(shapes)
    monkeypatch.setattr(calibrating, "WIDEST", 100)
    model = Classifier.from_name(catalog.task, ImageSpec(24, 24), "cnn", filters=[8], dense=[])
    found = calibrate(model, images, labels, 0.9)
    assert found.calibration.means is None
    assert found.thresholds.unlike is None


def test_a_head_is_calibrated_from_features_as_the_whole_network_is_from_images(shapes: Path) -> None:
    catalog, sets, labels = catalog_of(shapes, 32)
    config = ModelConfig(name="efficientnet-lite0", dense=[6])
    whole, head = (Classifier.from_config(catalog.task, ImageSpec(32, 32), config) for _ in range(2))
    head.network.set_weights(whole.network.get_weights())
    pretrained = whole.features_network()
    examples = {
        name: Examples(pretrained.predict(part.take(np.arange(len(part))), verbose=0).astype(np.float32), labels[name])
        for name, part in sets.items()
    }
    one = calibrate(whole, sets, labels, 0.9)
    other = calibrate_head(head, examples["train"], examples["validation"], 0.9)
    assert one.calibration.temperature == pytest.approx(other.calibration.temperature, rel=1e-3)
    np.testing.assert_allclose(one.calibration.means, other.calibration.means, atol=1e-4)
    assert one.calibration.weight == pytest.approx(other.calibration.weight, rel=1e-3)
    assert one.thresholds.unlike == pytest.approx(other.thresholds.unlike, abs=1e-4)


@pytest.mark.parametrize(
    ("task", "config", "side"),
    [
        (Task(("cat", "dog")), ModelConfig(name="cnn", filters=[4], dense=[6]), 24),
        (Task(("cat", "dog", "bird")), ModelConfig(name="efficientnet-lite0", features="levels", root=True), 64),
    ],
)
def test_the_graph_compares_an_image_with_each_class_as_its_calibration_says(
    task: Task, config: ModelConfig, side: int
) -> None:
    made = Classifier.from_config(task, ImageSpec(side, side), config)
    generator = np.random.default_rng(0)
    width = made.features.first.shape[-1]
    assert width == (6 if config.name == "cnn" else 1280)
    means = generator.normal(size=(len(task.classes), width)).astype(np.float32)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    made.head.set_linear(*(generator.normal(0, 0.02, part.shape) for part in made.head.last.get_weights()))
    images = generator.integers(0, 256, (3, side, side, 3), np.uint8)
    features, read = made.probe().predict(images, verbose=0)
    kernel, bias = made.head.linear()
    logits = read @ kernel + bias
    said = made.network.predict(images, verbose=0)
    two = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(two[:, -said.shape[1] :], said, atol=1e-5)
    cosines = Calibration(1.0, means).similarity(features[:, :width], logits)
    for weight, centre in ((0.0, 0.0), (0.3, 2.0)):
        calibration = Calibration(1.0, means, weight, centre)
        whole, names = made.calibrated(calibration).outputs()
        found = whole.predict(images, verbose=0)[names.index("similarity")]
        np.testing.assert_allclose(found, cosines + weight * (logits - centre), atol=1e-4)
        record = {"temperature": 1.0, "logits": {"weight": weight, "centre": centre}}
        assert Calibration.from_record(record, means) == calibration


def test_a_run_of_an_earlier_version_compares_by_the_cosine_alone() -> None:
    means = np.ones((2, 1), np.float32)
    assert Calibration.from_record({"temperature": 1.2, "thresholds": {}}, means) == Calibration(1.2, means, 0.0, 0.0)
    assert Calibration.from_record(None, None) == Calibration()


def test_an_image_that_looks_like_a_class_but_that_no_class_claims_is_farther(run: ta.Run) -> None:
    means = np.eye(2, dtype=np.float32)
    found = Calibration(1.0, means, run.record.calibration["logits"]["weight"], 0.0)
    assert found.weight > 0
    claimed, unclaimed = found.similarity(np.eye(2, dtype=np.float32), np.array([[9, -9], [1, -1]])).max(axis=1)
    assert claimed > unclaimed


def test_figures_of_calibration_stand_in_the_record_and_are_json(run: ta.Run) -> None:
    text = json.dumps(run.record.calibration, allow_nan=False)
    assert {"error_before", "error_after", "validation_error_before", "validation_error_after"} <= json.loads(
        text
    ).keys()
