"""The cut below the blocks that learn: what is above and below it is the whole network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tellapart.task import ImageSpec, Task

keras = pytest.importorskip("keras")
from keras import layers  # noqa: E402

from tellapart.models.classifier import Classifier  # noqa: E402
from tellapart.models.cut import Cut, cut_of  # noqa: E402

TASK = Task(("a", "b", "c"))


def images_of(classifier: Classifier) -> Any:
    return np.random.default_rng(0).integers(0, 256, (2, *classifier.spec.shape), np.uint8)


def require_whole(classifier: Classifier, blocks: int) -> Cut:
    """The parts give what the whole gives, and what learns is above."""
    images = images_of(classifier)
    classifier.backbone.unfreeze(blocks)
    cut = cut_of(classifier, blocks)
    parts = cut.below()(images, training=False)
    flat = np.concatenate([np.asarray(part) for part in (parts if isinstance(parts, list) else [parts])], axis=1)
    assert flat.shape == (2, cut.width)
    above = cut.above()
    whole = np.asarray(classifier.network(images, training=False))
    np.testing.assert_allclose(np.asarray(above(flat.astype(np.float16), training=False)), whole, atol=5e-3)
    learned = [id(variable) for variable in classifier.network.trainable_variables]
    assert [id(variable) for variable in above.trainable_variables] == learned
    return cut


def test_above_and_below_the_cut_is_the_whole_network_of_every_backbone(on_backbone: Any) -> None:
    made = on_backbone.with_features("levels")
    try:
        for blocks in (1, min(3, len(made.backbone.blocks) - 1)):
            require_whole(made, blocks)
    finally:
        for layer in made.backbone.layers:
            layer.trainable = True


def normalised(image: Any) -> Any:
    """What enters the last block is read as it is, and normalised."""
    first = layers.Conv2D(4, 3, strides=2, padding="same")(image)
    second = layers.Add()([first, layers.Conv2D(4, 3, padding="same")(first)])
    normal = layers.ReLU()(layers.BatchNormalization()(second))
    return layers.Add()([layers.Conv2D(4, 3, padding="same")(normal), second])


def test_what_follows_from_another_tensor_at_the_cut_is_not_kept_beside_it() -> None:
    def network(spec: ImageSpec) -> Any:
        image = keras.Input(spec.shape)
        return keras.Model(image, normalised(image))

    made = Classifier.from_network(TASK, ImageSpec(16, 16), network)
    cut = require_whole(made, 1)
    assert [tuple(tensor.shape[1:]) for tensor in cut.tensors] == [(8, 8, 4)]
