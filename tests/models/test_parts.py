from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tellapart.config import ModelConfig
from tellapart.errors import ModelError, RunError
from tellapart.models.pretrained import PRETRAINED
from tellapart.task import ImageSpec, Task

keras = pytest.importorskip("keras")

from tellapart.models.build import layers, summary  # noqa: E402
from tellapart.models.classifier import Classifier  # noqa: E402
from tellapart.models.pretrained_weights import load_pretrained  # noqa: E402

THREE = Task(("a", "b", "c"))
SPEC = ImageSpec(32, 32)
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
LABELS = np.arange(8) % 3
# Residual sums, mixed branches or cells, as the papers count them, and an end where it has something to learn.
BLOCKS = {
    "efficientnet-lite0": 9 + 1, "efficientnet-lite1": 14 + 1, "efficientnet-lite2": 14 + 1, "inception-v3": 11,
    "inception-resnet-v2": 43 + 1, "xception": 12 + 1, "mobilenet-v2": 10 + 1, "mobilenet-v3-large": 10 + 1,
    "resnet-50": 16, "resnet-50-v2": 16, "densenet-121": 58, "efficientnet-v2-b0": 15 + 1,
    "efficientnet-v2-s": 35 + 1, "nasnet-mobile": 16, "convnext-tiny": 3 + 3 + 9 + 3,
}  # fmt: skip


def network(name: str = "efficientnet-lite0", **options: object) -> Classifier:
    side = PRETRAINED[name].smallest
    made = Classifier.from_name(THREE, ImageSpec(side, side), name, **options)
    if name == "efficientnet-lite0":
        load_pretrained(made.backbone, PRETRAINED[name], "auto")
    return made


def values_of(layers: list[keras.Layer]) -> list[np.ndarray]:
    return [np.array(value) for layer in layers for value in layer.get_weights()]


def changed(before: list[np.ndarray], after: list[np.ndarray]) -> list[bool]:
    return [not np.array_equal(old, new) for old, new in zip(before, after, strict=True)]


def train(made: Classifier) -> None:
    made.network.compile("sgd", "sparse_categorical_crossentropy")
    made.network.train_on_batch(IMAGES, LABELS)


def normalisations(made: Classifier) -> list[keras.Layer]:
    return [layer for layer in made.backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]


def test_the_parts_of_a_backbone_are_the_whole(backbone_name: str, sensitive_on_backbone: Any) -> None:
    side = PRETRAINED[backbone_name].smallest
    images = np.random.default_rng(0).integers(0, 256, (2, side, side, 3), dtype=np.uint8)
    features = np.asarray(sensitive_on_backbone.features_network()(images))
    assert features.shape == (2, sensitive_on_backbone.features.width)
    whole = np.asarray(sensitive_on_backbone.network(images))
    np.testing.assert_allclose(np.asarray(sensitive_on_backbone.head_network()(features)), whole, atol=1e-5)


def test_every_backbone_has_the_blocks_that_its_authors_count(backbone_name: str, on_backbone: Any) -> None:
    assert len(on_backbone.backbone.blocks) == BLOCKS[backbone_name]


def test_the_blocks_of_a_backbone_hold_each_layer_once_in_order(on_backbone: Any) -> None:
    backbone = on_backbone.backbone
    flat = [layer.name for block in backbone.blocks for layer in block]
    assert sorted(flat) == sorted(layer.name for layer in backbone.layers)
    assert flat[0] == "image"
    if backbone.normalization is None:
        assert backbone.blocks[-1][-1].output is backbone.maps["top"]
    else:
        assert backbone.blocks[-1][-1] is backbone.normalization


def test_a_gate_ends_no_block_and_a_last_activation_or_normalisation_is_none() -> None:
    names = [[layer.name for layer in block] for block in network("efficientnet-lite0").backbone.blocks]
    assert [block[-1] for block in names[:-1]] == [
        f"stage_{stage}_block_{block}_sum" for stage, count in ((2, 2), (3, 2), (4, 3), (5, 3), (6, 4))
        for block in range(2, count + 1)
    ]  # fmt: skip
    assert {layer.name for layer in network("resnet-50").backbone.blocks[-1]} >= {"conv5_block3_out"}
    assert {layer.name for layer in network("convnext-tiny").backbone.blocks[-1]} >= {"stage_4_block_3_sum", "pooling"}


def test_the_head_learns_for_the_whole_and_the_whole_still_saves(tmp_path) -> None:
    made = network()
    model = made.network
    made.backbone.freeze()
    head = made.head_network()
    features = made.features_network().predict(IMAGES, verbose=0)
    before = np.asarray(model(IMAGES))
    head.compile("sgd", "sparse_categorical_crossentropy")
    head.train_on_batch(features, LABELS)
    after = np.asarray(model(IMAGES))
    assert np.abs(after - before).max() > 1e-6
    np.testing.assert_allclose(after, np.asarray(head(features)), atol=1e-6)
    assert "probabilities" in summary(layers(model))
    model.save(tmp_path / "model.keras")
    np.testing.assert_allclose(np.asarray(keras.models.load_model(tmp_path / "model.keras")(IMAGES)), after, atol=1e-6)


def test_the_head_of_a_network_in_bfloat16_takes_float32_features() -> None:
    model = Classifier.from_config(THREE, SPEC, ModelConfig(name="efficientnet-lite0", dense=[8]), "bfloat16")
    load_pretrained(model.backbone, PRETRAINED["efficientnet-lite0"], "auto")
    features = np.asarray(model.features_network()(IMAGES)).astype(np.float32)
    whole = np.asarray(model.network(IMAGES))
    np.testing.assert_allclose(np.asarray(model.head_network()(features)), whole, atol=0.02)


def test_a_frozen_backbone_does_not_change_while_the_head_learns() -> None:
    model = network()
    model.backbone.freeze()
    pretrained, head = model.backbone.layers, model.head.layers
    before, before_head = values_of(pretrained), values_of(head)
    train(model)
    assert not any(changed(before, values_of(pretrained)))
    assert all(changed(before_head, values_of(head)))


def test_freed_blocks_learn_and_those_below_do_not() -> None:
    model = network()
    *below, last = model.backbone.blocks
    low = [layer for block in below for layer in block]
    free = [layer for layer in last if layer.weights and layer not in normalisations(model)]
    before_low, before_free = values_of(low), values_of(free)
    assert model.backbone.unfreeze(1) == len(free) == 4
    train(model)
    assert not any(changed(before_low, values_of(low)))
    assert all(changed(before_free, values_of(free)))


def test_batch_normalisation_stays_as_it_was_when_all_is_free() -> None:
    model = network()
    assert model.backbone.unfreeze("all") == 49
    still = values_of(normalisations(model))
    moving = [layer for layer in model.backbone.layers if layer.weights and layer not in normalisations(model)]
    before = values_of(moving)
    train(model)
    assert not any(changed(still, values_of(normalisations(model))))
    assert all(changed(before, values_of(moving)))


def test_fewer_blocks_freeze_what_more_had_freed() -> None:
    model = network()
    every = model.backbone.unfreeze("all")
    assert model.backbone.unfreeze(len(model.backbone.blocks)) == every
    assert model.backbone.unfreeze(2) < every
    assert model.backbone.unfreeze(0) == 0
    assert not any(layer.trainable_weights for layer in model.backbone.layers)


@pytest.mark.parametrize("count", [11, -1])
def test_a_number_of_blocks_that_is_not_there_is_told_with_those_that_are(count: int) -> None:
    with pytest.raises(
        ModelError, match=rf"unfreeze {count} blocks of efficientnet-lite0: it has 10\. Give a number from 0"
    ):
        network().backbone.unfreeze(count)


def test_a_backbone_partly_free_has_the_same_twin_and_is_opened_by_its_configuration(tmp_path, sensitive) -> None:
    made = sensitive(network("mobilenet-v3-large"), IMAGES)
    made.backbone.unfreeze(1)
    twin = made.in_float32()
    expected = np.asarray(made.network(IMAGES))
    np.testing.assert_allclose(np.asarray(twin.network(IMAGES)), expected, atol=1e-5)
    made.network.save(tmp_path / "model.keras")
    opened = Classifier.from_file(THREE, SPEC, made.config, tmp_path / "model.keras")
    np.testing.assert_allclose(np.asarray(opened.network(IMAGES)), expected, atol=1e-6)


def test_a_file_of_another_network_than_the_configuration_names_is_refused(tmp_path) -> None:
    network(dense=[8]).network.save(tmp_path / "model.keras")
    with pytest.raises(RunError, match="does not hold the weights of the network that its run's config"):
        Classifier.from_file(THREE, SPEC, ModelConfig(name="efficientnet-lite0", dense=[9]), tmp_path / "model.keras")


def test_every_backbone_names_maps_from_the_image_to_the_top(on_backbone: Any) -> None:
    maps = on_backbone.backbone.maps
    rows = [tensor.shape[1] for tensor in maps.values()]
    assert list(maps)[-1] == "top"
    assert len(maps) >= 4
    assert rows == sorted(rows, reverse=True)
    assert all(len(tensor.shape) == 4 for tensor in maps.values())


def test_the_graph_gives_all_outputs_by_name_and_keeps_to_itself_what_is_only_named() -> None:
    made = Classifier.from_name(THREE, SPEC, "cnn", filters=[4])
    found = made.graph({"the map": made.backbone.maps["top"]}).graph
    assert [output.name for output in found.output] == made.outputs()[1]
    assert "the map" in {name for node in found.node for name in node.output}
