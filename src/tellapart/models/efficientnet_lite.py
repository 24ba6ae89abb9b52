"""EfficientNet-Lite 0, 1 and 2: a scaled image -> a feature map per stage, the last with 1,280 channels.

The network of Google's EfficientNet-Lite: inverted residual blocks, ReLU6, no squeeze-and-excite; the stem and the
first and last stage keep their depth, and the stem and the end their width, whatever the multipliers. (Tan and Le,
EfficientNet, ICML 2019; the Lite variants are described in tensorflow/tpu.) Importing this module imports no Keras.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from tellapart.models.features import TOP

SCALE, OFFSET = 1 / 128, -127 / 128
"""The weights were trained on (value - 127) / 128 for RGB values 0..255: Rescaling(SCALE, OFFSET)."""

FEATURES = 1280
STEM = 32
_FILTERS = "_filters"


@dataclass(frozen=True, slots=True)
class Variant:
    """width, depth: multipliers of the stages' channels and blocks. side: of the images it was trained on."""

    width: float
    depth: float
    side: int


VARIANTS = {
    "efficientnet-lite0": Variant(1.0, 1.0, 224),
    "efficientnet-lite1": Variant(1.0, 1.1, 240),
    "efficientnet-lite2": Variant(1.1, 1.2, 260),
}


@dataclass(frozen=True, slots=True)
class Stage:
    """Blocks with the same channels; the first block has the stride. expansion: of the channels inside a block."""

    blocks: int
    size: int
    stride: int
    expansion: int
    channels: int


# Of Lite0; the multipliers give the others.
_STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def stages(variant: Variant) -> tuple[Stage, ...]:
    """The stages of a variant, with its multipliers applied.

    >>> [(stage.blocks, stage.channels) for stage in stages(VARIANTS["efficientnet-lite2"])]
    [(1, 16), (3, 24), (3, 48), (4, 88), (4, 120), (5, 208), (1, 352)]
    """
    inner = range(1, len(_STAGES) - 1)
    return tuple(
        Stage(
            ceil(stage.blocks * variant.depth) if number in inner else stage.blocks,
            stage.size,
            stage.stride,
            stage.expansion,
            _round(stage.channels * variant.width),
        )
        for number, stage in enumerate(_STAGES)
    )


def _round(channels: float) -> int:
    """The nearest multiple of eight, but at least 90 % of the input."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def efficientnet_lite(x: Any, name: str) -> dict[str, Any]:
    """Keras tensor of an image (batch, height, width, 3), scaled by SCALE and OFFSET -> maps: stage_1 to stage_7, and
    TOP, (batch, height / 32, width / 32, 1280), rounded up, 0..6; before each stage the outputs of the depthwise
    filters of its blocks, named by `filter_maps`, 0..6.

    name: of VARIANTS. Height and width: at least 32; padding is TensorFlow's `same`, which puts the extra pixel right
    and below, as the weights were trained. Layers are named stage_S_block_B_... from 1, between stem_... and end_...
    """
    maps = {}
    x = _normalise(_convolution(STEM, 3, 2, "stem_convolution")(x), "stem")
    for number, stage in enumerate(stages(VARIANTS[name]), start=1):
        for block in range(1, stage.blocks + 1):
            name = f"stage_{number}_block_{block}"
            x, maps[f"{name}{_FILTERS}"] = _block(x, stage, stage.stride if block == 1 else 1, name)
        maps[f"stage_{number}"] = x
    maps[TOP] = _normalise(_convolution(FEATURES, 1, 1, "end_convolution")(x), "end")
    return maps


def map_shapes(name: str, height: int, width: int) -> dict[str, tuple[int, int, int]]:
    """(rows, columns, channels) of each map that `efficientnet_lite` gives for such an image.

    >>> map_shapes("efficientnet-lite0", 224, 200)[TOP]
    (7, 7, 1280)
    """
    shapes = {}
    rows, columns, channels = ceil(height / 2), ceil(width / 2), STEM
    for number, stage in enumerate(stages(VARIANTS[name]), start=1):
        rows, columns = ceil(rows / stage.stride), ceil(columns / stage.stride)
        for block in range(1, stage.blocks + 1):
            shapes[f"stage_{number}_block_{block}{_FILTERS}"] = rows, columns, channels * stage.expansion
            channels = stage.channels
        shapes[f"stage_{number}"] = rows, columns, channels
    shapes[TOP] = rows, columns, FEATURES
    return shapes


def filter_maps(name: str) -> dict[int, list[str]]:
    """The names of the depthwise filter outputs, by the stage of their block.

    >>> filter_maps("efficientnet-lite0")[2]
    ['stage_2_block_1_filters', 'stage_2_block_2_filters']
    """
    return {
        number: [f"stage_{number}_block_{block}{_FILTERS}" for block in range(1, stage.blocks + 1)]
        for number, stage in enumerate(stages(VARIANTS[name]), start=1)
    }


def _block(x: Any, stage: Stage, stride: int, name: str) -> tuple[Any, Any]:
    """Expand, filter each channel, project; add the input if the shape stays. Returns the output, and that of the
    filters."""
    from keras import layers

    channels = x.shape[-1]
    inner = x
    if stage.expansion > 1:
        inner = _convolution(channels * stage.expansion, 1, 1, f"{name}_expansion")(inner)
        inner = _normalise(inner, f"{name}_expansion")
    inner = layers.DepthwiseConv2D(
        stage.size, stride, "same", use_bias=False, depthwise_initializer=_initializer(), name=f"{name}_depthwise"
    )(inner)
    inner = filtered = _normalise(inner, f"{name}_depthwise")
    inner = _convolution(stage.channels, 1, 1, f"{name}_projection")(inner)
    inner = _normalise(inner, f"{name}_projection", activation=False)
    if stride > 1 or channels != stage.channels:
        return inner, filtered
    return layers.Add(name=f"{name}_sum")([x, inner]), filtered


def _convolution(filters: int, size: int, stride: int, name: str) -> Any:
    from keras import layers

    return layers.Conv2D(filters, size, stride, "same", use_bias=False, kernel_initializer=_initializer(), name=name)


def _normalise(x: Any, name: str, activation: bool = True) -> Any:
    from keras import layers

    x = layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=f"{name}_normalization")(x)
    return layers.ReLU(max_value=6, name=f"{name}_relu")(x) if activation else x


def _initializer() -> Any:
    """Scaled by the number of outputs, as in the original training; also right for depthwise kernels."""
    from keras import initializers

    return initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal")
