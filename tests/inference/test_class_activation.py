"""Each network's own answer to where it looks, against Keras' gradients and against its own scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellapart.config import ModelConfig
from tellapart.explain.heat import HeatMaker
from tellapart.explain.occlusion import log_odds
from tellapart.inference.predictor import Metadata, Predictor
from tellapart.models.pretrained import PRETRAINED, candidates
from tellapart.models.registry import ARCHITECTURES
from tellapart.models.runtime import open_session
from tellapart.task import ImageSpec, Task
from tests.architectures import rows

keras = pytest.importorskip("keras")

from tellapart.inference.class_activation import maps_of, places_of  # noqa: E402
from tellapart.inference.onnx_export import export_onnx  # noqa: E402
from tellapart.models.classifier import Calibration, Classifier  # noqa: E402
from tellapart.models.features import FeatureSet, Pool  # noqa: E402

TWO, THREE = Task(("a", "b")), Task(("a", "b", "c"))
DENSE: tuple[list[int], ...] = ([], [5], [5, 7])
HEADS: list[tuple[str, dict[str, Any]]] = [
    *(("cnn", {"filters": [4, 6], "pooling": end, "dense": d}) for end in ("flatten", "average", "max") for d in DENSE),
    *((name, {"dense": d}) for name in ("dense", "efficientnet-lite0") for d in DENSE),
    ("resnet-small", {}),
]

Enlarge = Callable[[Any, np.ndarray], Any]


def random_images(spec: ImageSpec, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *spec.shape), dtype=np.uint8)


def check(
    model: Any,
    task: Task,
    images: np.ndarray,
    path: Path,
) -> np.ndarray:
    """The shares of class 1, after the file was seen to answer what Keras answers, and the shares to make up the log
    odds of every class."""
    spec = ImageSpec(*images.shape[1:])
    while task is THREE and np.asarray(model.network(images)).min() < 1e-4:
        # Random weights may be so sure that a probability is 0, whose logarithm tells nothing of the score.
        model.head.last.set_weights([value / 4 for value in model.head.last.get_weights()])
    assert export_onnx(model, Metadata(task, spec), path, images) < 1e-4
    maker = HeatMaker(Predictor(path))
    assert maker.method == "class activation"
    probabilities = Predictor(path).probabilities(images)
    for label in range(len(task.classes)):
        shares = maker.shares(images, np.full(len(images), label))
        assert shares is not None
        expected = log_odds(probabilities, label)
        if task is THREE:
            # The log odds of more than two classes are no sum of scores; at equal rivals they differ by log 2.
            others = np.delete(np.log(probabilities), label, axis=1)
            weights = np.delete(probabilities, label, axis=1)
            rivals = (others * weights / weights.sum(axis=1, keepdims=True)).sum(axis=1)
            expected = np.log(probabilities[:, label]) - rivals
        assert np.abs(expected).max() > 1e-3, "the scores are all alike: the case is void"
        np.testing.assert_allclose(shares.mean(axis=(1, 2)), expected, atol=2e-4 * max(1, np.abs(expected).max()))
    found = maker.shares(images, np.ones(len(images), np.int64))
    assert found is not None
    return found


def gradient_times_map(model: Any, images: np.ndarray) -> np.ndarray:
    """By TensorFlow: gradient of the only score by the feature map, times the map, summed over channels."""
    tensorflow = pytest.importorskip("tensorflow")
    (read,) = maps_of(model)
    features = keras.Model(model.backbone.image, read)(images)
    last = model.head.last
    after = last.activation
    last.activation = keras.activations.linear
    try:
        with tensorflow.GradientTape() as tape:
            tape.watch(features)
            score = keras.Model(read, model.head.output)(features)
        gradient = tape.gradient(score, features)
    finally:
        last.activation = after
    return np.asarray(tensorflow.reduce_sum(gradient * features, axis=-1))


def centred(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=(1, 2), keepdims=True)


@pytest.mark.parametrize("name", rows((name,) for name in ARCHITECTURES))
def test_every_architecture_exports_predicts_what_keras_predicts_and_its_shares_make_up_its_scores(
    name: str, tmp_path: Path, sensitive: Enlarge
) -> None:
    side = PRETRAINED[name].smallest + 32 if name in PRETRAINED else 24
    images = random_images(ImageSpec(side, side))
    model = Classifier.from_name(THREE, ImageSpec(side, side), name)
    if name in PRETRAINED:
        model = sensitive(model, images)
    model.head.last.bias.assign([0.3, -0.2, 0.7])
    means = np.random.default_rng(0).normal(size=(3, model.features.width)).astype(np.float32)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    model = model.calibrated(Calibration(means=means))
    shares = check(model, THREE, images, tmp_path / "model.onnx")
    names = [given.name for given in open_session(tmp_path / "model.onnx").get_outputs()]
    assert names[:2] == ["probabilities", "similarity"]
    assert Predictor(tmp_path / "model.onnx").tells_places
    places = places_of(model)
    assert places is not None
    assert shares.shape == (3, *places.parts[0].shape[:2])


FEATURES = [(row.name, name) for row in PRETRAINED.values() for name in list(candidates(row))[1:]]


@pytest.mark.parametrize(("name", "features"), rows(FEATURES))
def test_features_of_several_depths_are_exported_and_their_shares_make_up_the_scores(
    name: str, features: str, tmp_path: Path, sensitive: Enlarge
) -> None:
    side = PRETRAINED[name].smallest + 39  # maps of odd sides
    spec = ImageSpec(side, side + 32)
    images = random_images(spec)
    model = sensitive(Classifier.from_config(THREE, spec, ModelConfig(name=name, features=features, root=True)), images)
    model.head.last.bias.assign([0.3, -0.2, 0.7])
    shares = check(model, THREE, images, tmp_path / "model.onnx")
    places = places_of(model)
    assert places is not None
    assert len(places.parts) > 2
    assert shares.shape[1:] == max(part.shape[:2] for part in places.parts)


@pytest.mark.parametrize(("name", "options"), HEADS, ids=str)
def test_the_shares_are_the_gradient_times_the_map(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    spec = ImageSpec(40, 48)
    model, images = Classifier.from_name(TWO, spec, name, **options), random_images(spec)
    for weight in model.network.weights:  # biases are 0 at first, and would hide what is made of them
        if weight.name == "bias":
            weight.assign(np.random.default_rng(1).normal(size=weight.shape) / 10)
    found = centred(check(model, TWO, images, tmp_path / "model.onnx"))
    expected = centred(gradient_times_map(model, images) * found[0].size)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())


def test_predicting_computes_nothing_of_it_and_the_file_has_one_output(tmp_path: Path) -> None:
    import onnx

    spec = ImageSpec(40, 40)
    model = Classifier.from_name(TWO, spec, "cnn", filters=[4], dense=[200])
    export_onnx(model, Metadata(TWO, spec), tmp_path / "model.onnx", random_images(spec))
    graph = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    assert len(graph.graph.output) == 1
    assert not any("class_activation" in name for node in graph.graph.node for name in node.output)
    largest = model.network.get_layer("dense_1").kernel.shape
    weights = 4 * int(np.prod(largest))
    assert (tmp_path / "model.onnx").stat().st_size < 1.2 * weights, "the large weights stand in the file once"


def test_the_largest_values_of_a_grid_tell_no_places(tmp_path: Path) -> None:
    spec = ImageSpec(32, 32)
    taken = FeatureSet((Pool("stage_3", "max", grid=2, name="third"), Pool("top")))
    model = Classifier.from_config(TWO, spec, ModelConfig(name="efficientnet-lite0"), features=taken)
    export_onnx(model, Metadata(TWO, spec), tmp_path / "model.onnx", random_images(spec))
    maker = HeatMaker(Predictor(tmp_path / "model.onnx"))
    assert maker.method == "occlusion"
    images = random_images(spec)
    assert maker.shares(images, np.array([0, 1, 1])) is None
    heat = maker.heat(images, np.array([0, 1, 1]))
    assert heat.shape == (3, 32, 32)
    assert (heat.max(axis=(1, 2)) == 1).all()
