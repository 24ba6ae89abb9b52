from __future__ import annotations

import numpy as np
import pytest

from tellapart.config import ModelConfig
from tellapart.errors import ConfigError, ModelError
from tellapart.models.registry import ARCHITECTURES, architecture, resolve
from tellapart.task import ImageSpec, Task

keras = pytest.importorskip("keras")

from tellapart.models.build import layers, summary  # noqa: E402
from tellapart.models.classifier import Classifier  # noqa: E402

TWO, THREE = Task(("a", "b")), Task(("a", "b", "c"))
SCRATCH = [row.name for row in ARCHITECTURES.values() if row.pretrained is None]


@pytest.mark.parametrize("name", SCRATCH)
@pytest.mark.parametrize("task", [TWO, THREE], ids=["binary", "multiclass"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_every_architecture_gives_probabilities_for_uint8_images(name, task, channels, precision) -> None:
    model = Classifier.from_config(task, ImageSpec(32, 40, channels), ModelConfig(name=name), precision).network
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 40, channels), dtype=np.uint8)
    values = np.asarray(model(images))
    assert values.dtype == np.float32
    assert values.min() >= 0
    assert values.max() <= 1
    if task.kind == "binary":
        assert values.shape == (3, 1)
    else:
        assert values.shape == (3, 3)
        np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("name", SCRATCH)
def test_scaling_stands_inside_the_model_and_no_layer_holds_code(name: str) -> None:
    model = Classifier.from_name(THREE, ImageSpec(32, 32), name).network
    assert any(isinstance(layer, keras.layers.Rescaling) for layer in model.layers)
    assert not any(isinstance(layer, keras.layers.Lambda) for layer in model.layers)


@pytest.mark.parametrize("name", SCRATCH)
def test_the_float32_twin_predicts_what_the_bfloat16_network_learned(name: str) -> None:
    config, spec = ModelConfig(name=name), ImageSpec(32, 32)
    fast = Classifier.from_config(THREE, spec, config, "bfloat16")
    fast, exact = fast.network, fast.in_float32().network
    assert all(layer.dtype_policy.compute_dtype == "float32" for layer in exact.layers)
    images = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_allclose(np.asarray(fast(images)), np.asarray(exact(images)), atol=0.03)


def test_building_leaves_the_global_precision_as_it_was() -> None:
    before = keras.config.dtype_policy().name
    Classifier.from_config(TWO, ImageSpec(32, 32), ModelConfig(name="dense"), "bfloat16")
    assert keras.config.dtype_policy().name == before


def test_the_published_network_of_cats_dogs_64_has_its_parameters() -> None:
    config = ModelConfig(name="cnn", filters=[64, 64], dense=[64])
    # 3x3x3x64+64, 3x3x64x64+64, 30x30x64x64+64, 64+1
    assert (
        Classifier.from_config(TWO, ImageSpec(128, 128), config).network.count_params() == 1792 + 36928 + 3686464 + 65
    )


def test_a_name_that_is_no_model_gets_the_nearest_one() -> None:
    with pytest.raises(ModelError, match=r"no model 'resnet-smal'.*'resnet-small'"):
        architecture("resnet-smal")


def test_an_option_of_another_model_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match=r"no option of cnn 'filter'.*'filters'"):
        resolve(ModelConfig(name="cnn", filter=[8]))
    with pytest.raises(ModelError, match=r"model\.padding.*given 'reflect'"):
        resolve(ModelConfig(name="cnn", padding="reflect"))


@pytest.mark.parametrize("weights", ["imagenet", "some.h5"])
def test_weights_for_a_network_that_is_trained_from_nothing_are_refused(weights: str) -> None:
    with pytest.raises(ModelError, match=rf"cnn is trained from scratch and takes no weights; given '{weights}'"):
        resolve(ModelConfig(name="cnn", weights=weights))
    assert resolve(ModelConfig(name="cnn", weights="none"))[0].name == "cnn"


def test_an_image_too_small_for_the_network_is_told() -> None:
    with pytest.raises(ModelError, match="5x5 pixels is too small for cnn"):
        Classifier.from_name(TWO, ImageSpec(5, 5), "cnn")


def test_one_class_is_no_task() -> None:
    with pytest.raises(ConfigError, match="at least two classes; found only 'a'"):
        Task(("a",))


def test_a_summary_shows_shapes_and_parameters() -> None:
    text = summary(layers(Classifier.from_name(TWO, ImageSpec(32, 32), "dense").network))
    assert "393,473" in text
    assert "32x32x3" in text
