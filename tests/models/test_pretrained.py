from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellapart.errors import ModelError
from tellapart.models.pretrained import PRETRAINED, PretrainedBackbone, scaled
from tellapart.models.registry import ARCHITECTURES
from tellapart.task import ImageSpec, Task

keras = pytest.importorskip("keras")

from tellapart.models.classifier import Classifier  # noqa: E402
from tellapart.models.keras_file import open_keras  # noqa: E402

TWO = Task(("a", "b"))
# The modules of keras.applications that have a scaling of their own for each application.
MODULES = {
    "InceptionV3": "inception_v3",
    "InceptionResNetV2": "inception_resnet_v2",
    "Xception": "xception",
    "MobileNetV2": "mobilenet_v2",
    "ResNet50": "resnet",
    "ResNet50V2": "resnet_v2",
    "DenseNet121": "densenet",
    "NASNetMobile": "nasnet",
}


def images(side: int, count: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def expected_scaling(pretrained: PretrainedBackbone, values: np.ndarray) -> np.ndarray:
    """What the authors of the weights did to RGB values."""
    if not pretrained.application:
        return (values - 127.0) / 128.0
    if pretrained.application in MODULES:
        module = getattr(keras.applications, MODULES[pretrained.application])
        return np.asarray(module.preprocess_input(values.astype(np.float32)))
    # These do it inside: their layers between the image and the first one with weights to learn.
    network = getattr(keras.applications, pretrained.application)(
        include_top=False, weights=None, input_shape=(*values.shape[1:3], 3)
    )
    x = values.astype(np.float32)
    for layer in network.layers[1:]:
        if not isinstance(layer, keras.layers.Rescaling | keras.layers.Normalization):
            break
        x = layer(x)
    return np.asarray(x)


def test_every_backbone_scales_as_its_weights_were_trained(backbone_name: str) -> None:
    pretrained, values = PRETRAINED[backbone_name], images(PRETRAINED[backbone_name].smallest)
    image = keras.Input(values.shape[1:], dtype="uint8")
    ours = np.asarray(keras.Model(image, scaled(image, pretrained.scaling))(values))
    theirs = expected_scaling(pretrained, values)
    assert np.abs(theirs - values).max() > 1, "nothing was scaled: the comparison is void"
    np.testing.assert_allclose(ours, theirs, atol=2e-6 * np.abs(theirs).max())


def test_every_backbone_gives_probabilities_and_pooled_features(backbone_name: str, on_backbone: Any) -> None:
    values = np.asarray(on_backbone.network(images(PRETRAINED[backbone_name].smallest)))
    assert values.shape == (3, 3)
    assert values.dtype == np.float32
    assert (values >= 0).all()
    np.testing.assert_allclose(values.sum(axis=1), 1, atol=1e-5)
    assert on_backbone.features.vector.shape == (None, on_backbone.backbone.maps["top"].shape[-1])


def test_two_classes_on_a_backbone_are_one_probability() -> None:
    values = np.asarray(Classifier.from_name(TWO, ImageSpec(32, 32), "mobilenet-v2").network(images(32)))
    assert values.shape == (3, 1)
    assert ((values >= 0) & (values <= 1)).all()


def test_every_backbone_is_flat_with_one_scaling_and_no_layer_that_is_exported_wrongly(on_backbone: Any) -> None:
    kinds = [type(layer).__name__ for layer in on_backbone.network.layers]
    assert kinds.count("Rescaling") == 1
    assert not {"Normalization", "Lambda"} & set(kinds)
    assert not any(isinstance(layer, keras.Model) for layer in on_backbone.network.layers)
    assert not any(layer.groups > 1 for layer in on_backbone.network.layers if isinstance(layer, keras.layers.Conv2D))


def test_every_backbone_saved_and_loaded_predicts_the_same(
    backbone_name: str, tmp_path: Path, sensitive_on_backbone: Any
) -> None:
    values = images(PRETRAINED[backbone_name].smallest)
    model = sensitive_on_backbone.network
    model.save(tmp_path / "model.keras")
    loaded = open_keras(tmp_path / "model.keras")
    np.testing.assert_allclose(np.asarray(loaded(values)), np.asarray(model(values)), atol=1e-5)


def test_the_float32_twin_has_the_weights_of_a_backbone_in_bfloat16(backbone_name: str, twins: tuple[Any, Any]) -> None:
    fast, exact = (made.network for made in twins)
    for value, other in zip(fast.get_weights(), exact.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)
    assert np.asarray(fast(images(PRETRAINED[backbone_name].smallest))).dtype == np.float32


def test_dense_layers_and_dropout_stand_between_features_and_head() -> None:
    spec = ImageSpec(32, 32)
    model = Classifier.from_name(TWO, spec, "mobilenet-v2", dense=[16, 8], dropout=0.5).network
    assert [layer.name for layer in model.layers[-6:]] == [
        "pooling", "dense_1", "dropout_1", "dense_2", "dropout_2", "probability",
    ]  # fmt: skip
    model = Classifier.from_name(TWO, spec, "mobilenet-v2", dropout=0.5).network
    assert [layer.name for layer in model.layers[-3:]] == ["pooling", "dropout", "probability"]
    assert model.get_layer("dropout").rate == 0.5
    model = Classifier.from_name(TWO, spec, "mobilenet-v2").network
    assert [layer.name for layer in model.layers[-2:]] == ["pooling", "probability"]


def test_a_grey_image_is_refused() -> None:
    with pytest.raises(ModelError, match=r"needs 3 channels; given 1\. Set image\.channels=3"):
        Classifier.from_name(TWO, ImageSpec(64, 64, 1), "mobilenet-v2")


@pytest.mark.parametrize(("height", "width"), [(74, 100), (100, 74)])
def test_an_image_below_the_smallest_side_is_refused(height: int, width: int) -> None:
    with pytest.raises(
        ModelError, match=rf"{height}x{width} pixels is too small for inception-v3, which needs at least 75"
    ):
        Classifier.from_name(TWO, ImageSpec(height, width), "inception-v3")


def test_every_backbone_is_an_architecture_and_the_lite_ones_take_crops() -> None:
    for name, pretrained in PRETRAINED.items():
        row = ARCHITECTURES[name]
        assert row.pretrained is pretrained
        assert (row.side, row.summary) == (pretrained.side, pretrained.summary)
        assert pretrained.licence
    assert {name for name, pretrained in PRETRAINED.items() if pretrained.fit == "crop"} == {
        "efficientnet-lite0", "efficientnet-lite1", "efficientnet-lite2",
    }  # fmt: skip
