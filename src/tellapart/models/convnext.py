"""ConvNeXt-T: a scaled image -> a feature map per stage, the last with 768 channels, from plain Keras layers.

The network of keras.applications.ConvNeXtTiny, whose weights it loads in the same order, after reshaping. Keras uses a
grouped convolution per channel, which TensorFlow computes 20 to 100 times slower on a CPU, and has its layer scale in a
private module. (Liu et al., A ConvNet for the 2020s, CVPR 2022.) Importing this module imports no Keras.
"""

from __future__ import annotations

from typing import Any

from tellapart.models.features import TOP

DEPTHS = (3, 3, 9, 3)
"""Number of blocks per stage."""
WIDTHS = (96, 192, 384, 768)
"""Number of channels per stage."""
EPSILON = 1e-6
FIRST_SCALE = 1e-6


def convnext_tiny(x: Any) -> dict[str, Any]:
    """Keras tensor of a scaled image (batch, height, width, 3) -> maps: stage_1 to stage_3, and TOP, (batch, height /
    32, width / 32, 768), whose average is normalised by `normalization`.

    Height and width: at least 32. Layers are named stage_S_block_B_... from 1, after stem_...
    """
    from keras import layers

    maps = {}
    for stage, (depth, width) in enumerate(zip(DEPTHS, WIDTHS, strict=True), start=1):
        if stage == 1:
            x = layers.Conv2D(width, 4, 4, name="stem_convolution")(x)
            x = _normalise(x, "stem_normalization")
        else:
            x = _normalise(x, f"stage_{stage}_normalization")
            x = layers.Conv2D(width, 2, 2, name=f"stage_{stage}_convolution")(x)
        for block in range(1, depth + 1):
            x = _block(x, f"stage_{stage}_block_{block}")
        maps[f"stage_{stage}" if stage < len(DEPTHS) else TOP] = x
    return maps


def normalization() -> Any:
    """The feature map is averaged before it is normalised, as the weights were trained."""
    from keras import layers

    return layers.LayerNormalization(epsilon=EPSILON, name="pooling")


def _block(x: Any, name: str) -> Any:
    """Filter each channel, expand, project, scale each channel; add the input."""
    from keras import initializers, layers

    width = x.shape[-1]
    inner = layers.DepthwiseConv2D(7, padding="same", name=f"{name}_depthwise")(x)
    inner = _normalise(inner, f"{name}_normalization")
    inner = layers.Dense(4 * width, activation="gelu", name=f"{name}_expansion")(inner)
    inner = layers.Dense(width, name=f"{name}_projection")(inner)
    # A depthwise kernel of one pixel is a factor per channel, and predicts twice as fast as EinsumDense.
    inner = layers.DepthwiseConv2D(
        1, use_bias=False, depthwise_initializer=initializers.Constant(FIRST_SCALE), name=f"{name}_scale"
    )(inner)
    return layers.Add(name=f"{name}_sum")([x, inner])


def _normalise(x: Any, name: str) -> Any:
    from keras import layers

    return layers.LayerNormalization(epsilon=EPSILON, name=name)(x)
