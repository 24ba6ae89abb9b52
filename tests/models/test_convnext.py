from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tellapart.models.convnext import convnext_tiny, normalization
from tellapart.models.pretrained import PRETRAINED, application
from tellapart.task import ImageSpec, Task

keras = pytest.importorskip("keras")

from tellapart.models.classifier import Classifier  # noqa: E402

BACKBONE = PRETRAINED["convnext-tiny"]
# Neither side a multiple of 32, so that what is cut off below and to the right counts.
SHAPE = (46, 77, 3)
LOAD = """
import sys
import keras, numpy
assert "tellapart" not in sys.modules
values = keras.models.load_model(sys.argv[1])(numpy.load(sys.argv[2]))
numpy.save(sys.argv[3], numpy.asarray(values))
"""


def random_value(weight: keras.Variable, rng: np.random.Generator) -> np.ndarray:
    """Of such size that all 18 blocks, biases and scales are within sight."""
    if weight.path.endswith(("bias", "beta")):
        return rng.normal(0, 0.1, weight.shape)
    if len(weight.shape) == 1:
        return rng.uniform(0.5, 1.5, weight.shape)
    return rng.normal(0, 1 / np.sqrt(np.prod(weight.shape[:-1])), weight.shape)


def test_the_features_are_those_of_the_application_normalised_after_pooling_as_in_the_paper() -> None:
    image = keras.Input(SHAPE)
    average = keras.layers.GlobalAveragePooling2D()(convnext_tiny(image)["top"])
    ours = keras.Model(image, normalization()(average))
    theirs = application(BACKBONE, input_shape=SHAPE, pooling="avg")
    rng = np.random.default_rng(0)
    theirs.set_weights([random_value(value, rng) for value in theirs.weights])
    for value, other in zip(ours.weights, theirs.get_weights(), strict=True):
        value.assign(other.reshape(value.shape))
    # Coarse patches: fine noise has the same mean features in every image.
    values = rng.normal(0, 1, (2, 4, 6, 3)).repeat(12, axis=1).repeat(13, axis=2)[:, : SHAPE[0], : SHAPE[1]]
    expected = np.asarray(theirs(values))
    assert np.abs(expected[0] - expected[1]).mean() > 0.01, "features do not depend on the image"
    np.testing.assert_allclose(np.asarray(ours(values)), expected, atol=1e-5)


def test_a_new_network_begins_with_its_blocks_all_but_switched_off() -> None:
    image = keras.Input((32, 32, 3))
    scales = [layer.get_weights() for layer in keras.Model(image, convnext_tiny(image)["top"]).layers
              if layer.name.endswith("_scale")]  # fmt: skip
    assert len(scales) == 18
    for (scale,) in scales:
        np.testing.assert_allclose(scale, 1e-6)


@pytest.mark.slow
def test_the_last_block_and_the_normalisation_after_it_learn_together(sensitive) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    model = sensitive(Classifier.from_name(Task(("a", "b", "c")), ImageSpec(32, 32), BACKBONE.name), images)
    assert model.backbone.unfreeze(1) == 6
    before = {weight.path: np.array(weight) for weight in model.backbone.weights}
    model.network.compile("sgd", "sparse_categorical_crossentropy")
    model.network.train_on_batch(images, np.arange(3))
    changed = {weight.path.split("/")[0] for weight in model.backbone.weights
               if not np.array_equal(before[weight.path], weight)}  # fmt: skip
    parts = ("depthwise", "normalization", "expansion", "projection", "scale")
    assert changed == {"pooling", *(f"stage_4_block_3_{part}" for part in parts)}


@pytest.mark.slow
def test_a_saved_network_loads_in_a_new_process_that_knows_keras_alone(tmp_path: Path, sensitive) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    made = sensitive(Classifier.from_name(Task(("a", "b", "c")), ImageSpec(32, 32), BACKBONE.name), images)
    model = made.network
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    files = [str(tmp_path / name) for name in ("model.keras", "images.npy", "values.npy")]
    subprocess.run([sys.executable, "-c", LOAD, *files], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "values.npy"), np.asarray(model(images)), atol=1e-6)
