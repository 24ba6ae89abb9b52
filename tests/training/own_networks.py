"""Small custom networks with random weights, as test_own_network_whole.py names them by --model."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

import tellapart as ta


@keras.saving.register_keras_serializable("tests")
class Centred(layers.Layer):
    """Each channel less its mean over the places, times a factor that is learned. Not written as ONNX by us."""

    def build(self, shape: Any) -> None:
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")

    def call(self, x: Any) -> Any:
        return (x - keras.ops.mean(x, axis=(1, 2), keepdims=True)) * self.factor


def plain(spec: ta.ImageSpec) -> Any:
    image = keras.Input(spec.shape)
    x = layers.Conv2D(8, 3, strides=2, activation="relu")(image)
    x = layers.Conv2D(16, 3, strides=2, activation="relu")(Centred()(x))
    return keras.Model(image, x)


def resnet(spec: ta.ImageSpec) -> Any:
    from keras_hub.models import ResNetBackbone

    return ResNetBackbone(
        input_conv_filters=[64],  # the least that it takes
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 64],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=spec.shape,
    )


def vit(spec: ta.ImageSpec) -> Any:
    from keras_hub.models import ViTBackbone

    return ViTBackbone(
        image_shape=spec.shape, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, dropout_rate=0.1
    )
