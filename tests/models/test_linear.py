"""A linear head on a bundled backbone, as plain values: the same network as in Keras, and the same ONNX file."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tellapart.config import ModelConfig
from tellapart.errors import RunError
from tellapart.inference.onnx_export import export_linear, export_onnx
from tellapart.inference.predictor import Metadata, Predictor
from tellapart.models.classifier import Calibration
from tellapart.models.linear import LinearClassifier, LinearHead
from tellapart.models.pretrained import PRETRAINED, candidates
from tellapart.models.runtime import open_session
from tellapart.task import ImageSpec, Task

NAME = "efficientnet-lite0"
SPEC = ImageSpec(71, 104)
TWO, THREE = Task(("cat", "dog")), Task(("a", "b", "c"))
RANDOM = np.random.default_rng(5)
IMAGES = RANDOM.integers(0, 256, (3, *SPEC.shape), np.uint8)


def classifier(features: str, task: Task) -> LinearClassifier:
    """With a random head, calibrated."""
    config = ModelConfig(name=NAME, features=features, root=candidates(PRETRAINED[NAME])[features].root)
    made = LinearClassifier(task, SPEC, config, LinearHead(np.empty(0), np.empty(0)))
    units = 1 if task is TWO else 3
    kernel = RANDOM.normal(size=(made.width, units)) / np.sqrt(made.width)
    made.head.set_linear(kernel, RANDOM.normal(size=units))
    means = RANDOM.normal(size=(len(task.classes), made.compared_width)).astype(np.float32)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return made.calibrated(Calibration(1.5, means, 0.2, 0.4))


@pytest.mark.parametrize(
    ("features", "task"), [("top", TWO), ("levels", THREE), ("filters", TWO), ("all-filters", THREE)]
)
def test_its_file_says_what_the_same_network_says_in_keras_and_that_of_keras_says(
    features: str, task: Task, tmp_path: Path
) -> None:
    pytest.importorskip("keras")
    ours, metadata, files = classifier(features, task), Metadata(task, SPEC), [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    theirs = ours.in_keras()
    assert export_linear(ours, metadata, files[0], IMAGES) < 1e-5
    assert export_onnx(theirs, metadata, files[1], IMAGES) < 1e-4
    assert ours.parameters == theirs.parameters
    assert ours.compared_width == theirs.compared_width
    one, other = (open_session(file) for file in files)
    names = [given.name for given in other.get_outputs()]
    assert [given.name for given in ours.outputs()] == [given.name for given in one.get_outputs()] == names
    said = [session.run(names, {"image": IMAGES}) for session in (one, other)]
    shares = [Predictor(file, device="cpu").class_activation(IMAGES)[1] for file in files]
    for mine, keras in zip([*said[0], shares[0]], [*said[1], shares[1]], strict=True):
        np.testing.assert_allclose(mine, keras, atol=1e-4 * max(1.0, np.abs(keras).max()))


def test_one_that_averages_an_image_and_its_mirror_image_says_the_same_of_both_in_every_form(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    plain, metadata, files = classifier("levels", TWO), Metadata(TWO, SPEC), [tmp_path / "a.onnx", tmp_path / "b.onnx"]
    ours = plain.as_predicted(mirrored=True)
    theirs = plain.in_keras().as_predicted(mirrored=True)
    assert export_linear(ours, metadata, files[0], IMAGES) < 1e-5
    assert export_onnx(theirs, metadata, files[1], IMAGES) < 1e-4
    names = [given.name for given in ours.outputs()]
    one, other = (open_session(file).run(names, {"image": IMAGES}) for file in files)
    turned = open_session(files[0]).run(names, {"image": np.ascontiguousarray(IMAGES[:, :, ::-1])})
    for mine, keras, mirror in zip(one, other, turned, strict=True):
        np.testing.assert_allclose(mine, keras, atol=1e-4)
        np.testing.assert_allclose(mine, mirror, atol=1e-5)
    export_linear(plain, metadata, files[1], IMAGES)
    assert np.abs(open_session(files[1]).run(names, {"image": IMAGES})[0] - one[0]).max() > 1e-3
    assert theirs.as_predicted(mirrored=True) is theirs


def test_its_shapes_are_those_of_the_network_in_keras() -> None:
    pytest.importorskip("keras")
    ours = classifier("top", TWO)
    maps = ours.in_keras().backbone.maps
    assert {name: tuple(found.shape[1:]) for name, found in maps.items()} == ours.shapes


def test_it_is_read_from_its_file_again_and_a_file_without_its_head_is_an_error(tmp_path: Path) -> None:
    ours, path = classifier("levels", THREE), tmp_path / "model.onnx"
    export_linear(ours, Metadata(THREE, SPEC), path, IMAGES)
    again = LinearClassifier.from_graph(THREE, SPEC, ours.config, path, ours.calibration)
    for mine, read in zip(ours.head.weights(), again.head.weights(), strict=True):
        np.testing.assert_array_equal(mine, read)
    with pytest.raises(RunError, match=r"holds a head of shape \(2496, 3\), and config\.toml names \(1280, 3\)"):
        LinearClassifier.from_graph(THREE, SPEC, ModelConfig(name=NAME), path, ours.calibration)
    with pytest.raises(RunError, match="does not hold the head"):
        LinearClassifier.from_graph(TWO, SPEC, ours.config, path, ours.calibration)
    whole = path.read_bytes()
    for place in [*range(0, 60, 3), *RANDOM.integers(0, len(whole), 20)]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x85]) + whole[place + 1 :])
        with suppress(RunError):
            LinearClassifier.from_graph(THREE, SPEC, ours.config, path, ours.calibration)
    for damaged in (whole[:-5000], b"no file", b""):
        path.write_bytes(damaged)
        with pytest.raises(RunError, match="does not hold the head"):
            LinearClassifier.from_graph(THREE, SPEC, ours.config, path, ours.calibration)


def test_its_file_is_sound_in_the_words_of_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    export_linear(classifier("top", THREE), Metadata(THREE, SPEC), tmp_path / "model.onnx", IMAGES)
    made = onnx.load(str(tmp_path / "model.onnx"))
    onnx.checker.check_model(made, full_check=True)
    assert (made.producer_name, made.opset_import[0].version) == ("tellapart", 17)
