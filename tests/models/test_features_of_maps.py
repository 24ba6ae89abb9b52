"""Features of several maps, and the parts that a classifier declares."""

from __future__ import annotations

import numpy as np
import pytest

from tellapart.config import ModelConfig
from tellapart.errors import ModelError
from tellapart.models.features import FeatureSet, Hidden, Pool, root_of
from tellapart.task import ImageSpec, Task

keras = pytest.importorskip("keras")

from tellapart.models.classifier import Classifier  # noqa: E402

TWO = Task(("a", "b"))
SPEC = ImageSpec(64, 48)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, *SPEC.shape), dtype=np.uint8)
LITE = ModelConfig(name="efficientnet-lite0")


def test_maps_of_several_depths_are_pooled_to_their_grids_and_stand_beside_each_other() -> None:
    taken = FeatureSet(
        (Pool("stage_3", grid=2, name="third"), Pool("stage_5", "max", name="fifth"), Pool("top", name="pooling"))
    )
    made = Classifier.from_config(TWO, SPEC, LITE, features=taken)
    maps = {name: np.asarray(keras.Model(made.backbone.image, made.backbone.maps[name])(IMAGES))
            for name in ("stage_3", "stage_5", "top")}  # fmt: skip
    assert maps["stage_3"].shape == (2, 8, 6, 40)
    cells = maps["stage_3"].reshape(2, 2, 4, 2, 3, 40).mean(axis=(2, 4)).reshape(2, -1)
    expected = np.concatenate([cells, maps["stage_5"].max(axis=(1, 2)), maps["top"].mean(axis=(1, 2))], axis=1)
    found = np.asarray(made.features_network()(IMAGES))
    assert found.shape == (2, made.features.width) == (2, 4 * 40 + 112 + 1280)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    whole = np.asarray(made.network(IMAGES))
    np.testing.assert_allclose(np.asarray(made.head_network()(found)), whole, atol=1e-6)
    np.testing.assert_allclose(np.asarray(made.in_float32().network(IMAGES)), whole, atol=1e-6)


def test_a_set_with_roots_gives_the_root_of_each_value_as_it_is_read_of_cached_ones() -> None:
    pools = (Pool("stage_5", grid=2, name="fifth"), Pool("top", name="pooling"))
    plain, roots = (
        Classifier.from_config(TWO, SPEC, LITE, features=FeatureSet(pools, root=root)) for root in (False, True)
    )
    values, found = (
        np.asarray(keras.Model(roots.backbone.image, parts)(IMAGES))
        for parts in (keras.layers.Concatenate()(plain.features.declared.parts(roots.backbone)), roots.features.vector)
    )
    assert values.min() < -0.1, "the root keeps the sign"
    np.testing.assert_allclose(found, root_of(values), atol=1e-5)
    large = np.abs(values) > 0.1
    np.testing.assert_allclose(found[large] ** 2, np.abs(values[large]), rtol=0.02)
    assert roots.averaged_map is None


def test_what_was_normalised_as_the_weights_were_trained_is_so_in_the_average_alone() -> None:
    convnext = ModelConfig(name="convnext-tiny")
    usual = Classifier.from_config(TWO, SPEC, convnext)
    assert usual.features.normalised
    values = np.asarray(usual.features_network()(IMAGES))
    np.testing.assert_allclose(values.mean(axis=1), 0, atol=1e-4)
    other = Classifier.from_config(TWO, SPEC, convnext, features=FeatureSet((Pool("stage_2", name="second"),)))
    assert not other.features.normalised
    assert other.features.width == 192
    # All layers are those of the weights, whatever is taken of them.
    assert len(other.backbone.weights) == len(usual.backbone.weights)


def test_a_map_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ModelError, match=r"no feature map of efficientnet-lite0 'stage_8'.*'stage_7'"):
        Classifier.from_config(TWO, SPEC, LITE, features=FeatureSet((Pool("stage_8"),)))


def test_the_layers_of_a_network_from_nothing_are_of_its_features_and_those_of_a_backbone_of_its_head() -> None:
    cnn = Classifier.from_name(TWO, SPEC, "cnn", filters=[4], dense=[8, 6], dropout=0.5)
    assert cnn.features.declared == FeatureSet((Pool("top", "flatten", name="flatten"),), Hidden((8, 6), 0.5))
    assert (cnn.features.width, len(cnn.head.layers)) == (6, 1)
    lite = Classifier.from_name(TWO, SPEC, "efficientnet-lite0", dense=[8], dropout=0.5)
    assert (lite.features.width, len(lite.head.layers), len(lite.head.hidden)) == (1280, 3, 1)
    assert cnn.averaged_map is lite.averaged_map is None
    assert Classifier.from_config(TWO, SPEC, LITE).averaged_map is not None
